//! What a scene consists of: nodes with their pods on one LAN, a router, and a client outside the cluster.
//!
//! A topology is plain data; every address and route of the scene follows from it, so the scene's builder
//! makes no choices of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The machines of a scene and how they are addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// LAN addresses of the router, the default gateway of every node. It forwards nothing, so what a node
    /// sends to nowhere is lost without an answer, as on a network that filters.
    pub router: Vec<IpNet>,
    /// The machine of the API server, where a scene has one.
    pub control: Option<Machine>,
    /// The nodes of the cluster, all on the LAN.
    pub nodes: Vec<Node>,
    /// The client that is no part of the cluster.
    pub outside: Outside,
}

/// A machine on the LAN that runs no pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The name of its namespace within the scene.
    pub name: String,
    /// Its addresses on the LAN, with the LAN's prefix length.
    pub addresses: Vec<IpNet>,
}

/// A node: one namespace with an uplink to the LAN and a bridge for its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node's name, as its Node object has it.
    pub name: String,
    /// The value of the label `topology.kubernetes.io/zone`.
    pub zone: String,
    /// LAN addresses with the LAN's prefix length, the primary family first.
    pub addresses: Vec<IpNet>,
    /// Pod CIDRs. The bridge takes the first host address of each. Without any there is no bridge: making it, and
    /// the routes to other nodes' pods, is left to the node's own agent.
    pub pod_cidrs: Vec<IpNet>,
    /// The pods that run here.
    pub pods: Vec<Pod>,
}

/// A pod: one namespace on its node's bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// A name unique in the scene.
    pub name: String,
    /// Addresses out of the node's pod CIDRs.
    pub addresses: Vec<IpAddr>,
    /// Whether the pod answers on the [backend](crate::backend) ports or only asks.
    pub backend: bool,
}

/// The client on the LAN that is no part of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// The name of its namespace within the scene.
    pub name: String,
    /// Its addresses on the LAN, with the LAN's prefix length.
    pub addresses: Vec<IpNet>,
    /// Further addresses of its own, which the nodes reach through the LAN addresses.
    pub remote_addresses: Vec<IpAddr>,
    /// The ranges of virtual addresses that it sends to the first node.
    pub service_cidrs: Vec<IpNet>,
}

/// A route by way of a neighbour on the LAN or the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The destination; a prefix length of zero makes it the default route.
    pub destination: IpNet,
    /// The next hop.
    pub gateway: IpAddr,
}

impl Topology {
    /// Three nodes in three zones, dual-stack: a backend pod on each, a client pod on the first, and a client
    /// outside that also owns 203.0.113.5 and 2001:db8:1::5.
    #[must_use]
    pub fn three_nodes() -> Topology {
        let mut nodes: Vec<Node> = (1..=3).map(three_nodes_node).collect();
        nodes[0].pods.push(three_nodes_pod("client", 1, 3));
        Topology {
            router: lan_addresses(1),
            control: None,
            nodes,
            outside: Outside {
                name: "outside".into(),
                addresses: lan_addresses(100),
                remote_addresses: vec![
                    Ipv4Addr::new(203, 0, 113, 5).into(),
                    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 5).into(),
                ],
                service_cidrs: vec![
                    v4([10, 96, 0, 0], 12),
                    v4([192, 0, 2, 0], 24),
                    v4([198, 51, 100, 0], 24),
                    v6([0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0], 112),
                    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 64),
                    v6([0x2001, 0xdb8, 2, 0, 0, 0, 0, 0], 64),
                ],
            },
        }
    }

    /// All pods, with the node each runs on.
    pub fn pods(&self) -> impl Iterator<Item = (&Node, &Pod)> {
        self.nodes.iter().flat_map(|node| node.pods.iter().map(move |pod| (node, pod)))
    }

    /// The routes of a node: the other nodes' pods through those nodes, the outside client's remote
    /// addresses through the client, everything else through the router.
    #[must_use]
    pub fn node_routes(&self, node: &Node) -> Vec<Route> {
        let other_nodes = self.nodes.iter().filter(|other| other.name != node.name);
        let mut routes: Vec<Route> = other_nodes.flat_map(pod_routes).collect();
        let remote = self.outside.remote_addresses.iter().map(|address| IpNet::from(*address));
        routes.extend(remote.filter_map(|destination| through(&self.outside.addresses, destination)));
        routes.extend(self.default_routes());
        routes
    }

    /// The route of a machine that is no node: everything that is not on the LAN goes to the router.
    #[must_use]
    pub fn default_routes(&self) -> Vec<Route> {
        default_routes(&host_addresses(&self.router))
    }

    /// The routes of the client outside: each node's pods through that node, virtual addresses through the
    /// first node.
    #[must_use]
    pub fn outside_routes(&self) -> Vec<Route> {
        let services = self.nodes.first().into_iter().flat_map(|first| {
            let destinations = self.outside.service_cidrs.iter();
            destinations.filter_map(|destination| through(&first.addresses, *destination))
        });
        services.chain(self.nodes.iter().flat_map(pod_routes)).collect()
    }
}

impl Node {
    /// The addresses of the pod bridge, with the prefix length of the pod CIDRs.
    #[must_use]
    pub fn bridge_addresses(&self) -> Vec<IpNet> {
        let first_host = |cidr: &IpNet| {
            // An IPv6 range's own first address is the subnet-router anycast address, so it counts as the
            // network here just as in IPv4.
            let address = match cidr.network() {
                IpAddr::V4(network) => IpAddr::V4(Ipv4Addr::from(u32::from(network) + 1)),
                IpAddr::V6(network) => IpAddr::V6(Ipv6Addr::from(u128::from(network) + 1)),
            };
            IpNet::new(address, cidr.prefix_len()).ok()
        };
        self.pod_cidrs.iter().filter_map(first_host).collect()
    }

