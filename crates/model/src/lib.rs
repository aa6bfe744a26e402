//! Objects in, meaning out: what every service does on this node.
//!
//! [`ServiceTable`] takes changes of Services, EndpointSlices and the node's zone, and knows which services became
//! dirty. [`Forwarding`] is the answer, one per address family: for every service port its virtual addresses, its
//! policies and the endpoints that traffic may go to. Endpoint choice is decided here, once, for all proxy modes.
//!
//! This crate does no I/O, reads no clock and writes no log: what is worth telling is returned as a value.

mod changes;
mod choice;
mod derive;
mod endpoint;
mod family;
mod forwarding;
mod problem;
#[cfg(test)]
mod properties;
mod service_port;
mod site;
mod slices;
mod summary;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use changes::{Commit, EndpointChange, Noticed, PortChange};
pub use choice::{EndpointUse, Topology};
pub use derive::{ServicePorts, service_ports};
pub use endpoint::{Conditions, Endpoint};
pub use forwarding::{Forwarding, PortForwarding, Verdict};
pub use problem::Problem;
pub use service_port::{ServicePort, ServicePortName};
pub use summary::WithoutLocalEndpoints;
pub use switchyard_api::{IpFamily, Name, ObjectKey, Protocol, TrafficPolicy};
pub use table::{ServiceTable, TableOptions};
