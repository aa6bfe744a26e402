//! The Kubernetes objects that Switchyard speaks, as slim types: only the fields that service networking reads.
//!
//! Objects are decoded straight from the API's JSON (or from YAML manifests) and everything else in them —
//! managed fields, annotations, owner references — is skipped while decoding and never held in memory.
//! This crate does no I/O. It never decides what an object means; that is the model's work.

pub mod address;
mod endpoint_slice;
pub mod manifest;
mod metadata;
mod node;
mod service;
mod service_cidr;

pub use address::IpFamily;
pub use endpoint_slice::{AddressType, Endpoint, EndpointAddress, EndpointPort, EndpointSlice, Hints};
pub use metadata::{Labels, Metadata, Name, ObjectKey, label};
pub use node::{Node, NodeAddress, NodeSpec, NodeStatus, Taint};
pub use service::{
    LoadBalancerIngress, Protocol, Service, ServicePort, ServiceSpec, ServiceStatus, ServiceType,
    SessionAffinity, TrafficPolicy,
};
pub use service_cidr::ServiceCidr;
