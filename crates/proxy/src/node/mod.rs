//! Facts about this node that the rules depend on.

mod addresses;
mod check;
mod watch;

pub use addresses::NodeAddresses;
pub use check::{Families, Mismatch, family_mismatches, node_port_warning};
pub use watch::{NodeChange, NodeWatch};

use thiserror::Error;

/// The node's name could not be known.
#[derive(Debug, Error)]
pub enum NameError {
    #[error("empty hostname is invalid; give the name of this node's Node object with --hostname-override")]
    Empty,
    #[error("reading the host name: {0}; give the node's name with --hostname-override")]
    Unreadable(#[from] nix::Error),
}

/// The name of this node's Node object: as given, or the host's. Node names are lower case.
pub fn node_name(given: Option<&str>) -> Result<String, NameError> {
    let name = match given {
        Some(given) => given.to_owned(),
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    let name = name.trim().to_lowercase();
    if name.is_empty() { Err(NameError::Empty) } else { Ok(name) }
}
