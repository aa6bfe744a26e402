//! What a trace has to know of the cluster, read once.

use std::net::IpAddr;

use http_body_util::BodyExt;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use switchyard_api::address::parse_cidr;
use switchyard_api::{EndpointSlice, IpFamily, Metadata, Node, Service};
use switchyard_model::{Forwarding, ServiceTable, TableOptions};

use crate::client::ApiClient;
use crate::config::Configuration;
use crate::inspect::node_facts;
use crate::mode::iptables::NodeFacts;
use crate::source::manifests::{ManifestSourceError, read_once};
use crate::source::opened::SourceError;
use crate::source::{Change, Update};
use crate::{klog_warning, logging};

/// All Nodes, Services and EndpointSlices; and Pods, which only an API server tells of.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub services: Vec<Service>,
    pub slices: Vec<EndpointSlice>,
    pub pods: Vec<Pod>,
}

/// A pod and where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// Empty before it is scheduled.
    pub node: String,
    /// Empty before it has any.
    pub addresses: Vec<IpAddr>,
    pub host_network: bool,
}

impl Cluster {
    /// Reads it from where the configuration says.
    ///
    /// # Errors
    /// If there is no API server, if it refuses, or if a file cannot be read.
    pub(super) async fn read(config: &Configuration) -> Result<Cluster, ReadError> {
        match &config.manifests {
            Some(path) => Ok(Cluster::of_updates(read_once(path, None)?)),
            None => {
                Cluster::of_api(&ApiClient::configured(config, None).await.map_err(SourceError::from)?).await
            }
        }
    }

    fn of_updates(updates: Vec<Update>) -> Cluster {
        let mut cluster = Cluster::default();
        for update in updates {
            match update {
                Update::Node(Change::Set(node)) => cluster.nodes.push(node),
                Update::Service(Change::Set(service)) => cluster.services.push(service),
                Update::EndpointSlice(Change::Set(slice)) => cluster.slices.push(slice),
                Update::Malformed(malformed) => warn(&malformed.object),
                _ => {}
            }
        }
        cluster
    }

    async fn of_api(client: &ApiClient) -> Result<Cluster, ReadError> {
        Ok(Cluster {
            nodes: list(client, "/api/v1/nodes").await?,
            services: list(client, "/api/v1/services").await?,
            slices: list(client, "/apis/discovery.k8s.io/v1/endpointslices").await?,
            pods: list::<PodObject>(client, "/api/v1/pods").await?.into_iter().map(Pod::from).collect(),
        })
    }

    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| *node.metadata.name == *name)
    }

    /// The node that has an address itself.
    pub fn node_at(&self, address: IpAddr) -> Option<&Node> {
        self.nodes.iter().find(|node| node.ips().contains(&address))
    }

    /// The node whose pods have addresses like this one.
    pub fn node_of_pods_at(&self, address: IpAddr) -> Option<&Node> {
        self.nodes.iter().find(|node| pod_cidrs(node).iter().any(|range| range.contains(&address)))
    }

    pub fn pod_at(&self, address: IpAddr) -> Option<&Pod> {
        self.pods.iter().find(|pod| !pod.host_network && pod.addresses.contains(&address))
    }

    /// What the proxy of a node works with.
    pub(super) fn seen_from(
        &self,
        node: &str,
        family: IpFamily,
        config: &Configuration,
    ) -> (Forwarding, NodeFacts) {
        let allow_external_ips = config.feature_gates.enabled("AllowServiceExternalIPs");
        let mut table = ServiceTable::new(TableOptions { node_name: node.into(), allow_external_ips });
        let node = self.node(node);
        table.set_zone(node.and_then(|node| node.zone().cloned()));
        for service in &self.services {
            let _ = table.set_service(service);
        }
        for slice in &self.slices {
            let _ = table.set_slice(slice);
        }
        (table.commit(family).forwarding, node_facts(node, config))
    }
}

/// `spec.podCIDRs`, without what is none.
pub(super) fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    node.spec.pod_cidrs.iter().filter_map(|text| parse_cidr(text)).collect()
}

/// A cluster that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Manifests(#[from] ManifestSourceError),
    #[error("reading {path} from the API server: {cause}")]
    List { path: &'static str, cause: String },
}

#[derive(Deserialize)]
struct List {
    items: Vec<serde_json::Value>,
}

/// Objects that cannot be read are left out, as the proxy leaves them out.
async fn list<T: DeserializeOwned>(client: &ApiClient, path: &'static str) -> Result<Vec<T>, ReadError> {
    let failed = |cause: String| ReadError::List { path, cause };
    let answer = client.get(path).await.map_err(|error| failed(error.to_string()))?;
    let body = answer.into_body().collect().await.map_err(|error| failed(error.to_string()))?;
    let list: List = serde_json::from_slice(&body.to_bytes()).map_err(|error| failed(error.to_string()))?;
    let objects = list.items.into_iter().map(serde_json::from_value);
    Ok(objects.filter_map(|object| object.inspect_err(|error| warn(error)).ok()).collect())
}

fn warn(error: &(dyn std::error::Error + 'static)) {
    klog_warning!("Skipping an object that cannot be read", err = logging::error(error));
}

#[derive(Deserialize)]
struct PodObject {
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    host_network: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    #[serde(rename = "podIPs")]
    addresses: Vec<PodAddress>,
}

#[derive(Deserialize)]
struct PodAddress {
    ip: String,
}

impl From<PodObject> for Pod {
    fn from(pod: PodObject) -> Pod {
        Pod {
            namespace: pod.metadata.namespace.to_string(),
            name: pod.metadata.name.to_string(),
            node: pod.spec.node_name,
            addresses: pod.status.addresses.iter().filter_map(|address| address.ip.parse().ok()).collect(),
            host_network: pod.spec.host_network,
        }
    }
}
