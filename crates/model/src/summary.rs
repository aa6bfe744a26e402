//! What health checks and gauges need to know of a Forwarding.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use switchyard_api::ObjectKey;

use crate::{Forwarding, Verdict};

/// Service ports whose Local policy finds endpoints elsewhere, but none on this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WithoutLocalEndpoints {
    pub internal: usize,
    pub external: usize,
}

impl Forwarding {
    /// The ports on which load balancers ask whether this node has endpoints of a Service.
    pub fn health_check_ports(&self) -> BTreeMap<ObjectKey, u16> {
        let ports = self.ports.iter();
        ports.filter_map(|(n, p)| Some((n.service.clone(), p.service_port.health_check_node_port?))).collect()
    }

    /// How many pods of each Service are ready on this node: distinct addresses, over all of its ports.
    pub fn local_ready_endpoint_counts(&self) -> BTreeMap<ObjectKey, usize> {
        let mut addresses: BTreeMap<ObjectKey, BTreeSet<IpAddr>> = BTreeMap::new();
        for (name, port) in &self.ports {
            let ready =
                port.endpoints.iter().filter(|endpoint| endpoint.is_local && endpoint.conditions.ready);
            let mut ready = ready.map(|endpoint| endpoint.address).peekable();
            if ready.peek().is_some() {
                addresses.entry(name.service.clone()).or_default().extend(ready);
            }
        }
        addresses.into_iter().map(|(service, addresses)| (service, addresses.len())).collect()
    }

    pub fn ports_without_local_endpoints(&self) -> WithoutLocalEndpoints {
        let mut counts = WithoutLocalEndpoints::default();
        for port in self.ports.values() {
            counts.internal += usize::from(port.internal_verdict() == Verdict::Drop);
            // A Local policy counts only where something can come from outside.
            let external =
                port.service_port.externally_accessible && port.external_verdict() == Verdict::Drop;
            counts.external += usize::from(external);
        }
        counts
    }
}
