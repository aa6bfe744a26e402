//! Links, addresses, routes and kernel settings of a scene.
//!
//! The LAN is a bridge in a namespace of its own, which is also the router, so that the host has no part in
//! a scene. Every machine hangs on it by a veth pair named `eth0` inside; every node has a bridge `cni0` on
//! which its pods hang the same way.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use ipnet::IpNet;
use switchyard_kernel::link::{LinkError, Links};
use switchyard_kernel::namespace::{Namespace, NamespaceError};
use thiserror::Error;

use crate::topology::{Node, Route, Topology};

/// The place of the LAN's bridge and router.
pub(crate) const LAN: &str = "lan";
/// Every machine's link towards its network.
const UPLINK: &str = "eth0";
/// The LAN itself.
const LAN_BRIDGE: &str = "lan0";
/// The pod bridge, by the name that the bridge plugin of CNI gives it.
const POD_BRIDGE: &str = "cni0";

/// There once the module br_netfilter is loaded, in every namespace.
const BRIDGE_NETFILTER: &str = "/proc/sys/net/bridge";

/// Settings below /proc/sys/net and their values.
type Settings = &'static [(&'static str, &'static str)];

/// Written before there are links, since a link takes its settings from `default` when it is made.
const COMMON_SETTINGS: Settings = &[
    // A namespace may inherit these from the host, whatever they are there. A reply that comes by another way
    // than its request went is no error here.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
    // Nobody else is on these networks: without duplicate address detection an IPv6 address is usable at
    // once instead of after a second or two.
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    // Every refusal is to be heard, also the second one within a second.
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
];

/// The LAN must stay a cable: filtering what a bridge forwards is meant for the nodes' bridges only.
const ROUTER_SETTINGS: Settings = &[
    ("ipv4/ip_forward", "0"),
    ("ipv6/conf/all/forwarding", "0"),
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
];

/// What every Kubernetes node is set to. Pods of one node talk through the bridge without the node routing;
/// only with bridge-nf-call-iptables do their connections to a cluster IP have the reply translated back.
const NODE_SETTINGS: Settings = &[
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("bridge/bridge-nf-call-iptables", "1"),
    ("bridge/bridge-nf-call-ip6tables", "1"),
];

