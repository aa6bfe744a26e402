//! The ways to the pods of other nodes: a function of the nodes, and of nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use switchyard_kernel::link::{Neighbour, Route};

use crate::flags::PodNetwork;
use crate::node::pod_cidrs;

/// By this number the agent knows its routes: one that nobody has claimed (`/etc/iproute2/rt_protos`).
pub(super) const PROTOCOL: u8 = 83;
/// The link that packets to other nodes go into.
pub(super) const TUNNEL: &str = "switchyard.vx";
/// The first number that no operator of a data centre is likely to have given to a network of his.
pub(super) const TUNNEL_ID: u32 = 4096;
/// The one that IANA has assigned.
pub(super) const TUNNEL_PORT: u16 = 4789;

/// Where a node is, and which pods it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) name: String,
    /// The primary one first.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ranges: Vec<IpNet>,
}

impl Site {
    pub(super) fn of(node: &Node) -> Site {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let internal = addresses.filter(|address| address.type_ == "InternalIP");
        Site {
            name: node.name_any(),
            addresses: internal.filter_map(|address| address.address.parse().ok()).collect(),
            ranges: pod_cidrs(node),
        }
    }

    fn address_like(&self, other: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().find(|address| address.is_ipv4() == other.is_ipv4()).copied()
    }
}

/// What the kernel is to have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ways {
    pub(super) routes: BTreeSet<Route>,
    pub(super) tunnel: Option<Tunnel>,
}

/// This node's end of the tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tunnel {
    /// By which the other nodes reach it.
    pub(super) local: IpAddr,
    pub(super) mac: [u8; 6],
    /// What the node itself sends from, into the tunnel.
    pub(super) addresses: BTreeSet<IpNet>,
    pub(super) neighbours: BTreeSet<Neighbour>,
    pub(super) ends: BTreeSet<Neighbour>,
}

/// The ways from `own` to all of `nodes`; `own` may be among them. Ranges that overlap with the node's own stay here.
pub(super) fn ways(mode: PodNetwork, own: &Site, nodes: &[Site]) -> Ways {
    let others = nodes.iter().filter(|node| node.name != own.name);
    let ways = others.flat_map(|node| node.ranges.iter().map(move |range| (node, *range)));
    let is_own = |range: &IpNet| own.ranges.iter().any(|own| own.contains(range) || range.contains(own));
    let mut ways: Vec<(&Site, IpNet)> = ways.filter(|(_, range)| !is_own(range)).collect();
    // Should two nodes claim one range, all nodes have to agree on one of them.
    ways.sort_by(|one, other| one.0.name.cmp(&other.0.name));
    let mut taken = BTreeSet::new();
    ways.retain(|(_, range)| taken.insert(*range));
    match mode {
        PodNetwork::None => Ways::default(),
        PodNetwork::Routes => Ways { routes: direct(&ways), tunnel: None },
        PodNetwork::Vxlan => through_tunnel(own, &ways),
    }
}

fn direct(ways: &[(&Site, IpNet)]) -> BTreeSet<Route> {
    let route = |(node, range): &(&Site, IpNet)| {
        let gateway = node.address_like(range.addr())?;
        Some(Route { destination: range.trunc(), gateway, link: None, protocol: PROTOCOL })
    };
    ways.iter().filter_map(route).collect()
}

fn through_tunnel(own: &Site, ways: &[(&Site, IpNet)]) -> Ways {
    let Some(local) = own.addresses.first().copied() else { return Ways::default() };
    let mut result = Ways::default();
    let mut tunnel = Tunnel {
        local,
        mac: mac(local),
        addresses: own
            .ranges
            .iter()
            .filter_map(|range| IpNet::new(gateway(*range), full(*range)).ok())
            .collect(),
        neighbours: BTreeSet::new(),
        ends: BTreeSet::new(),
    };
    for (node, range) in ways {
        // All tunnels have ends of one family, whatever they carry.
        let Some(far) = node.address_like(local) else { continue };
        let gateway = gateway(*range);
        tunnel.neighbours.insert(Neighbour { address: gateway, mac: mac(far) });
        tunnel.ends.insert(Neighbour { address: far, mac: mac(far) });
        let link = Some(TUNNEL.to_owned());
        result.routes.insert(Route { destination: range.trunc(), gateway, link, protocol: PROTOCOL });
    }
    result.tunnel = Some(tunnel);
    result
}

/// A node's address inside the tunnel: the first of its range, which no pod gets.
fn gateway(range: IpNet) -> IpAddr {
    range.network()
}

fn full(range: IpNet) -> u8 {
    range.max_prefix_len()
}

