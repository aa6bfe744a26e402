//! An endpoint of a service port, as this node sees it.

use std::fmt;
use std::net::IpAddr;

use switchyard_api::Name;
use switchyard_api::address::join_host_port;

/// One backend: an address and port, and what decides whether traffic may go there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
    pub conditions: Conditions,
    /// Whether the endpoint is on this node.
    pub is_local: bool,
    pub node: Option<Name>,
    /// Zones that should use this endpoint; empty without a hint.
    pub zone_hints: Box<[Name]>,
    /// Nodes that should use this endpoint; empty without a hint.
    pub node_hints: Box<[Name]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

impl Conditions {
    pub const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };

    /// Still answering while it goes away: used only where nothing ready is left.
    pub fn serving_terminating(self) -> bool {
        self.serving && self.terminating
    }
}

/// `IP:port`, brackets around IPv6. Endpoints are identified by this text and sorted by its bytes, so that
/// 10.0.0.10:80 comes before 10.0.0.2:80: the order decides which rule comes first, and must match upstream's.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&join_host_port(self.address, self.port))
    }
}
