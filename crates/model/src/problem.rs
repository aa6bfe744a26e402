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
