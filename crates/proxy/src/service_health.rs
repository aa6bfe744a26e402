//! Health check node ports: load balancers ask here whether this node has endpoints of a Service with a Local external
//! traffic policy.
//!
//! Each address family has its own [`ServiceHealth`]. The thread that syncs the rules calls it after every success;
//! the servers run on the process's runtime.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderValue, StatusCode};
use switchyard_api::{IpFamily, ObjectKey};
use tokio::runtime::Handle;

use crate::health::ProxyHealth;
use crate::http_server::{Handler, Reach, Reply, Server, json, listen};
use crate::{klog_error, klog_info, logging};

/// A health check port could not be opened. The next [`ServiceHealth::sync`] tries again.
#[derive(Debug, thiserror::Error)]
#[error("node {node} failed to start healthcheck {:?} on port {port}: listen {address}: {source}", service.to_string())]
pub struct ListenError {
    pub service: ObjectKey,
    pub port: u16,
    node: String,
    address: SocketAddr,
    source: io::Error,
}

/// Where health check ports listen, decided once at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddresses {
    Wildcard,
    /// The node's addresses inside nodePortAddresses, of either family. None at all means no server, silently.
    These(Vec<IpAddr>),
}

/// The health check servers of one address family.
#[derive(Debug)]
pub struct ServiceHealth {
    /// Of this family only.
    addresses: Vec<IpAddr>,
    node: String,
    runtime: Handle,
    health: Arc<ProxyHealth>,
    services: BTreeMap<ObjectKey, Entry>,
}

#[derive(Debug)]
struct Entry {
    port: u16,
    /// Shared with the handlers of all addresses.
    local_endpoints: Arc<AtomicUsize>,
    /// One an address; dropping them closes the port.
    servers: Vec<Server>,
}

impl ServiceHealth {
    /// `node` is this node's name, for errors and events.
    pub fn new(
        family: IpFamily,
        addresses: &ListenAddresses,
        node: &str,
        runtime: Handle,
        health: Arc<ProxyHealth>,
    ) -> ServiceHealth {
        let addresses = match (addresses, family) {
            (ListenAddresses::Wildcard, IpFamily::V4) => vec![Ipv4Addr::UNSPECIFIED.into()],
            (ListenAddresses::Wildcard, IpFamily::V6) => vec![Ipv6Addr::UNSPECIFIED.into()],
            (ListenAddresses::These(list), family) => {
                list.iter().copied().filter(|address| IpFamily::of(*address) == family).collect()
            }
        };
        ServiceHealth { addresses, node: node.to_owned(), runtime, health, services: BTreeMap::new() }
    }

    /// Opens the desired ports and closes all others, then reports the counts: for each Service the number of distinct
    /// addresses of its ready endpoints on this node, none where a Service is missing. Failures are logged here and
    /// returned so that each can become an event.
    pub fn sync(
        &mut self,
        desired: &BTreeMap<ObjectKey, u16>,
        local_endpoints: &BTreeMap<ObjectKey, usize>,
    ) -> Vec<ListenError> {
        self.close_others(desired);
        let mut failures = Vec::new();
        for (service, &port) in desired {
            let count = local_endpoints.get(service).copied().unwrap_or(0);
            klog_info!(
                v = 3,
                "Reporting endpoints for healthcheck",
                endpointCount = count,
                service = service
            );
            if let Some(entry) = self.services.get(service) {
                klog_info!(v = 3, "Existing healthcheck", service = service, port = port);
                entry.local_endpoints.store(count, Ordering::Relaxed);
                continue;
            }
            klog_info!(v = 2, "Opening healthcheck", service = service, port = port);
            match self.open(service, port, count) {
                Ok(entry) => drop(self.services.insert(service.clone(), entry)),
                Err(error) => {
                    klog_error!(
                        "Failed to start healthcheck",
                        err = logging::text(&error.source),
                        node = &error.node,
                        service = service,
                        port = port,
                    );
                    failures.push(error);
                }
            }
        }
        failures
    }

    fn close_others(&mut self, desired: &BTreeMap<ObjectKey, u16>) {
        self.services.retain(|service, entry| {
            let stays = desired.get(service) == Some(&entry.port);
            if !stays {
                klog_info!(v = 2, "Closing healthcheck", service = service, port = entry.port);
            }
            stays
        });
    }

    /// Listens on all addresses or on none.
    fn open(&self, service: &ObjectKey, port: u16, count: usize) -> Result<Entry, ListenError> {
        let local_endpoints = Arc::new(AtomicUsize::new(count));
        let handler = handler(service.clone(), local_endpoints.clone(), self.health.clone());
        let mut servers = Vec::with_capacity(self.addresses.len());
        for &address in &self.addresses {
            let address = SocketAddr::new(address, port);
            let server = listen(address, Reach::OwnFamily)
                .and_then(|listener| Server::start(&self.runtime, listener, handler.clone()))
                .map_err(|source| ListenError {
                    service: service.clone(),
                    port,
                    node: self.node.clone(),
                    address,
                    source,
                })?;
            servers.push(server);
        }
        Ok(Entry { port, local_endpoints, servers })
    }

    /// The addresses that answer for a Service; empty for one without an open port.
    pub fn listening(&self, service: &ObjectKey) -> Vec<SocketAddr> {
        self.services.get(service).into_iter().flat_map(|entry| &entry.servers).map(Server::address).collect()
    }
}

/// Any path, any method. The node's own taints have no say: the Service's endpoints here still work.
fn handler(service: ObjectKey, local_endpoints: Arc<AtomicUsize>, health: Arc<ProxyHealth>) -> Handler {
    Arc::new(move |_| answer(&service, local_endpoints.load(Ordering::Relaxed), health.report().healthy))
}

/// The body's layout is part of the contract: people read it with grep.
fn answer(service: &ObjectKey, local_endpoints: usize, healthy: bool) -> Reply {
    let status =
        if local_endpoints > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let ObjectKey { namespace, name } = service;
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\
         \t\"localEndpoints\": {local_endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    let mut reply = json(status, body);
    reply.headers_mut().insert("X-Load-Balancing-Endpoint-Weight", HeaderValue::from(local_endpoints));
    reply
}

#[cfg(test)]
mod tests;
