//! Which endpoints of a service port get traffic on this node.
//!
//! Cluster and Local are chosen independently, and each falls back to endpoints that are going away but still answer
//! before it gives up. Topology hints narrow the cluster-wide choice only, and only where every ready endpoint has one.

use std::fmt;
use std::sync::Arc;

use switchyard_api::Name;

use crate::{Endpoint, PortForwarding, ServicePort};

/// How far hints narrow the cluster-wide endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Topology {
    #[default]
    None,
    SameZone,
    SameNode,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Topology::None => "",
            Topology::SameZone => "PreferSameZone",
            Topology::SameNode => "PreferSameNode",
        })
    }
}

/// Where this node is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) node: &'a str,
    pub(crate) zone: Option<&'a str>,
}

/// Chooses among `endpoints`, which are sorted and belong to `service_port`.
pub(crate) fn choose(
    service_port: ServicePort,
    endpoints: Arc<[Endpoint]>,
    place: Place<'_>,
) -> PortForwarding {
    let uses_cluster = service_port.uses_cluster_endpoints();
    let uses_local = service_port.uses_local_endpoints();
    let topology = if uses_cluster { topology(&endpoints, place) } else { Topology::None };

    let allowed = |endpoint: &Endpoint| match topology {
        Topology::None => true,
        Topology::SameZone => place.zone.is_some_and(|zone| names(&endpoint.zone_hints, zone)),
        Topology::SameNode => names(&endpoint.node_hints, place.node),
    };
    let mut cluster = Vec::new();
    if uses_cluster {
        cluster = select(&endpoints, |endpoint| endpoint.conditions.ready && allowed(endpoint));
        if cluster.is_empty() {
            cluster = select(&endpoints, |endpoint| endpoint.conditions.serving_terminating());
        }
    }
    let mut local = Vec::new();
    if uses_local {
        local = select(&endpoints, |endpoint| endpoint.is_local && endpoint.conditions.ready);
        if local.is_empty() {
            local =
                select(&endpoints, |endpoint| endpoint.is_local && endpoint.conditions.serving_terminating());
        }
    }
    let usable = |endpoint: &Endpoint| endpoint.conditions.ready || endpoint.conditions.serving_terminating();
    let has_any_endpoint = !cluster.is_empty() || (uses_local && endpoints.iter().any(usable));
    let reachable = union(&cluster, &local);
    PortForwarding {
        service_port,
        endpoints,
        topology,
        cluster: cluster.into(),
        local: local.into(),
        reachable: reachable.into(),
        has_any_endpoint,
    }
}

/// Only ready endpoints count, and one without a hint switches that level of hints off: traffic must not
/// concentrate on the few that have one.
fn topology(endpoints: &[Endpoint], place: Place<'_>) -> Topology {
    let mut ready = endpoints.iter().filter(|endpoint| endpoint.conditions.ready).peekable();
    if ready.peek().is_none() {
        return Topology::None;
    }
    let mut nodes = Hinting::default();
    let mut zones = Hinting::default();
    for endpoint in ready {
        nodes.see(&endpoint.node_hints, Some(place.node));
        zones.see(&endpoint.zone_hints, place.zone);
    }
    if nodes.usable() {
        Topology::SameNode
    } else if zones.usable() {
        Topology::SameZone
    } else {
        Topology::None
    }
}

/// What the hints of one level say taken together.
#[derive(Default)]
struct Hinting {
    some_unhinted: bool,
    some_for_here: bool,
}

impl Hinting {
    fn see(&mut self, hints: &[Name], here: Option<&str>) {
        self.some_unhinted |= hints.is_empty();
        self.some_for_here |= here.is_some_and(|here| names(hints, here));
    }

    fn usable(&self) -> bool {
        self.some_for_here && !self.some_unhinted
    }
}

fn names(hints: &[Name], wanted: &str) -> bool {
    hints.iter().any(|hint| &**hint == wanted)
}

fn select(endpoints: &[Endpoint], wanted: impl Fn(&Endpoint) -> bool) -> Vec<u32> {
    let indices = (0u32..).zip(endpoints);
    indices.filter(|(_, endpoint)| wanted(endpoint)).map(|(index, _)| index).collect()
}

fn union(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut all: Vec<u32> = a.iter().chain(b).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Why an endpoint gets traffic on this node, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointUse {
    /// For all traffic that may use it.
    Ready,
    /// It is going away, but nothing ready is left.
    LastResort,
    /// It is going away, but nothing else on this node is ready, and the policy is Local.
    LocalLastResort,
    /// On this node: it takes what a Local policy keeps here, while hints send the rest elsewhere.
    LocalOnly,
    NotReady,
    /// It still answers, but is going away and others are ready.
    Terminating,
    /// Hints send this node's traffic to endpoints of its own zone.
    OtherZone,
    /// Hints send this node's traffic to endpoints on the node itself.
    OtherNode,
    /// The policy is Local, and the endpoint is on another node.
    NotLocal,
}

impl EndpointUse {
    pub fn is_used(self) -> bool {
        match self {
            EndpointUse::Ready
            | EndpointUse::LastResort
            | EndpointUse::LocalLastResort
            | EndpointUse::LocalOnly => true,
            EndpointUse::NotReady
            | EndpointUse::Terminating
            | EndpointUse::OtherZone
            | EndpointUse::OtherNode
            | EndpointUse::NotLocal => false,
        }
    }
}

impl fmt::Display for EndpointUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndpointUse::Ready => "ready",
            EndpointUse::LastResort => "terminating, but nothing ready is left",
            EndpointUse::LocalLastResort => "terminating, but nothing ready is left on this node",
            EndpointUse::LocalOnly => "ready, for traffic that must stay on this node",
            EndpointUse::NotReady => "not ready",
            EndpointUse::Terminating => "terminating",
            EndpointUse::OtherZone => "hinted for another zone",
            EndpointUse::OtherNode => "hinted for another node",
            EndpointUse::NotLocal => "on another node, and the policy is Local",
        })
    }
}

impl PortForwarding {
    /// Why the endpoint at `index` is in or out.
    ///
    /// # Panics
    /// If `index` is not one of `endpoints`.
    pub fn explain(&self, index: usize) -> EndpointUse {
        let endpoint = &self.endpoints[index];
        let ready = endpoint.conditions.ready;
        let uses_cluster = self.service_port.uses_cluster_endpoints();
        // The lists are sorted, since they are in the order of the endpoints.
        let within = |list: &[u32]| list.binary_search_by_key(&index, |&chosen| chosen as usize).is_ok();
        if within(&self.cluster) {
            return if ready { EndpointUse::Ready } else { EndpointUse::LastResort };
        }
        if within(&self.local) {
            return match (ready, uses_cluster) {
                (false, _) => EndpointUse::LocalLastResort,
                (true, false) => EndpointUse::Ready,
                (true, true) => EndpointUse::LocalOnly,
            };
        }
        let usable = ready || endpoint.conditions.serving_terminating();
        if !usable {
            return EndpointUse::NotReady;
        }
        if !uses_cluster && !endpoint.is_local {
            return EndpointUse::NotLocal;
        }
        match self.topology {
            _ if !ready => EndpointUse::Terminating,
            Topology::SameNode => EndpointUse::OtherNode,
            Topology::SameZone => EndpointUse::OtherZone,
            Topology::None => EndpointUse::NotLocal,
        }
    }
}

#[cfg(test)]
mod tests;
