//! All that is known of one pod at one moment: what decisions are made from.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerOfSpec, ContainerStateTerminated, Pod};

use super::backoff::Backoff;
use super::spec::{self, Role};
use crate::runtime::{Container, Sandbox, State};

/// What is to become of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Desire {
    Run,
    /// It was deleted, or is gone already.
    Stop {
        /// When that became known here.
        since: Timestamp,
        /// When what still runs is killed.
        deadline: Timestamp,
        /// Whether the API still has it.
        is_in_api: bool,
    },
}

/// Something of a pod that only one step at a time is taken for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// The sandbox and its network.
    Sandbox,
    Container(String),
    /// The object in the API.
    Object,
}

/// A step that is being taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    Making,
    /// With the time at which it is killed.
    Stopping(Timestamp),
}

/// How the pod is connected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Network {
    /// Not, or not any more.
    #[default]
    None,
    /// With its addresses, the primary one first. Those of the node for a pod that has the node's network.
    Attached(Vec<IpAddr>),
}

/// A step that failed and is to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) at: Timestamp,
    /// In one word, as the API has them: `CreateContainerError`.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What probes say of one run of a container. `None` is no verdict yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Verdicts {
    /// When the run started that they are about.
    pub(super) run: Timestamp,
    pub(super) startup: Option<bool>,
    pub(super) readiness: Option<bool>,
    pub(super) liveness: Option<bool>,
}

/// What the runtime does not know of a container.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Memory {
    /// Why it could not be started, if that was tried last.
    pub(super) failure: Option<Failure>,
    pub(super) backoff: Backoff,
    /// How the run before the newest one ended.
    pub(super) before: Option<ContainerStateTerminated>,
    /// `restartCount` of the newest run; `None` if it never ran.
    pub(super) restarts: Option<u32>,
    pub(super) verdicts: Verdicts,
}

/// All that is known of a pod.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    pub(super) pod: &'a Pod,
    pub(super) desire: Desire,
    pub(super) sandbox: Option<&'a Sandbox>,
    pub(super) network: &'a Network,
    /// The newest run of each container.
    pub(super) containers: &'a BTreeMap<String, Container>,
    pub(super) memories: &'a BTreeMap<String, Memory>,
    pub(super) busy: &'a BTreeMap<Part, Busy>,
    /// Why the pod has no sandbox, or no network.
    pub(super) failure: Option<&'a Failure>,
    /// Of the sandbox.
    pub(super) backoff: Backoff,
    /// Whether the API knows the status that follows from all this.
    pub(super) is_told: bool,
    /// Addresses of the node.
    pub(super) host_ips: &'a [IpAddr],
    pub(super) now: Timestamp,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage<'a> {
    /// It has not run in this sandbox.
    Absent,
    Running(&'a Container),
    Ended(&'a Container, i32),
}

impl View<'_> {
    pub(super) fn stage(&self, name: &str) -> Stage<'_> {
        match self.containers.get(name) {
            None => Stage::Absent,
            Some(container) => match &container.state {
                State::Running => Stage::Running(container),
                State::Ended(end) => Stage::Ended(container, end.exit_code),
            },
        }
    }

    pub(super) fn busy(&self, name: &str) -> Option<Busy> {
        self.busy.get(&Part::Container(name.to_owned())).copied()
    }

    pub(super) fn memory(&self, name: &str) -> Option<&Memory> {
        self.memories.get(name)
    }

    fn verdicts(&self, name: &str, run: &Container) -> Verdicts {
        let verdicts = self.memory(name).map(|memory| memory.verdicts).unwrap_or_default();
        if verdicts.run == run.started { verdicts } else { Verdicts::default() }
    }

    /// Whether a container runs and has got through its start.
    pub(super) fn is_started(&self, container: &ContainerOfSpec) -> bool {
        let Stage::Running(run) = self.stage(&container.name) else { return false };
        let verdict = self.verdicts(&container.name, run).startup;
        let is_made = self.busy(&container.name) != Some(Busy::Making);
        is_made && (container.startup_probe.is_none() || verdict == Some(true))
    }

    pub(super) fn is_ready(&self, container: &ContainerOfSpec) -> bool {
        let Stage::Running(run) = self.stage(&container.name) else { return false };
        let verdict = self.verdicts(&container.name, run).readiness;
        self.is_started(container) && (container.readiness_probe.is_none() || verdict == Some(true))
    }

    /// Whether probes have found that a container has to be started anew: which of them.
    pub(super) fn is_unhealthy(&self, container: &ContainerOfSpec) -> Option<Unhealthy> {
        let Stage::Running(run) = self.stage(&container.name) else { return None };
        let verdicts = self.verdicts(&container.name, run);
        match (verdicts.startup, verdicts.liveness) {
            (Some(false), _) => Some(Unhealthy::Startup),
            (_, Some(false)) => Some(Unhealthy::Liveness),
            _ => None,
        }
    }

    /// Whether all init containers have done their work. Once another container was started they had.
    pub(super) fn is_initialized(&self) -> bool {
        let mains = spec::containers(self.pod).filter(|(role, _)| *role == Role::Main);
        if mains.into_iter().any(|(_, main)| self.stage(&main.name) != Stage::Absent) {
            return true;
        }
        spec::containers(self.pod).all(|(role, container)| match role {
            Role::Init => matches!(self.stage(&container.name), Stage::Ended(_, 0)),
            Role::Sidecar => self.is_started(container),
            Role::Main => true,
        })
    }
}

/// The probe that found a container unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unhealthy {
    Startup,
    Liveness,
}
