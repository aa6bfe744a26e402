//! The kernel state that each proxy mode wants for a [`Forwarding`](switchyard_model::Forwarding), and the smallest
//! change from one such state to the next.
//!
//! One folder a mode, all of one shape: names, settings, what a service port becomes, the whole state as a value, the
//! difference of two states as operations, a checker of invariants, a tracer that sends an imaginary packet through,
//! and a fake kernel. What modes share lies beside them: facts about the node, and which UDP flows are stale.
//!
//! This crate does no I/O, reads no clock and writes no log. A plan is a function of its arguments.

pub mod conntrack;
pub mod iptables;
pub mod node;

pub use switchyard_model::{IpFamily, Protocol};
