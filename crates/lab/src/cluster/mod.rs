//! The lab: a cluster that lives on this machine, from `switchyard up` to `switchyard down`.
//!
//! ```text
//!  host                  ┆ namespace of its own each
//!                        ┆
//!  kubectl ─ 127.0.0.1:P ┆─▶ control: API server        node-1: proxy, agent, pods     outside
//!             ▲          ┆        │.2                      │.11                          │.3
//!             │ holds    ┆        └───────────── LAN 172.30.0.0/24 ──────────────────────┘
//!           keeper ──────┆─ starts all of these, and again when one ends
//! ```
//!
//! `up` builds the [scene](crate::scene), starts the [`keeper`], waits until everything is ready and goes away. Everything
//! else it leaves is in one [folder](state). `down` ends what lives in the lab's namespaces and takes all of it away.

mod claim;
mod client;
mod collisions;
mod commands;
mod credentials;
mod down;
mod error;
mod flags;
mod keeper;
mod kubeconfig;
mod leftovers;
mod logs;
mod parts;
mod places;
mod progress;
mod ready;
mod settings;
mod shell;
mod state;
mod status;
mod up;

pub use commands::main;
pub use error::LabError;
pub use places::Places;
