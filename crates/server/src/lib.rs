//! The embedded API server: what kubectl and every controller take for kube-apiserver, as far as services need it.
//!
//! A request goes one way: [`http`] reads it and knows who asks, [`authorization`] whether they may, [`handlers`] carries
//! out the verb on the [`registry`]'s descriptor of the resource, and [`store`] makes it durable in one transaction.
//! [`store::Cache`] holds everything in memory and is what lists and watches are answered from.

pub mod allocation;
pub mod authentication;
pub mod authorization;
pub mod certificates;
pub mod controllers;
pub mod field;
pub mod flags;
pub mod forward;
pub mod handlers;
pub mod http;
pub mod metadata;
pub mod object;
pub mod patch;
pub mod registry;
pub mod resources;
pub mod run;
pub mod schema;
pub mod selectors;
pub mod status;
pub mod store;
