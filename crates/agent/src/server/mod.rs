//! What the agent answers to the API server, over HTTPS and on kubelet's paths: logs, exec, attach and port-forward.
//!
//! | file | what it holds |
//! |---|---|
//! | `route` | what a path and its parameters ask for: a pure function |
//! | `listen`, `identity` | connections, who we are, and whom we answer |
//! | `handle` | from a request to an answer |
//! | `logs` | output of containers, from the runtime's files |
//! | `websocket`, `channels` | what commands are spoken over |
//! | `exec`, `attach`, `port_forward` | the three of them |
//!
//! The API server passes connections on byte by byte, so the protocols are those of its clients.

mod answer;
mod attach;
mod channels;
mod exec;
mod handle;
mod identity;
mod listen;
mod logs;
mod port_forward;
mod route;
mod websocket;

pub(crate) use identity::Trust;
pub(crate) use listen::{bind, serve};
