//! The node agent: it runs the pods that are bound to its node.
//!
//! The agent learns of pods from the API server, gives each a sandbox (its namespaces), has a CNI plugin connect it, and
//! starts its containers through a [`Runtime`](runtime::Runtime). It tells the API server what became of them.

mod core;
mod events;
pub mod flags;
pub mod network;
mod node;
pub mod pod;
mod probe;
pub mod run;
pub mod runtime;
#[cfg(test)]
mod testing;