/// A step of the wiring that the kernel refused.
#[derive(Debug, Error)]
pub enum WiringError {
    /// The kernel cannot filter what a bridge forwards.
    #[error(
        "pods on one node need bridge netfilter to reach each other through services: run `modprobe br_netfilter`"
    )]
    NoBridgeNetfilter,
    /// The kernel has no bridges or no veth pairs.
    #[error(
        "this kernel lacks links that a scene is made of: run `modprobe --all bridge veth`, or use a kernel that has them"
    )]
    Unsupported {
        /// What was tried.
        source: LinkError,
    },
    /// A link, address or route.
    #[error("at {place}")]
    Link {
        /// The place it happened at.
        place: String,
        /// What was tried and what the kernel said.
        source: LinkError,
    },
    /// The namespace could not be entered.
    #[error("entering {place}")]
    Namespace {
        /// The place it happened at.
        place: String,
        /// What the kernel said.
        source: NamespaceError,
    },
    /// A kernel setting could not be written.
    #[error("setting {setting} at {place}")]
    Setting {
        /// The place it happened at.
        place: String,
        /// The path below /proc/sys/net.
        setting: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The names of all places of a topology: the LAN, the client outside, the control plane, the nodes, the pods.
pub(crate) fn places(topology: &Topology) -> Vec<String> {
    let nodes = topology.nodes.iter().map(|node| node.name.clone());
    let pods = topology.pods().map(|(_, pod)| pod.name.clone());
    let control = topology.control.iter().map(|machine| machine.name.clone());
    [LAN.to_owned(), topology.outside.name.clone()]
        .into_iter()
        .chain(control)
        .chain(nodes)
        .chain(pods)
        .collect()
}

/// Wires the namespaces of all [`places`].
pub(crate) fn wire(topology: &Topology, namespaces: &BTreeMap<String, Namespace>) -> Result<(), WiringError> {
    if !Path::new(BRIDGE_NETFILTER).exists() {
        return Err(WiringError::NoBridgeNetfilter);
    }
    for (name, namespace) in namespaces {
        let node = topology.nodes.iter().any(|node| node.name == *name);
        let role = if name == LAN {
            ROUTER_SETTINGS
        } else if node {
            NODE_SETTINGS
        } else {
            &[]
        };
        apply_settings(name, namespace, &[COMMON_SETTINGS, role].concat())?;
    }
    let mut places = BTreeMap::new();
    for (name, namespace) in namespaces {
        places.insert(name.as_str(), Place::open(name, namespace)?);
    }
    let lan = &places[LAN];
    lan.add_bridge(LAN_BRIDGE, &topology.router)?;
    for node in &topology.nodes {
        wire_node(lan, node, &places)?;
    }
    if let Some(control) = &topology.control {
        let here = &places[control.name.as_str()];
        here.join(lan, LAN_BRIDGE, &control.name, &control.addresses)?;
        here.add_routes(&topology.default_routes())?;
    }
    let outside = &places[topology.outside.name.as_str()];
    outside.join(lan, LAN_BRIDGE, &topology.outside.name, &topology.outside.addresses)?;
    let remote: Vec<IpNet> =
        topology.outside.remote_addresses.iter().map(|address| (*address).into()).collect();
    outside.add_addresses(UPLINK, &remote)?;
    outside.add_routes(&topology.outside_routes())?;
    for node in &topology.nodes {
        places[node.name.as_str()].add_routes(&topology.node_routes(node))?;
    }
    Ok(())
}

fn apply_settings(
    place: &str,
    namespace: &Namespace,
    settings: &[(&'static str, &'static str)],
) -> Result<(), WiringError> {
    // /proc/sys/net shows the network namespace of the thread that opens a file below it.
    let failed = namespace.run(|| {
        let write = |(setting, value): &(&str, &str)| fs::write(format!("/proc/sys/net/{setting}"), value);
        settings.iter().find_map(|entry| write(entry).err().map(|source| (entry.0, source)))
    });
    match failed {
        Ok(None) => Ok(()),
        Ok(Some((setting, source))) => Err(WiringError::Setting { place: place.to_owned(), setting, source }),
        Err(source) => Err(WiringError::Namespace { place: place.to_owned(), source }),
    }
}

fn wire_node(lan: &Place<'_>, node: &Node, places: &BTreeMap<&str, Place<'_>>) -> Result<(), WiringError> {
    let here = &places[node.name.as_str()];
    here.join(lan, LAN_BRIDGE, &node.name, &node.addresses)?;
    if node.pod_cidrs.is_empty() {
        return Ok(());
    }
    here.add_bridge(POD_BRIDGE, &node.bridge_addresses())?;
    for (number, pod) in node.pods.iter().enumerate() {
        let port = format!("veth{number}");
        let inside = &places[pod.name.as_str()];
        inside.join(here, POD_BRIDGE, &port, &node.pod_addresses(pod))?;
        // A pod that asks a service and gets itself as the endpoint is answered through the port it asked by.
        here.check(here.links.set_hairpin(&port, true))?;
        inside.add_routes(&node.pod_default_routes())?;
    }
    Ok(())
}

/// A place with its open route-netlink socket.
struct Place<'a> {
    name: &'a str,
    namespace: &'a Namespace,
    links: Links,
}

impl<'a> Place<'a> {
    fn open(name: &'a str, namespace: &'a Namespace) -> Result<Place<'a>, WiringError> {
        let links =
            Links::open(namespace).map_err(|source| WiringError::Link { place: name.to_owned(), source })?;
        let place = Place { name, namespace, links };
        place.check(place.links.set_up("lo"))?;
        Ok(place)
    }

    fn add_bridge(&self, bridge: &str, addresses: &[IpNet]) -> Result<(), WiringError> {
        self.check(self.links.add_bridge(bridge))?;
        self.check(self.links.set_up(bridge))?;
        self.add_addresses(bridge, addresses)
    }

    /// Links this place's uplink to a port of a bridge at another place.
    fn join(
        &self,
        other: &Place<'_>,
        bridge: &str,
        port: &str,
        addresses: &[IpNet],
    ) -> Result<(), WiringError> {
        self.check(self.links.add_veth(UPLINK, port, other.namespace))?;
        other.check(other.links.set_master(port, bridge))?;
        other.check(other.links.set_up(port))?;
        self.check(self.links.set_up(UPLINK))?;
        self.add_addresses(UPLINK, addresses)
    }

    fn add_addresses(&self, link: &str, addresses: &[IpNet]) -> Result<(), WiringError> {
        addresses.iter().try_for_each(|address| self.check(self.links.add_address(link, *address)))
    }

    fn add_routes(&self, routes: &[Route]) -> Result<(), WiringError> {
        routes.iter().try_for_each(|route| self.check(self.links.add_route(route.destination, route.gateway)))
    }

    fn check(&self, result: Result<(), LinkError>) -> Result<(), WiringError> {
        result.map_err(|source| match source.is_unsupported() {
            true => WiringError::Unsupported { source },
            false => WiringError::Link { place: self.name.to_owned(), source },
        })
    }
}
