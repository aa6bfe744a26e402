//! The embedded API server: what kubectl and every controller take for kube-apiserver, as far as services need it.
//!
//! [`handlers`] carries out a verb on the [`registry`]'s descriptor of the resource, and [`store`] makes it durable in one
//! transaction. [`store::Cache`] holds everything in memory and is what lists and watches are answered from.

pub mod allocation;
pub mod controllers;
pub mod field;
pub mod handlers;
pub mod metadata;
pub mod object;
pub mod patch;
pub mod registry;
pub mod resources;
pub mod schema;
pub mod selectors;
pub mod status;
pub mod store;
