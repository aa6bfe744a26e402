//! Endpoints from Services and pods: the older form, which some clients still read.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};

use super::endpointslice::{HEADLESS, TRIGGER_TIME};
use super::informer::Key;
use super::queue::{Queue, work};
use super::{Cluster, is_out_of_date, is_refused_by_namespace, pods};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OWN_NAME: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// In one object; the others are left out, and an annotation says so.
const MOST_ADDRESSES: usize = 1000;
const WORKERS: usize = 8;

pub(super) async fn run(client: Client, cluster: Arc<Cluster>) {
    let queue = Queue::default();
    watch(&cluster, &queue);
    cluster.synced().await;
    work(queue, WORKERS, "endpoints", |key| {
        let (client, cluster) = (client.clone(), cluster.clone());
        async move { sync(&client, &cluster, &key).await }
    })
    .await;
}

fn watch(cluster: &Arc<Cluster>, queue: &Queue<Key>) {
    let own = queue.clone();
    cluster.services.on_change(move |change| {
        if let Some(service) = change.latest() {
            own.add(Key::of(service));
        }
    });
    let own = queue.clone();
    cluster.endpoints.on_change(move |change| {
        // Those of Services that went while nobody looked are found here.
        if let Some(endpoints) = change.latest().filter(|endpoints| is_managed(endpoints)) {
            own.add(Key::of(endpoints));
        }
    });
    let (services, own) = (cluster.services.clone(), queue.clone());
    cluster.pods.on_change(move |change| {
        let namespace = change.latest().and_then(ResourceExt::namespace).unwrap_or_default();
        for service in services.in_namespace(&namespace) {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            if change.both().any(|pod| pods::selected(selector, pod.labels())) {
                own.add(Key::of(&*service));
            }
        }
    });
}

fn is_managed(endpoints: &Endpoints) -> bool {
    endpoints.labels().get(MANAGED_BY).is_some_and(|manager| manager == OWN_NAME)
}

async fn sync(client: &Client, cluster: &Cluster, key: &Key) -> Result<(), kube::Error> {
    let api = Api::<Endpoints>::namespaced(client.clone(), &key.namespace);
    let existing = cluster.endpoints.get(key);
    let Some(service) = cluster.services.get(key) else {
        return match existing {
            Some(endpoints) if is_managed(&endpoints) => {
                ignore_out_of_date(api.delete(&key.name, &DeleteParams::default()).await.map(drop))
            }
            _ => Ok(()),
        };
    };
    let pods = cluster.pods.in_namespace(&key.namespace);
    let Some(wanted) = endpoints(&service, pods.iter().map(|pod| &**pod)) else { return Ok(()) };
    match existing {
        Some(existing) if is_same(&existing, &wanted) => Ok(()),
        Some(existing) => {
            let mut wanted = wanted;
            wanted.metadata.resource_version.clone_from(&existing.metadata.resource_version);
            api.replace(&key.name, &PostParams::default(), &wanted).await.map(drop)
        }
        None => match api.create(&PostParams::default(), &wanted).await {
            Err(error) if is_refused_by_namespace(&error) => Ok(()),
            result => result.map(drop),
        },
    }
}

fn ignore_out_of_date(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if is_out_of_date(&error) => Ok(()),
        result => result,
    }
}

/// Whether a write would change anything that this controller says.
fn is_same(existing: &Endpoints, wanted: &Endpoints) -> bool {
    let subsets = |endpoints: &Endpoints| endpoints.subsets.clone().unwrap_or_default();
    subsets(existing) == subsets(wanted)
        && existing.labels() == wanted.labels()
        && existing.annotations().get(OVER_CAPACITY) == wanted.annotations().get(OVER_CAPACITY)
}

