//! Scenes of network namespaces: nodes with pods, a client outside, and real traffic between them.
//!
//! A [`Topology`](topology::Topology) says what there is; a [`Scene`](scene::Scene) is such a topology up and
//! running, with backends that answer; a [`Probe`](traffic::Probe) asks from any place of it and says what came
//! of it. The host is left untouched: links, addresses, routes and settings all live in the scene's namespaces.

pub mod backend;
pub mod cluster;
pub mod demo;
pub mod scene;
pub mod topology;
pub mod traffic;
mod wiring;

pub use wiring::WiringError;
