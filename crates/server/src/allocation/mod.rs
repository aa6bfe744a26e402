//! Cluster IPs and node ports: which are free, which band they come from, and the entries that make them unique.

pub mod addresses;
pub mod ports;

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// The address ranges of a cluster, as its operator set them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// `--service-cluster-ip-range`: one, or two of different families. The first one's family is the primary one.
    pub service_ranges: Vec<IpNet>,
    /// `--service-node-port-range`.
    pub node_ports: RangeInclusive<u16>,
    /// `--cluster-cidr`, the pods' ranges.
    pub cluster_cidrs: Vec<IpNet>,
    /// Where clients inside the cluster reach this server: the endpoint of `default/kubernetes`.
    pub advertise_address: IpAddr,
    pub secure_port: u16,
}