/// `None` for a Service whose endpoints somebody else looks after.
fn endpoints<'a>(service: &Service, pods: impl IntoIterator<Item = &'a Pod>) -> Option<Endpoints> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") || spec.selector.is_none() {
        return None;
    }
    let publishes_all = spec.publish_not_ready_addresses.unwrap_or_default();
    let wants_v4 =
        spec.ip_families.as_ref().and_then(|families| families.first()).map(|family| family == "IPv4");
    let mut addresses: BTreeMap<String, Addresses> = BTreeMap::new();
    let mut triggered = Vec::new();
    for pod in pods.into_iter().filter(|pod| pods::selected(spec.selector.as_ref(), pod.labels())) {
        let terminating = pod.metadata.deletion_timestamp.is_some();
        if pods::is_done(pod) || (terminating && !publishes_all) {
            continue;
        }
        let of_family = |address: &std::net::IpAddr| wants_v4.is_none_or(|v4| address.is_ipv4() == v4);
        let Some(ip) = pods::addresses(pod).into_iter().find(of_family) else { continue };
        let ports = ports(service, pod);
        let entry = addresses.entry(format!("{ports:?}")).or_insert_with(|| Addresses::of(ports));
        let is_ready = publishes_all || pods::is_ready(pod);
        let list = if is_ready { &mut entry.ready } else { &mut entry.not_ready };
        list.push(address(service, pod, ip.to_string()));
        triggered.extend(
            pods::condition(pod, "Ready").and_then(|condition| condition.last_transition_time.clone()),
        );
    }
    let mut groups: Vec<Addresses> = addresses.into_values().collect();
    let truncated = truncate(&mut groups);
    let mut endpoints = Endpoints {
        subsets: Some(groups.into_iter().map(Addresses::into_subset).collect()),
        ..Endpoints::default()
    };
    endpoints.metadata.name = service.metadata.name.clone();
    endpoints.metadata.namespace = service.metadata.namespace.clone();
    let labels = endpoints.labels_mut();
    labels.clone_from(service.labels());
    labels.insert(MANAGED_BY.to_owned(), OWN_NAME.to_owned());
    if matches!(spec.cluster_ip.as_deref(), None | Some("" | "None")) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    if truncated {
        endpoints.annotations_mut().insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    if let Some(time) = triggered.iter().map(|time| time.0).max() {
        endpoints.annotations_mut().insert(TRIGGER_TIME.to_owned(), Timestamp::to_string(&time));
    }
    Some(endpoints)
}

/// Addresses of pods that have the same ports.
struct Addresses {
    ports: Vec<EndpointPort>,
    ready: Vec<EndpointAddress>,
    not_ready: Vec<EndpointAddress>,
}

impl Addresses {
    fn of(ports: Vec<EndpointPort>) -> Addresses {
        Addresses { ports, ready: Vec::new(), not_ready: Vec::new() }
    }

    fn into_subset(mut self) -> EndpointSubset {
        let sorted = |addresses: &mut Vec<EndpointAddress>| {
            addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
            Some(std::mem::take(addresses)).filter(|addresses| !addresses.is_empty())
        };
        EndpointSubset {
            addresses: sorted(&mut self.ready),
            not_ready_addresses: sorted(&mut self.not_ready),
            ports: Some(self.ports).filter(|ports| !ports.is_empty()),
        }
    }
}

/// Ready addresses stay before others. True if some had to go.
fn truncate(groups: &mut [Addresses]) -> bool {
    let mut room = MOST_ADDRESSES;
    let before: usize = groups.iter().map(|group| group.ready.len() + group.not_ready.len()).sum();
    for group in groups.iter_mut() {
        group.ready.truncate(room);
        room -= group.ready.len();
    }
    for group in groups.iter_mut() {
        group.not_ready.truncate(room);
        room -= group.not_ready.len();
    }
    before > MOST_ADDRESSES
}

fn address(service: &Service, pod: &Pod, ip: String) -> EndpointAddress {
    let spec = pod.spec.clone().unwrap_or_default();
    let has_name = spec.subdomain.as_deref() == Some(&service.name_any());
    EndpointAddress {
        ip,
        hostname: spec.hostname.filter(|name| has_name && !name.is_empty()),
        node_name: spec.node_name,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    }
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = super::endpointslice::ports(service, pod).into_iter();
    ports
        .map(|port| EndpointPort {
            app_protocol: port.app_protocol,
            name: port.name.filter(|name| !name.is_empty()),
            port: port.port.unwrap_or_default(),
            protocol: port.protocol,
        })
        .collect()
}