/// The hardware address of a node's end follows from the node's address, so that nobody has to be told. Locally
/// administered; of IPv6 addresses the last bytes, which tell hosts apart.
fn mac(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0x02, 0x58, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [.., a, b, c, d, e] = address.octets();
            [0x06, a, b, c, d, e]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(number: u8) -> Site {
        Site {
            name: format!("node-{number}"),
            addresses: vec![
                format!("192.0.2.{number}").parse().unwrap(),
                format!("fd00:1::{number}").parse().unwrap(),
            ],
            ranges: vec![
                format!("10.244.{number}.0/24").parse().unwrap(),
                format!("fd00:244:{number}::/64").parse().unwrap(),
            ],
        }
    }

    fn routes(ways: &Ways) -> Vec<String> {
        let link = |route: &Route| route.link.as_ref().map(|link| format!(" on {link}")).unwrap_or_default();
        ways.routes
            .iter()
            .map(|route| format!("{} via {}{}", route.destination, route.gateway, link(route)))
            .collect()
    }

    #[test]
    fn each_other_node_has_a_route_a_family() {
        let ways = ways(PodNetwork::Routes, &site(1), &[site(1), site(2), site(3)]);
        let expected = [
            "10.244.2.0/24 via 192.0.2.2",
            "10.244.3.0/24 via 192.0.2.3",
            "fd00:244:2::/64 via fd00:1::2",
            "fd00:244:3::/64 via fd00:1::3",
        ];
        assert_eq!(routes(&ways), expected);
        assert_eq!(ways.tunnel, None);
    }

    #[test]
    fn a_node_without_an_address_of_the_family_cannot_be_reached() {
        let mut second = site(2);
        second.addresses.pop();
        assert_eq!(routes(&ways(PodNetwork::Routes, &site(1), &[second])), ["10.244.2.0/24 via 192.0.2.2"]);
        let nowhere = Site { addresses: vec![], ..site(2) };
        assert_eq!(ways(PodNetwork::Routes, &site(1), std::slice::from_ref(&nowhere)), Ways::default());
        assert_eq!(routes(&ways(PodNetwork::Vxlan, &site(1), &[nowhere])), [""; 0]);
    }

    #[test]
    fn ranges_that_are_claimed_twice_go_to_one_node_and_never_away_from_here() {
        let mut wrong = site(2);
        wrong.ranges = vec!["10.244.0.0/16".parse().unwrap(), "10.250.0.0/24".parse().unwrap()];
        let mut late = site(3);
        late.ranges = vec!["10.250.0.0/24".parse().unwrap()];
        let ways = ways(PodNetwork::Routes, &site(1), &[late, wrong]);
        assert_eq!(routes(&ways), ["10.250.0.0/24 via 192.0.2.2"]);
    }

    #[test]
    fn a_tunnel_leads_to_both_families_over_one() {
        let ways = ways(PodNetwork::Vxlan, &site(1), &[site(1), site(2)]);
        let expected = [
            "10.244.2.0/24 via 10.244.2.0 on switchyard.vx",
            "fd00:244:2::/64 via fd00:244:2:: on switchyard.vx",
        ];
        assert_eq!(routes(&ways), expected);
        let tunnel = ways.tunnel.unwrap();
        let mac = [0x02, 0x58, 192, 0, 2, 2];
        let neighbour = |address: &str| Neighbour { address: address.parse().unwrap(), mac };
        assert_eq!(tunnel.neighbours, [neighbour("10.244.2.0"), neighbour("fd00:244:2::")].into());
        assert_eq!(tunnel.ends, [neighbour("192.0.2.2")].into());
        assert_eq!(tunnel.mac, [0x02, 0x58, 192, 0, 2, 1]);
        let addresses: Vec<String> = tunnel.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.244.1.0/32", "fd00:244:1::/128"]);
    }

    #[test]
    fn left_to_others_there_is_nothing_to_do() {
        assert_eq!(ways(PodNetwork::None, &site(1), &[site(2)]), Ways::default());
    }

    #[test]
    fn a_site_is_what_the_api_says_of_a_node() {
        let node = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "node-2"},
            "spec": {"podCIDR": "10.244.2.0/24"},
            "status": {"addresses": [
                {"type": "Hostname", "address": "node-2"}, {"type": "ExternalIP", "address": "203.0.113.2"},
                {"type": "InternalIP", "address": "192.0.2.2"}]},
        }));
        let site = Site::of(&node.unwrap());
        assert_eq!((site.addresses.len(), site.ranges.len()), (1, 1));
        assert_eq!(site.addresses[0].to_string(), "192.0.2.2");
    }
}