    /// The pod's addresses, with the prefix length of the pod CIDR that each belongs to.
    #[must_use]
    pub fn pod_addresses(&self, pod: &Pod) -> Vec<IpNet> {
        let in_cidr = |address: &IpAddr| {
            let cidr = self.pod_cidrs.iter().find(|cidr| cidr.contains(address))?;
            IpNet::new(*address, cidr.prefix_len()).ok()
        };
        pod.addresses.iter().filter_map(in_cidr).collect()
    }

    /// The routes of every pod here: everything goes through the bridge.
    #[must_use]
    pub fn pod_default_routes(&self) -> Vec<Route> {
        default_routes(&host_addresses(&self.bridge_addresses()))
    }
}

fn three_nodes_node(number: u8) -> Node {
    let mut backend = three_nodes_pod(&format!("backend-{number}"), number, 2);
    backend.backend = true;
    Node {
        name: format!("node-{number}"),
        zone: format!("z{number}"),
        addresses: lan_addresses(10 + number),
        pod_cidrs: vec![
            v4([10, 244, number, 0], 24),
            v6([0xfd00, 0x10, 0x244, number.into(), 0, 0, 0, 0], 64),
        ],
        pods: vec![backend],
    }
}

fn three_nodes_pod(name: &str, node: u8, host: u8) -> Pod {
    let addresses = vec![
        Ipv4Addr::new(10, 244, node, host).into(),
        Ipv6Addr::new(0xfd00, 0x10, 0x244, node.into(), 0, 0, 0, host.into()).into(),
    ];
    Pod { name: name.into(), addresses, backend: false }
}

/// The addresses of the LAN's host `number`, whose digits are the same in both families:
/// 192.168.56.11 and fd00:56::11.
fn lan_addresses(number: u8) -> Vec<IpNet> {
    let digits =
        u16::from(number / 100) * 0x100 + u16::from(number / 10 % 10) * 0x10 + u16::from(number % 10);
    vec![v4([192, 168, 56, number], 24), v6([0xfd00, 0x56, 0, 0, 0, 0, 0, digits], 64)]
}

fn v4(octets: [u8; 4], prefix_len: u8) -> IpNet {
    Ipv4Net::new_assert(octets.into(), prefix_len).into()
}

fn v6(segments: [u16; 8], prefix_len: u8) -> IpNet {
    Ipv6Net::new_assert(segments.into(), prefix_len).into()
}

fn host_addresses(networks: &[IpNet]) -> Vec<IpAddr> {
    networks.iter().map(IpNet::addr).collect()
}

fn pod_routes(node: &Node) -> impl Iterator<Item = Route> + '_ {
    node.pod_cidrs.iter().filter_map(|cidr| through(&node.addresses, *cidr))
}

/// The route to `destination` by way of the neighbour with these addresses, if it has one of that family.
fn through(neighbour: &[IpNet], destination: IpNet) -> Option<Route> {
    let gateway = host_addresses(neighbour)
        .into_iter()
        .find(|address| address.is_ipv4() == destination.addr().is_ipv4())?;
    Some(Route { destination, gateway })
}

fn default_routes(gateways: &[IpAddr]) -> Vec<Route> {
    let default = |gateway: &IpAddr| match gateway {
        IpAddr::V4(_) => Route { destination: v4([0; 4], 0), gateway: *gateway },
        IpAddr::V6(_) => Route { destination: v6([0; 8], 0), gateway: *gateway },
    };
    gateways.iter().map(default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, gateway: &str) -> Route {
        Route { destination: destination.parse().unwrap(), gateway: gateway.parse().unwrap() }
    }

    #[test]
    fn nodes_carry_the_addresses_of_their_number() {
        let topology = Topology::three_nodes();
        let node = &topology.nodes[1];
        let text = |networks: &[IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&node.addresses), ["192.168.56.12/24", "fd00:56::12/64"]);
        assert_eq!(text(&node.bridge_addresses()), ["10.244.2.1/24", "fd00:10:244:2::1/64"]);
        assert_eq!(text(&node.pod_addresses(&node.pods[0])), ["10.244.2.2/24", "fd00:10:244:2::2/64"]);
        assert_eq!(text(&topology.outside.addresses), ["192.168.56.100/24", "fd00:56::100/64"]);
    }

    #[test]
    fn a_node_reaches_the_other_nodes_pods_through_those_nodes() {
        let topology = Topology::three_nodes();
        let routes = topology.node_routes(&topology.nodes[0]);
        assert!(routes.contains(&route("10.244.3.0/24", "192.168.56.13")));
        assert!(routes.contains(&route("203.0.113.5/32", "192.168.56.100")));
        assert!(routes.contains(&route("::/0", "fd00:56::1")));
        assert!(!routes.iter().any(|route| route.destination.to_string() == "10.244.1.0/24"));
    }

    #[test]
    fn the_client_outside_reaches_virtual_addresses_through_the_first_node() {
        let routes = Topology::three_nodes().outside_routes();
        assert!(routes.contains(&route("10.96.0.0/12", "192.168.56.11")));
        assert!(routes.contains(&route("2001:db8:2::/64", "fd00:56::11")));
        assert!(routes.contains(&route("10.244.2.0/24", "192.168.56.12")));
    }
}
