//! Agents against the real API server: what it is told, and what happens to containers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod life;
mod probes;
mod restart;
mod server;
mod trouble;
mod world;
