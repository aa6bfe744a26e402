//! What shapes the rules besides the services.

use std::net::IpAddr;

use switchyard_model::IpFamily;

use crate::node::{DetectLocal, NodePortAddresses};

/// The configuration and the node's facts, for one address family. After a change everything has to be written again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub family: IpFamily,
    /// The packet mark that asks for masquerading: one bit.
    pub masquerade_mark: u32,
    /// Masquerade everything that goes to a cluster IP, not only what comes from outside.
    pub masquerade_all: bool,
    /// Node ports answer on 127.0.0.0/8 too. Without effect for IPv6, which has no `route_localnet`.
    pub localhost_node_ports: bool,
    pub detect_local: DetectLocal,
    /// This node's address: load balancer source ranges that contain it let the node itself in.
    pub node_ip: IpAddr,
    pub node_port_addresses: NodePortAddresses,
    /// MASQUERADE can choose source ports at random (since iptables 1.6.2).
    pub random_fully: bool,
    /// Drop forwarded packets that connection tracking finds invalid. False where the kernel is told to be liberal.
    pub drop_invalid: bool,
    /// The accounting object `ct_state_invalid_dropped_pkts` exists.
    pub count_invalid: bool,
    /// The accounting object `localhost_nps_accepted_pkts` exists.
    pub count_localhost_node_ports: bool,
}

impl Settings {
    /// Whether packets to node ports on 127.0.0.0/8 are forwarded.
    pub fn serves_localhost(&self) -> bool {
        self.localhost_node_ports && self.family == IpFamily::V4
    }
}
