//! What a plan has to know about the node, the same for every mode.

use std::net::IpAddr;

use ipnet::IpNet;

/// How traffic from local pods is told from other traffic (`detectLocalMode`), in one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectLocal {
    /// Nothing tells it apart: rules that need to know are left out.
    Unknown,
    /// By its source: the range of all pods of the cluster, or of the node alone.
    Source(IpNet),
    /// By the interface it comes in through; a trailing `+` stands for any ending.
    Interface(String),
}

/// The local addresses on which node ports answer (`nodePortAddresses`), in one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Every local address, also those that appear later.
    MatchAll,
    /// These, found on the node's interfaces. May be empty: then no node port answers.
    Addresses(Vec<IpAddr>),
}
