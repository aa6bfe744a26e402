//! `v1 Node`.

use std::net::IpAddr;

use serde::Deserialize;

use crate::address::parse_ip;
use crate::metadata::null_as_default;
use crate::{IpFamily, Metadata, Name, label};

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Node {
    #[serde(deserialize_with = "null_as_default")]
    pub metadata: Metadata,
    #[serde(deserialize_with = "null_as_default")]
    pub spec: NodeSpec,
    #[serde(deserialize_with = "null_as_default")]
    pub status: NodeStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    #[serde(rename = "podCIDRs", deserialize_with = "null_as_default")]
    pub pod_cidrs: Vec<Box<str>>,
    #[serde(deserialize_with = "null_as_default")]
    pub taints: Vec<Taint>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Taint {
    #[serde(deserialize_with = "null_as_default")]
    pub key: Box<str>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    #[serde(deserialize_with = "null_as_default")]
    pub addresses: Vec<NodeAddress>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub address_type: Box<str>,
    #[serde(deserialize_with = "null_as_default")]
    pub address: Box<str>,
}

/// The taint that the cluster autoscaler puts on a node it is about to remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

impl Node {
    pub fn zone(&self) -> Option<&Name> {
        self.metadata.labels.get(label::ZONE)
    }

    /// The node's own address first and, where it has one, an address of the other family: internal addresses
    /// before external ones, host names and unreadable addresses left out. Empty, one or two addresses.
    pub fn ips(&self) -> Vec<IpAddr> {
        let of_type = |wanted: &'static str| {
            let matching = self.status.addresses.iter().filter(move |a| &*a.address_type == wanted);
            matching.filter_map(|a| parse_ip(&a.address))
        };
        let mut usable = of_type("InternalIP").chain(of_type("ExternalIP"));
        let Some(first) = usable.next() else { return Vec::new() };
        let second = usable.find(|ip| IpFamily::of(*ip) != IpFamily::of(first));
        std::iter::once(first).chain(second).collect()
    }

    /// Whether load balancers may still send new connections here: not while the node is being removed.
    pub fn is_eligible(&self) -> bool {
        !self.metadata.deletion_timestamp
            && !self.spec.taints.iter().any(|taint| &*taint.key == TO_BE_DELETED)
    }
}
