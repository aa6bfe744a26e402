//! Which UDP flows in the connection tracking table lead to endpoints that are gone.
//!
//! A flow keeps the destination it was first translated to for as long as packets keep coming. TCP clients notice a
//! dead endpoint and open a new connection; a UDP client that goes on sending from one port never would, so its entry
//! has to be deleted. Only then is the next packet taken through the rules again.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use switchyard_model::{Forwarding, PortForwarding, Protocol};

/// Where UDP flows to service addresses may lead. Built once a clean-up, asked once an entry of the table.
#[derive(Debug, Default)]
pub struct StaleFlows {
    /// Indices into `backends`.
    by_address: HashMap<SocketAddr, usize>,
    by_node_port: HashMap<u16, usize>,
    /// The serving endpoints of a service port each, whatever policies and topology say: a flow that began under
    /// another policy goes on.
    backends: Vec<HashSet<SocketAddr>>,
}

impl StaleFlows {
    pub fn new(forwarding: &Forwarding) -> StaleFlows {
        let mut flows = StaleFlows::default();
        for port in forwarding.ports.values().filter(|port| port.service_port.protocol == Protocol::Udp) {
            flows.add(port);
        }
        flows
    }

    // Without a serving endpoint there is nowhere better to go: such flows are left alone, as upstream does.
    fn add(&mut self, port: &PortForwarding) {
        let serving = port.endpoints.iter().filter(|endpoint| endpoint.conditions.serving);
        let backends: HashSet<SocketAddr> =
            serving.map(|endpoint| SocketAddr::new(endpoint.address, endpoint.port)).collect();
        if backends.is_empty() {
            return;
        }
        let index = self.backends.len();
        self.backends.push(backends);
        let service = &port.service_port;
        for &address in
            [service.cluster_ip].iter().chain(&service.load_balancer_ips).chain(&service.external_ips)
        {
            self.by_address.insert(SocketAddr::new(address, service.port), index);
        }
        if let Some(node_port) = service.node_port {
            self.by_node_port.insert(node_port, index);
        }
    }

    /// No UDP service has a serving endpoint: no flow can be stale and the table need not be read.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// Whether a UDP flow that was sent to `original_destination` and is answered from `reply_source` should be
    /// forgotten. A flow that was never translated is answered from the service address itself, and is stale too:
    /// it began while the service had no endpoint.
    pub fn is_stale(&self, original_destination: SocketAddr, reply_source: SocketAddr) -> bool {
        let by_address = self.by_address.get(&original_destination);
        // A node port counts on whatever address: nobody knows any more which were local when the flow began.
        let by_node_port = self.by_node_port.get(&original_destination.port());
        by_address.into_iter().chain(by_node_port).any(|&index| !self.backends[index].contains(&reply_source))
    }
}
