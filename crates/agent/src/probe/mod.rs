//! Probes: is a container up, alive, ready for traffic?
//!
//! One look (`check`) by HTTP, TCP or a command; when looks become a verdict (`threshold`); looking again and again
//! (`prober`).

mod check;
mod exec;
mod prober;
mod threshold;

use std::net::IpAddr;
use std::sync::Arc;

use crate::runtime::Runtime;

pub(crate) use check::{http_get, tcp_connect};
pub(crate) use exec::exec;
pub(crate) use prober::{Probed, Verdict, run};

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ProbeKind {
    /// Until it succeeds there are no others.
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }
}

/// The container that is looked at.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) runtime: Arc<dyn Runtime>,
    /// The pod's.
    pub(crate) uid: String,
    pub(crate) container: String,
    /// Of the pod.
    pub(crate) address: Option<IpAddr>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("uid", &self.uid)
            .field("container", &self.container)
            .finish_non_exhaustive()
    }
}
