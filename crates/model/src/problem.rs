//! What is wrong with an object, for the log line and the event that its owner sees.

use switchyard_api::ObjectKey;
use thiserror::Error;

/// A part of an object that had to be left out. The rest of the object, and every other object, works on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    #[error("Skipping service with an invalid cluster IP {ip:?}: recreate it, or correct spec.clusterIP")]
    InvalidClusterIp { service: ObjectKey, ip: Box<str> },
    #[error("Skipping invalid IP {ip:?} in spec.externalIPs or status.loadBalancer")]
    InvalidIp { service: ObjectKey, ip: Box<str> },
    #[error("Invalid CIDR ignored: {cidr:?} in spec.loadBalancerSourceRanges")]
    InvalidCidr { service: ObjectKey, cidr: Box<str> },
    #[error("Service has no healthcheck nodeport")]
    NoHealthCheckNodePort { service: ObjectKey },
    #[error("Skipping endpoint with an invalid address {address:?}")]
    InvalidEndpoint { slice: ObjectKey, address: Box<str> },
    #[error("Skipping endpoint port {port:?} without a number")]
    InvalidEndpointPort { slice: ObjectKey, port: Box<str> },
    #[error("Ignoring EndpointSlice without the label kubernetes.io/service-name")]
    OrphanSlice { slice: ObjectKey },
    #[error("Ignoring address type FQDN of an EndpointSlice: only IPv4 and IPv6 can be forwarded to")]
    UnsupportedAddressType { slice: ObjectKey },
    #[error("Error parsing the annotation endpoints.kubernetes.io/last-change-trigger-time: {value:?}")]
    InvalidTriggerTime { slice: ObjectKey, value: Box<str> },
}

impl Problem {
    /// The kind and name of the object at fault.
    pub fn object(&self) -> (&'static str, &ObjectKey) {
        match self {
            Problem::InvalidClusterIp { service, .. }
            | Problem::InvalidIp { service, .. }
            | Problem::InvalidCidr { service, .. }
            | Problem::NoHealthCheckNodePort { service } => ("Service", service),
            Problem::InvalidEndpoint { slice, .. }
            | Problem::InvalidEndpointPort { slice, .. }
            | Problem::OrphanSlice { slice }
            | Problem::UnsupportedAddressType { slice }
            | Problem::InvalidTriggerTime { slice, .. } => ("EndpointSlice", slice),
        }
    }

    /// Whether somebody has to mend the object. The others are usual in a cluster and only left aside.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Problem::OrphanSlice { .. } | Problem::UnsupportedAddressType { .. })
    }
}
