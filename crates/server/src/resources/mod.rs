//! The resources, a file each. Adding one is adding a file and its line in [`all`].

mod configmaps;
mod defaults;
mod deployments;
mod endpoints;
mod endpointslices;
mod events;
mod ipaddresses;
mod ips;
mod keys;
mod leases;
pub mod names;
mod namespaces;
mod nodes;
mod pods;
mod replicasets;
mod secrets;
mod serviceaccounts;
mod servicecidrs;
mod services;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
mod workloads;

use std::sync::Arc;

use crate::registry::Resource;

/// What a port may carry, as errors list it.
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Every resource, in the order of discovery.
pub fn all() -> Vec<Arc<dyn Resource>> {
    vec![
        Arc::new(configmaps::ConfigMaps),
        Arc::new(endpoints::Endpoints),
        Arc::new(events::CoreEvents),
        Arc::new(namespaces::Namespaces),
        Arc::new(nodes::Nodes),
        Arc::new(pods::Pods),
        Arc::new(secrets::Secrets),
        Arc::new(serviceaccounts::ServiceAccounts),
        Arc::new(services::Services),
        Arc::new(deployments::Deployments),
        Arc::new(replicasets::ReplicaSets),
        Arc::new(leases::Leases),
        Arc::new(endpointslices::EndpointSlices),
        Arc::new(events::Events),
        Arc::new(ipaddresses::IpAddresses),
        Arc::new(servicecidrs::ServiceCidrs),
    ]
}
