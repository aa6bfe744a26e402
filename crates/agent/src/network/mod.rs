//! The network of pods: joining one to it through CNI, and the ways to the pods of other nodes.

mod apply;
mod cni;
mod keeper;
mod plan;

pub(crate) use cni::NETWORK_NOTE;
pub use cni::{Cni, CniError};
pub(crate) use keeper::NetworkKeeper;
