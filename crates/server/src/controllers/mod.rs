//! What brings about what the objects ask for. Every controller is a client of the API like any other: it learns of changes
//! by watching and acts by writing, so it works against any API server, and several may run at once.
//!
//! Each is a pure core, from what is observed to what is to be written, in a thin loop over a [`queue`].

mod addresses;
mod defaults;
mod deployment;
mod endpoints;
mod endpointslice;
mod events;
mod garbage;
mod informer;
mod mirroring;
mod namespace;
mod nodes;
mod pods;
mod queue;
mod replicaset;
mod scheduler;
mod service_cidr;

use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::Client;
use tokio::task::JoinSet;

use informer::Informer;

/// What the controllers must know besides the objects.
#[derive(Debug, Clone)]
pub struct ControllerSettings {
    /// Nodes get their pod CIDRs out of these, one a family; none if it is empty.
    pub cluster_cidrs: Vec<IpNet>,
    /// What pods trust the API server by, in the ConfigMap `kube-root-ca.crt` of every namespace.
    pub root_ca_pem: String,
}

/// What all controllers know of the cluster.
#[derive(Debug, Default)]
struct Cluster {
    services: Arc<Informer<Service>>,
    pods: Arc<Informer<Pod>>,
    nodes: Arc<Informer<Node>>,
    leases: Arc<Informer<Lease>>,
    namespaces: Arc<Informer<Namespace>>,
    endpoint_slices: Arc<Informer<EndpointSlice>>,
    endpoints: Arc<Informer<Endpoints>>,
    deployments: Arc<Informer<Deployment>>,
    replica_sets: Arc<Informer<ReplicaSet>>,
    service_accounts: Arc<Informer<ServiceAccount>>,
    config_maps: Arc<Informer<ConfigMap>>,
    service_cidrs: Arc<Informer<ServiceCIDR>>,
    ip_addresses: Arc<Informer<IPAddress>>,
}

impl Cluster {
    fn follow(&self, client: &Client, tasks: &mut JoinSet<()>) {
        tasks.spawn(self.services.clone().follow(client.clone()));
        tasks.spawn(self.pods.clone().follow(client.clone()));
        tasks.spawn(self.nodes.clone().follow(client.clone()));
        tasks.spawn(self.leases.clone().follow(client.clone()));
        tasks.spawn(self.namespaces.clone().follow(client.clone()));
        tasks.spawn(self.endpoint_slices.clone().follow(client.clone()));
        tasks.spawn(self.endpoints.clone().follow(client.clone()));
        tasks.spawn(self.deployments.clone().follow(client.clone()));
        tasks.spawn(self.replica_sets.clone().follow(client.clone()));
        tasks.spawn(self.service_accounts.clone().follow(client.clone()));
        tasks.spawn(self.config_maps.clone().follow(client.clone()));
        tasks.spawn(self.service_cidrs.clone().follow(client.clone()));
        tasks.spawn(self.ip_addresses.clone().follow(client.clone()));
    }

    /// Nothing is decided on half of the objects.
    async fn synced(&self) {
        self.services.synced().await;
        self.pods.synced().await;
        self.nodes.synced().await;
        self.leases.synced().await;
        self.namespaces.synced().await;
        self.endpoint_slices.synced().await;
        self.endpoints.synced().await;
        self.deployments.synced().await;
        self.replica_sets.synced().await;
        self.service_accounts.synced().await;
        self.config_maps.synced().await;
        self.service_cidrs.synced().await;
        self.ip_addresses.synced().await;
    }
}

/// Runs all controllers until it is dropped.
pub async fn run(client: Client, settings: ControllerSettings) {
    let cluster = Arc::new(Cluster::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(endpointslice::run(client.clone(), cluster.clone()));
    tasks.spawn(endpoints::run(client.clone(), cluster.clone()));
    tasks.spawn(mirroring::run(client.clone(), cluster.clone()));
    tasks.spawn(replicaset::run(client.clone(), cluster.clone()));
    tasks.spawn(deployment::run(client.clone(), cluster.clone()));
    tasks.spawn(scheduler::run(client.clone(), cluster.clone()));
    tasks.spawn(namespace::run(client.clone(), cluster.clone()));
    tasks.spawn(nodes::run(client.clone(), cluster.clone(), settings.cluster_cidrs));
    tasks.spawn(defaults::run(client.clone(), cluster.clone(), settings.root_ca_pem));
    tasks.spawn(service_cidr::run(client.clone(), cluster.clone()));
    tasks.spawn(addresses::run(client.clone(), cluster.clone()));
    tasks.spawn(garbage::run(client.clone()));
    cluster.follow(&client, &mut tasks);
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller ended");
        }
    }
}

/// A write that failed because what it was made from is out of date: the next look at it will be a newer one.
fn is_out_of_date(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
}

/// Writes into a namespace on its way out are refused; nothing is left to be done there.
fn is_refused_by_namespace(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 && status.message.contains("is being terminated"))
}
