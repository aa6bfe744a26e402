//! EndpointSlices from Services and pods.

mod endpoints;
mod hints;
mod pack;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};

use super::informer::{Change, Key};
use super::queue::{Queue, work};
use super::{Cluster, is_refused_by_namespace, pods};
use endpoints::{Family, families};
pub(super) use endpoints::{port_key, ports};
use pack::{Template, Writes, pack};

pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";
pub(super) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const OWN_NAME: &str = "endpointslice-controller.k8s.io";
/// `--max-endpoints-per-slice` of upstream.
const MOST_ENDPOINTS: usize = 100;
const WORKERS: usize = 8;

#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error("own writes have not come back yet")]
    Stale,
    #[error("a pod is on a node that is not known yet")]
    NodeIsMissing,
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// What was written, and when what it shows happened.
#[derive(Debug, Default)]
struct Memory {
    /// The revisions of own writes that the watch has not shown yet, by Service and slice.
    written: HashMap<Key, HashMap<String, u64>>,
    /// The latest time that a slice of the Service was due to.
    seen_until: HashMap<Key, Timestamp>,
}

struct Controller {
    client: Client,
    cluster: Arc<Cluster>,
    memory: Mutex<Memory>,
}

pub(super) async fn run(client: Client, cluster: Arc<Cluster>) {
    let queue = Queue::default();
    let controller = Arc::new(Controller { client, cluster: cluster.clone(), memory: Mutex::default() });
    watch(&controller, &queue);
    cluster.synced().await;
    work(queue, WORKERS, "endpointslice", |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

fn watch(controller: &Arc<Controller>, queue: &Queue<Key>) {
    let cluster = &controller.cluster;
    let of_services = queue.clone();
    cluster.services.on_change(move |change| {
        if let Some(service) = change.latest() {
            of_services.add(Key::of(service));
        }
    });
    let (services, of_pods) = (cluster.services.clone(), queue.clone());
    cluster.pods.on_change(move |change| {
        if !matters(change) {
            return;
        }
        let namespace = change.latest().and_then(ResourceExt::namespace).unwrap_or_default();
        for service in services.in_namespace(&namespace) {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            if change.both().any(|pod| pods::selected(selector, pod.labels())) {
                of_pods.add(Key::of(&*service));
            }
        }
    });
    let (own, of_slices) = (controller.clone(), queue.clone());
    cluster.endpoint_slices.on_change(move |change| {
        if change.new.is_none()
            && let Some(slice) = change.old
        {
            own.forget(slice);
        }
        for slice in change.both().filter(|slice| is_managed(slice)) {
            // An own write asks for one look that finds nothing to do.
            of_slices.add(owner_key(slice));
        }
    });
    let (services, of_nodes) = (cluster.services.clone(), queue.clone());
    cluster.nodes.on_change(move |change| {
        let zone = |node: Option<&k8s_openapi::api::core::v1::Node>| {
            node.map(|node| node.labels().get(endpoints::ZONE).cloned())
        };
        if zone(change.old) != zone(change.new) {
            services.all().iter().for_each(|service| of_nodes.add(Key::of(&**service)));
        }
    });
}

/// Whether a change of a pod can change an endpoint.
fn matters(change: &Change<'_, Pod>) -> bool {
    let (Some(old), Some(new)) = (change.old, change.new) else { return true };
    let relevant = |pod: &Pod| {
        let spec = pod.spec.clone().unwrap_or_default();
        (
            pod.metadata.deletion_timestamp.clone(),
            pods::is_ready(pod),
            pods::is_done(pod),
            pods::addresses(pod),
            pod.metadata.labels.clone(),
            (spec.hostname, spec.subdomain, spec.node_name),
        )
    };
    relevant(old) != relevant(new)
}

fn is_managed(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == OWN_NAME)
}

fn owner_key(slice: &EndpointSlice) -> Key {
    let service = slice.labels().get(SERVICE_NAME).map(String::as_str).unwrap_or_default();
    Key::new(&slice.namespace().unwrap_or_default(), service)
}

impl Controller {
    async fn sync(&self, key: &Key) -> Result<(), SyncError> {
        let Some(service) = self.cluster.services.get(key) else {
            // Its slices go with it, by their owner reference.
            self.memory().seen_until.remove(key);
            return Ok(());
        };
        let spec = service.spec.clone().unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") || spec.selector.is_none() {
            return Ok(());
        }
        let existing = self.existing(key)?;
        let pods: Vec<Arc<Pod>> = self.cluster.pods.in_namespace(&key.namespace);
        let pods: Vec<&Pod> = pods
            .iter()
            .map(|pod| &**pod)
            .filter(|pod| pods::selected(spec.selector.as_ref(), pod.labels()))
            .collect();
        let trigger_time = self.trigger_time(key, &service, &pods);
        let mut node_is_missing = false;
        let families = families(&service);
        let mut writes = Writes {
            delete: existing.iter().filter(|slice| !is_of(slice, &families)).cloned().collect(),
            ..Writes::default()
        };
        for family in families {
            let node = |name: &str| self.cluster.nodes.get(&Key::new("", name));
            let mut wanted = endpoints::endpoints(&service, pods.iter().copied(), node, family);
            hints::set(&service, &mut wanted.groups);
            node_is_missing |= wanted.node_is_missing;
            let of_family =
                existing.iter().filter(|slice| slice.address_type == family.name()).cloned().collect();
            let template = ServiceTemplate { service: &service, family, trigger_time };
            let of_family = pack(wanted.groups, of_family, &template, MOST_ENDPOINTS);
            writes.create.extend(of_family.create);
            writes.update.extend(of_family.update);
            writes.delete.extend(of_family.delete);
        }
        self.write(key, &service, writes).await?;
        if node_is_missing { Err(SyncError::NodeIsMissing) } else { Ok(()) }
    }

    /// The slices of a Service, if all that was written of them has come back.
    fn existing(&self, key: &Key) -> Result<Vec<EndpointSlice>, SyncError> {
        let slices: Vec<EndpointSlice> = self
            .cluster
            .endpoint_slices
            .in_namespace(&key.namespace)
            .iter()
            .filter(|slice| is_managed(slice) && owner_key(slice) == *key)
            .map(|slice| (**slice).clone())
            .collect();
        let mut memory = self.memory();
        if let Some(written) = memory.written.get_mut(key) {
            written.retain(|name, revision| {
                let seen = slices.iter().find(|slice| slice.name_any() == *name).map(self::revision);
                seen.is_none_or(|seen| seen < *revision)
            });
            if !written.is_empty() {
                return Err(SyncError::Stale);
            }
            memory.written.remove(key);
        }
        Ok(slices.into_iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()).collect())
    }

    async fn write(&self, key: &Key, service: &Service, writes: Writes) -> Result<(), SyncError> {
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &key.namespace);
        if service.metadata.deletion_timestamp.is_none() {
            for slice in &writes.create {
                match api.create(&PostParams::default(), slice).await {
                    Ok(created) => self.remember(key, &created),
                    Err(error) if is_refused_by_namespace(&error) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        for slice in &writes.update {
            let written = api.replace(&slice.name_any(), &PostParams::default(), slice).await?;
            self.remember(key, &written);
        }
        for slice in &writes.delete {
            match api.delete(&slice.name_any(), &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                result => drop(result?),
            }
        }
        Ok(())
    }

    fn remember(&self, key: &Key, slice: &EndpointSlice) {
        let mut memory = self.memory();
        memory.written.entry(key.clone()).or_default().insert(slice.name_any(), revision(slice));
    }

    fn forget(&self, slice: &EndpointSlice) {
        let mut memory = self.memory();
        if let Some(written) = memory.written.get_mut(&owner_key(slice)) {
            written.remove(&slice.name_any());
        }
    }

    /// When the earliest change happened that this sync is the first to see.
    fn trigger_time(&self, key: &Key, service: &Service, pods: &[&Pod]) -> Option<Timestamp> {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let of_pods = pods
            .iter()
            .filter_map(|pod| Some(pods::condition(pod, "Ready")?.last_transition_time.as_ref()?.0));
        let times: Vec<Timestamp> = of_pods.chain(created).collect();
        let latest = times.iter().max().copied()?;
        match self.memory().seen_until.insert(key.clone(), latest) {
            None => created,
            Some(seen) => times.into_iter().filter(|time| *time > seen).min(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of(slice: &EndpointSlice, families: &[Family]) -> bool {
    families.iter().any(|family| family.name() == slice.address_type)
}

/// Resource versions of this API are numbers that grow; against another server, a version that is none counts as old.
fn revision(slice: &EndpointSlice) -> u64 {
    slice.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// The metadata of the slices of one Service.
struct ServiceTemplate<'a> {
    service: &'a Service,
    family: Family,
    trigger_time: Option<Timestamp>,
}

impl ServiceTemplate<'_> {
    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.service.labels().clone();
        labels.insert(SERVICE_NAME.to_owned(), self.service.name_any());
        labels.insert(MANAGED_BY.to_owned(), OWN_NAME.to_owned());
        labels.remove(HEADLESS);
        let address = self.service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
        if matches!(address, None | Some("" | "None")) {
            labels.insert(HEADLESS.to_owned(), String::new());
        }
        labels
    }
}

impl Template for ServiceTemplate<'_> {
    fn empty(&self) -> EndpointSlice {
        let mut slice = EndpointSlice {
            address_type: self.family.name().to_owned(),
            endpoints: Some(Vec::new()),
            ports: Some(Vec::new()),
            ..EndpointSlice::default()
        };
        slice.metadata.generate_name = Some(format!("{}-", self.service.name_any()));
        slice.metadata.namespace = self.service.namespace();
        slice.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Service".to_owned(),
            name: self.service.name_any(),
            uid: self.service.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]);
        slice
    }

    fn dress(&self, slice: &mut EndpointSlice) -> bool {
        match self.trigger_time {
            Some(time) => drop(slice.annotations_mut().insert(TRIGGER_TIME.to_owned(), time.to_string())),
            None => drop(slice.annotations_mut().remove(TRIGGER_TIME)),
        }
        let labels = self.labels();
        let differs = *slice.labels() != labels;
        *slice.labels_mut() = labels;
        differs
    }

    fn owns(&self, slice: &EndpointSlice) -> bool {
        let uid = self.service.uid().unwrap_or_default();
        slice.owner_references().iter().any(|owner| owner.uid == uid && owner.kind == "Service")
    }
}
