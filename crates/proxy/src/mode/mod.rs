//! Proxy modes: how a `Forwarding` gets into the kernel.
//!
//! Everything that modes share — what changed, when to sync, what follows a success — is in [`crate::sync`]. A mode
//! only writes, and knows what it wrote last.

pub mod iptables;

use std::collections::BTreeSet;

use switchyard_model::{Forwarding, ServicePortName};
use thiserror::Error;

/// One mode, for one address family. Blocking; called from that family's runner thread only.
pub trait Mode: Send + std::fmt::Debug {
    /// As log lines have it: `iptables`.
    fn name(&self) -> &'static str;

    /// Brings the kernel to `target`.
    ///
    /// `changed` names the service ports that differ from the last `target`. With `full`, nothing is assumed of
    /// the kernel: everything is written, and what is stale is removed. After an error the kernel's state is unknown, so
    /// the caller makes the next sync a full one.
    fn sync(
        &mut self,
        target: &Forwarding,
        changed: &BTreeSet<ServicePortName>,
        full: bool,
    ) -> Result<(), ModeError>;

    /// Looks whether the way into our rules is still there, and puts back what is easily put back. False if more is
    /// missing than that, so that everything has to be written.
    fn check(&mut self) -> Result<bool, ModeError> {
        Ok(true)
    }

    /// Whether the hourly full sync should be left out, because the cluster is so large that it costs too much.
    fn skips_periodic_full_sync(&self) -> bool {
        false
    }
}

#[derive(Debug, Error)]
pub enum ModeError {
    #[error(transparent)]
    Iptables(#[from] switchyard_kernel::iptables::IptablesError),
}
