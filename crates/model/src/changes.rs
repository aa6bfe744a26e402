//! What notifications and commits report.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use switchyard_api::{IpFamily, ObjectKey};

use crate::{Endpoint, Forwarding, Problem, ServicePort, ServicePortName};

/// What one notification led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Families that should be synced.
    pub sync: BTreeSet<IpFamily>,
    /// Families that the notification was for: what the change counters count.
    pub concerned: BTreeSet<IpFamily>,
    /// Parts of the object that had to be left out.
    pub problems: Vec<Problem>,
}

impl Noticed {
    /// Both families read the same text and find the same faults; each is told once.
    pub(crate) fn report(&mut self, problems: Vec<Problem>) {
        for problem in problems {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }
}

/// What a commit brought.
#[derive(Debug, Clone)]
pub struct Commit {
    pub forwarding: Forwarding,
    /// The service ports whose forwarding is not what it was, those that vanished included.
    pub changed: BTreeSet<ServicePortName>,
    /// The node moved to another zone: everything may have changed.
    pub topology_changed: bool,
    /// Endpoints of a UDP port changed, so that the kernel may remember flows to endpoints that are gone.
    pub udp_endpoints_changed: bool,
    /// When the changes to endpoints happened that are in effect once this commit is in the kernel.
    pub trigger_times: Vec<(ObjectKey, Timestamp)>,
    pub port_changes: Vec<PortChange>,
    pub endpoint_changes: Vec<EndpointChange>,
}

/// A service port came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortChange {
    Added(ServicePortName, ServicePort),
    Updated(ServicePortName, ServicePort),
    Removed(ServicePortName, ServicePort),
}

impl PortChange {
    pub fn name(&self) -> &ServicePortName {
        match self {
            PortChange::Added(name, _) | PortChange::Updated(name, _) | PortChange::Removed(name, _) => name,
        }
    }

    /// As it is now; as it was, of one that went.
    pub fn service_port(&self) -> &ServicePort {
        match self {
            PortChange::Added(_, port) | PortChange::Updated(_, port) | PortChange::Removed(_, port) => port,
        }
    }
}

/// The endpoints of a service port are others than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointChange {
    pub name: ServicePortName,
    pub endpoints: Arc<[Endpoint]>,
}
