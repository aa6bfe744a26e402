//! The node agent: it runs the pods that are bound to its node.
//!
//! The agent learns of pods from the API server, gives each a sandbox (its namespaces), has a CNI plugin connect it, and
//! starts its containers through a [`Runtime`](runtime::Runtime). It tells the API server what became of them.

mod core;
mod events;
pub mod flags;
mod images;
pub mod network;
mod node;
pub mod pod;
mod probe;
pub mod run;
pub mod runtime;
mod server;
mod spdy;
#[cfg(test)]
mod testing;

use std::process::ExitCode;

/// Runs what this program was started for by itself: sandboxes, containers, built-in programs. `None` if the arguments are
/// nothing of the kind. A program that runs an agent looks here before anything else.
#[must_use]
pub fn hidden_command(arguments: &[String]) -> Option<ExitCode> {
    runtime::process::hidden_command(arguments).or_else(|| images::hidden_command(arguments))
}
