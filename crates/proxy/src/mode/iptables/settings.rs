//! From the configuration and the node's facts to what the iptables rules depend on.

use std::net::IpAddr;

use ipnet::IpNet;
use switchyard_model::IpFamily;
use switchyard_plan::iptables::Settings;
use switchyard_plan::node::{DetectLocal, NodePortAddresses};

use crate::config::{self, Configuration, DetectLocalMode};
use crate::node::NodeAddresses;

/// What is known of the node when the rules are planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    pub addresses: NodeAddresses,
    /// `spec.podCIDRs` of the Node object.
    pub pod_cidrs: Vec<IpNet>,
    /// `--nodeport-addresses`, with `primary` resolved.
    pub node_port_addresses: config::NodePortAddresses,
    /// The addresses of all interfaces, for node port addresses that are given as ranges.
    pub local_addresses: Vec<IpAddr>,
}

/// What this host's kernel and programs offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFeatures {
    pub random_fully: bool,
    /// `nf_conntrack_tcp_be_liberal`: packets outside the window are then not invalid, and must not be dropped.
    pub conntrack_is_liberal: bool,
    pub count_invalid: bool,
    pub count_localhost_node_ports: bool,
}

impl HostFeatures {
    /// A current host: what is assumed where rules are only shown.
    pub const ALL: HostFeatures = HostFeatures {
        random_fully: true,
        conntrack_is_liberal: false,
        count_invalid: true,
        count_localhost_node_ports: true,
    };
}

pub fn settings(
    family: IpFamily,
    config: &Configuration,
    facts: &NodeFacts,
    features: HostFeatures,
) -> Settings {
    Settings {
        family,
        masquerade_mark: 1 << config.masquerade_bit,
        masquerade_all: config.masquerade_all,
        localhost_node_ports: serves_localhost(family, config, facts),
        detect_local: detect_local(family, config, &facts.pod_cidrs),
        node_ip: facts.addresses.of(family),
        node_port_addresses: node_port_addresses(family, facts),
        random_fully: features.random_fully,
        drop_invalid: !features.conntrack_is_liberal,
        count_invalid: features.count_invalid,
        count_localhost_node_ports: features.count_localhost_node_ports,
    }
}

/// Whether node ports answer on 127.0.0.0/8. The kernel can be told to route such packets with IPv4 only.
pub fn serves_localhost(family: IpFamily, config: &Configuration, facts: &NodeFacts) -> bool {
    family == IpFamily::V4
        && config.localhost_node_ports
        && facts.node_port_addresses.contains_ipv4_loopback()
}

/// How traffic of local pods is recognised; interfaces serve both families.
pub fn detect_local(family: IpFamily, config: &Configuration, pod_cidrs: &[IpNet]) -> DetectLocal {
    let first = |ranges: &[IpNet]| {
        let range = ranges.iter().find(|range| IpFamily::of_net(range) == family);
        range.map_or(DetectLocal::Unknown, |range| DetectLocal::Source(*range))
    };
    match config.detect_local_mode {
        DetectLocalMode::ClusterCidr => first(&config.detect_local.cluster_cidrs),
        DetectLocalMode::NodeCidr => first(pod_cidrs),
        DetectLocalMode::BridgeInterface => {
            DetectLocal::Interface(config.detect_local.bridge_interface.clone())
        }
        DetectLocalMode::InterfaceNamePrefix => {
            DetectLocal::Interface(format!("{}+", config.detect_local.interface_name_prefix))
        }
    }
}

fn node_port_addresses(family: IpFamily, facts: &NodeFacts) -> NodePortAddresses {
    let wanted = &facts.node_port_addresses;
    if wanted.matches_all(family) {
        return NodePortAddresses::MatchAll;
    }
    let ranges = wanted.of_family(family);
    let mut inside: Vec<IpAddr> = facts
        .local_addresses
        .iter()
        .copied()
        .filter(|ip| ranges.iter().any(|range| range.contains(ip)))
        .collect();
    inside.sort_unstable();
    inside.dedup();
    NodePortAddresses::Addresses(inside)
}
