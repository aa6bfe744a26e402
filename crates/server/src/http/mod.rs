//! Requests in, answers out: TLS, who asks, what is asked for, and in which form.
//!
//! [`server`] takes connections; [`front`] takes a request through the stages: what it is ([`request_info`]), who asks
//! ([`crate::authentication`]), whether they may ([`crate::authorization`]), and who answers (`dispatch`):
//! [`crate::handlers`] for resources, the modules here for everything else.

pub mod discovery;
mod dispatch;
pub mod forwarding;
mod front;
pub mod health;
pub mod metrics;
pub mod negotiation;
pub mod objects;
pub mod openapi;
pub mod query;
pub mod request_info;
pub mod response;
pub mod reviews;
pub mod server;
pub mod token_request;
pub mod version;

pub use front::{Front, Parts};
pub use query::Query;
pub use request_info::{RequestInfo, ResourceInfo};
pub use response::Body;
