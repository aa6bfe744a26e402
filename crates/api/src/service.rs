//! `v1 Service`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metadata::null_as_default;
use crate::{IpFamily, Metadata, Name};

/// The seconds that API defaulting gives a ClientIP affinity without a time-out: three hours.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// A transport protocol that Services know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
    #[serde(rename = "SCTP")]
    Sctp,
}

impl Protocol {
    /// As the API writes it: `TCP`, `UDP`, `SCTP`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }

    /// As the kernel's tools write it: `tcp`, `udp`, `sctp`.
    pub fn lower(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
    ExternalName,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    Local,
}

/// Addresses stay text here: one broken address must not make the whole object unreadable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    #[serde(deserialize_with = "null_as_default")]
    pub metadata: Metadata,
    #[serde(deserialize_with = "null_as_default")]
    pub spec: ServiceSpec,
    #[serde(deserialize_with = "null_as_default")]
    pub status: ServiceStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub service_type: ServiceType,
    #[serde(rename = "clusterIP", deserialize_with = "null_as_default")]
    pub cluster_ip: Box<str>,
    #[serde(rename = "clusterIPs", deserialize_with = "null_as_default")]
    pub cluster_ips: Vec<Box<str>>,
    #[serde(deserialize_with = "null_as_default")]
    pub ip_families: Vec<IpFamily>,
    #[serde(deserialize_with = "null_as_default")]
    pub ports: Vec<ServicePort>,
    #[serde(deserialize_with = "null_as_default")]
    pub session_affinity: SessionAffinity,
    #[serde(deserialize_with = "null_as_default")]
    session_affinity_config: SessionAffinityConfig,
    #[serde(rename = "externalIPs", deserialize_with = "null_as_default")]
    pub external_ips: Vec<Box<str>>,
    #[serde(deserialize_with = "null_as_default")]
    pub external_traffic_policy: TrafficPolicy,
    #[serde(deserialize_with = "null_as_default")]
    pub internal_traffic_policy: TrafficPolicy,
    #[serde(deserialize_with = "null_as_default")]
    pub load_balancer_source_ranges: Vec<Box<str>>,
    /// 0 where none is allocated.
    #[serde(deserialize_with = "null_as_default")]
    pub health_check_node_port: u16,
}

impl ServiceSpec {
    /// Seconds for which a client stays with its endpoint; `None` without ClientIP affinity.
    pub fn affinity_seconds(&self) -> Option<u32> {
        match self.session_affinity {
            SessionAffinity::None => None,
            SessionAffinity::ClientIP => Some(
                self.session_affinity_config.client_ip.timeout_seconds.unwrap_or(DEFAULT_AFFINITY_SECONDS),
            ),
        }
    }

    /// For objects built in code rather than decoded.
    pub fn set_affinity_seconds(&mut self, seconds: Option<u32>) {
        self.session_affinity =
            if seconds.is_some() { SessionAffinity::ClientIP } else { SessionAffinity::None };
        self.session_affinity_config.client_ip.timeout_seconds = seconds;
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum SessionAffinity {
    #[default]
    None,
    ClientIP,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct SessionAffinityConfig {
    #[serde(rename = "clientIP", deserialize_with = "null_as_default")]
    client_ip: ClientIpConfig,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientIpConfig {
    timeout_seconds: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Empty for the only port of a Service.
    #[serde(default = "unnamed", deserialize_with = "null_as_unnamed")]
    pub name: Name,
    #[serde(default, deserialize_with = "null_as_default")]
    pub protocol: Protocol,
    pub port: u16,
    /// 0 where none is allocated.
    #[serde(default, deserialize_with = "null_as_default")]
    pub node_port: u16,
}

pub(crate) fn unnamed() -> Name {
    Name::from("")
}

pub(crate) fn null_as_unnamed<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    Ok(Option::<Name>::deserialize(deserializer)?.unwrap_or_else(unnamed))
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    #[serde(deserialize_with = "null_as_default")]
    load_balancer: LoadBalancerStatus,
}

impl ServiceStatus {
    pub fn ingress(&self) -> &[LoadBalancerIngress] {
        &self.load_balancer.ingress
    }

    /// For objects built in code rather than decoded.
    pub fn set_ingress(&mut self, ingress: Vec<LoadBalancerIngress>) {
        self.load_balancer.ingress = ingress;
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct LoadBalancerStatus {
    #[serde(deserialize_with = "null_as_default")]
    ingress: Vec<LoadBalancerIngress>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerIngress {
    /// Empty where the load balancer gave a host name only.
    #[serde(deserialize_with = "null_as_default")]
    pub ip: Box<str>,
    /// `VIP` (the default) for traffic that arrives with the load balancer's address still on it, `Proxy` where
    /// the load balancer has already rewritten it and nodes must leave the address alone.
    pub ip_mode: Option<Box<str>>,
}
