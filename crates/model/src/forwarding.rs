//! What every virtual address does on this node, in one address family.
//!
//! This is the one value that all proxy modes share: plans are made from it, `switchyard services` prints it, and
//! tests hold the modes against each other by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use switchyard_api::{IpFamily, TrafficPolicy};

use crate::{Endpoint, ServicePort, ServicePortName, Topology};

/// All service ports of one family, sorted by name. Cloning is cheap: the ports are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    pub family: IpFamily,
    pub ports: BTreeMap<ServicePortName, Arc<PortForwarding>>,
}

impl Forwarding {
    pub fn empty(family: IpFamily) -> Forwarding {
        Forwarding { family, ports: BTreeMap::new() }
    }

    /// Endpoints of all known service ports, usable or not: what decides about large-cluster mode.
    pub fn endpoint_count(&self) -> usize {
        self.ports.values().map(|port| port.endpoints.len()).sum()
    }
}

/// One service port with the endpoints chosen for it.
///
/// `cluster`, `local` and `reachable` are indices into `endpoints`, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForwarding {
    pub service_port: ServicePort,
    /// Every known endpoint, also those that get no traffic, sorted by the bytes of its `IP:port` text.
    pub endpoints: Arc<[Endpoint]>,
    pub topology: Topology,
    /// For traffic under a Cluster policy; empty too where no such traffic exists.
    pub cluster: Box<[u32]>,
    /// For traffic under a Local policy; empty too where no such traffic exists.
    pub local: Box<[u32]>,
    /// The union of both.
    pub reachable: Box<[u32]>,
    /// Whether there is an endpoint anywhere that could take traffic, so that "none here" means drop, not reject.
    pub has_any_endpoint: bool,
}

/// What happens to new connections to a virtual address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To one of the endpoints.
    Forward,
    /// No endpoint anywhere: the client is told at once.
    Reject,
    /// Endpoints exist, but none on this node and the policy is Local: silence, so that a load balancer that has not
    /// noticed yet tries another node.
    Drop,
}

impl PortForwarding {
    pub fn cluster_endpoints(&self) -> impl ExactSizeIterator<Item = &Endpoint> + Clone {
        self.select(&self.cluster)
    }

    pub fn local_endpoints(&self) -> impl ExactSizeIterator<Item = &Endpoint> + Clone {
        self.select(&self.local)
    }

    pub fn reachable_endpoints(&self) -> impl ExactSizeIterator<Item = &Endpoint> + Clone {
        self.select(&self.reachable)
    }

    /// For traffic to the cluster IP.
    pub fn internal_verdict(&self) -> Verdict {
        self.verdict(self.service_port.internal_policy)
    }

    /// For traffic from outside to node ports, external IPs and load balancer addresses. Pods and the node itself
    /// are not held to a Local external policy and see `Forward` wherever any endpoint exists.
    pub fn external_verdict(&self) -> Verdict {
        self.verdict(self.service_port.external_policy)
    }

    fn verdict(&self, policy: TrafficPolicy) -> Verdict {
        if !self.has_any_endpoint {
            Verdict::Reject
        } else if policy == TrafficPolicy::Local && self.local.is_empty() {
            Verdict::Drop
        } else {
            Verdict::Forward
        }
    }

    // `choice` makes the index lists from these same endpoints, so an index is always in range.
    fn select<'a>(&'a self, list: &'a [u32]) -> impl ExactSizeIterator<Item = &'a Endpoint> + Clone {
        list.iter().map(|&index| &self.endpoints[index as usize])
    }
}
