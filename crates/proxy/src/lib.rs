//! The node proxy: makes the virtual addresses of Services work on one node.
//!
//! Flags and file become a [`config::Configuration`]; a [`source`] delivers the cluster's objects; [`control`] puts them
//! into the service table; [`sync`] lets a [`mode`] write what changed. [`run`] puts it all together. The
//! servers for health and metrics stand beside the loop and only ever read.

pub mod client;
pub mod config;
pub mod control;
pub mod events;
pub mod feature_gates;
pub mod flags;
pub mod health;
pub mod http_server;
pub mod inspect;
pub mod logging;
pub mod metrics;
pub mod mode;
pub mod node;
pub mod run;
pub mod runner;
pub mod service_health;
pub mod source;
pub mod status_pages;
pub mod sync;
pub mod trace;
pub mod verify;

mod conntrack_cleanup;
mod reports;
