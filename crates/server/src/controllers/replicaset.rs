//! ReplicaSets keep as many pods as they ask for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::events::Events;
use super::informer::Key;
use super::queue::{Queue, work};
use super::{Cluster, is_out_of_date, is_refused_by_namespace, pods};

const WORKERS: usize = 4;
/// Created or deleted in one look, so that one huge ReplicaSet does not hold up the others.
const MOST_AT_ONCE: usize = 500;

#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error("own pods have not come back yet")]
    Stale,
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// A created pod that somebody else deleted at once may never be seen; after this long nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pods that were created or deleted, and of which the watch has not told yet.
#[derive(Debug)]
struct Pending {
    created: Vec<String>,
    deleted: Vec<String>,
    since: Instant,
}

impl Default for Pending {
    fn default() -> Pending {
        Pending { created: Vec::new(), deleted: Vec::new(), since: Instant::now() }
    }
}

struct Controller {
    client: Client,
    cluster: Arc<Cluster>,
    events: Events,
    pending: Mutex<HashMap<Key, Pending>>,
    queue: Queue<Key>,
}

pub(super) async fn run(client: Client, cluster: Arc<Cluster>) {
    let queue = Queue::default();
    watch(&cluster, &queue);
    let events = Events::new(client.clone(), "replicaset-controller");
    let controller = Arc::new(Controller {
        client,
        cluster: cluster.clone(),
        events,
        pending: Mutex::default(),
        queue: queue.clone(),
    });
    cluster.synced().await;
    work(queue, WORKERS, "replicaset", |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

fn watch(cluster: &Arc<Cluster>, queue: &Queue<Key>) {
    let own = queue.clone();
    cluster.replica_sets.on_change(move |change| {
        if let Some(set) = change.latest() {
            own.add(Key::of(set));
        }
    });
    let (sets, own) = (cluster.replica_sets.clone(), queue.clone());
    cluster.pods.on_change(move |change| {
        let namespace = change.latest().and_then(ResourceExt::namespace).unwrap_or_default();
        for set in sets.in_namespace(&namespace) {
            let concerns = |pod: &Pod| match pods::controller_uid(pod) {
                Some(uid) => set.uid().as_deref() == Some(uid),
                None => pods::matches(&selector(&set), pod.labels()),
            };
            if change.both().any(concerns) {
                own.add(Key::of(&*set));
            }
        }
    });
}

fn selector(set: &ReplicaSet) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
    set.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
}

/// What is to be done about the pods of a ReplicaSet.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    create: usize,
    delete: Vec<String>,
    adopt: Vec<String>,
    release: Vec<String>,
}

/// `pods` are all of the namespace.
fn plan(set: &ReplicaSet, pods: &[&Pod]) -> Plan {
    let mut plan = Plan::default();
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let uid = set.uid().unwrap_or_default();
    let selector = selector(set);
    let mut active = Vec::new();
    for pod in pods {
        let matches = pods::matches(&selector, pod.labels());
        let is_active = !pods::is_done(pod) && pod.metadata.deletion_timestamp.is_none();
        match pods::controller_uid(*pod) {
            Some(owner) if owner == uid && !matches => plan.release.push(pod.name_any()),
            Some(owner) if owner == uid && is_active => active.push(*pod),
            None if matches && is_active => {
                plan.adopt.push(pod.name_any());
                active.push(pod);
            }
            _ => {}
        }
    }
    let wanted = wanted(set);
    if active.len() < wanted {
        plan.create = (wanted - active.len()).min(MOST_AT_ONCE);
    } else {
        active.sort_by_key(|pod| std::cmp::Reverse(worth(pod)));
        plan.delete = active[wanted..].iter().take(MOST_AT_ONCE).map(|pod| pod.name_any()).collect();
        plan.adopt.retain(|name| !plan.delete.contains(name));
    }
    plan
}

fn wanted(set: &ReplicaSet) -> usize {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    usize::try_from(replicas).unwrap_or_default()
}

/// The least worth goes first: pods without a node, then pending, then not ready, then by the cost that somebody put on
/// deleting them, then the youngest.
fn worth(pod: &Pod) -> (bool, u8, bool, i64, std::cmp::Reverse<Timestamp>) {
    let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let phase = match pods::phase(pod) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = pod.annotations().get("controller.kubernetes.io/pod-deletion-cost");
    let cost = cost.and_then(|cost| cost.parse().ok()).unwrap_or_default();
    let created = pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
    (has_node, phase, pods::is_ready(pod), cost, std::cmp::Reverse(created))
}

/// What `kubectl get` shows of it.
fn status(set: &ReplicaSet, pods: &[&Pod], now: Timestamp) -> ReplicaSetStatus {
    let uid = set.uid().unwrap_or_default();
    let spec = set.spec.clone().unwrap_or_default();
    let owned = pods.iter().filter(|pod| {
        pods::controller_uid(**pod) == Some(&uid)
            && !pods::is_done(pod)
            && pod.metadata.deletion_timestamp.is_none()
    });
    let count = |condition: &dyn Fn(&Pod) -> bool| {
        i32::try_from(owned.clone().filter(|pod| condition(pod)).count()).unwrap_or(i32::MAX)
    };
    let template = spec.template.and_then(|template| template.metadata).and_then(|metadata| metadata.labels);
    let template = template.unwrap_or_default();
    let minimum = i64::from(spec.min_ready_seconds.unwrap_or_default());
    let available = |pod: &Pod| {
        let since = pods::condition(pod, "Ready").and_then(|ready| ready.last_transition_time.as_ref());
        let old_enough =
            minimum == 0 || since.is_some_and(|since| now.as_second() - since.0.as_second() >= minimum);
        pods::is_ready(pod) && old_enough
    };
    let labelled = |pod: &Pod| template.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: Some(count(&labelled)).filter(|count| *count > 0),
        ready_replicas: Some(count(&pods::is_ready)).filter(|count| *count > 0),
        available_replicas: Some(count(&available)).filter(|count| *count > 0),
        observed_generation: set.metadata.generation,
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
        terminating_replicas: None,
    }
}

/// How long until the next pod has been ready for `minReadySeconds`, which no change of an object will tell; `None` if none is on
/// its way to that.
fn until_next_is_available(set: &ReplicaSet, pods: &[&Pod], now: Timestamp) -> Option<Duration> {
    let minimum = i64::from(set.spec.as_ref()?.min_ready_seconds?);
    let uid = set.uid()?;
    let ready = pods.iter().filter(|pod| pods::controller_uid(**pod) == Some(&uid) && pods::is_ready(pod));
    let times = ready.filter_map(|pod| {
        let since = pods::condition(pod, "Ready")?.last_transition_time.as_ref()?.0;
        let rest = since + SignedDuration::from_secs(minimum) - now;
        Duration::try_from(rest.round(jiff::Unit::Millisecond).ok()?).ok().filter(|rest| !rest.is_zero())
    });
    times.min()
}

/// A pod of the template, owned by the ReplicaSet.
fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.clone().and_then(|spec| spec.template).unwrap_or_default();
    let mut pod = Pod { spec: template.spec, ..Pod::default() };
    let metadata = template.metadata.unwrap_or_default();
    pod.metadata.labels = metadata.labels;
    pod.metadata.annotations = metadata.annotations;
    pod.metadata.finalizers = metadata.finalizers;
    pod.metadata.namespace = set.namespace();
    pod.metadata.generate_name = Some(format!("{}-", set.name_any()));
    pod.metadata.owner_references = Some(vec![owner(set)]);
    pod
}

fn owner(set: &ReplicaSet) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "ReplicaSet".to_owned(),
        name: set.name_any(),
        uid: set.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

impl Controller {
    async fn sync(&self, key: &Key) -> Result<(), SyncError> {
        let Some(set) = self.cluster.replica_sets.get(key) else {
            self.pending().remove(key);
            return Ok(());
        };
        let pods = self.cluster.pods.in_namespace(&key.namespace);
        let pods: Vec<&Pod> = pods.iter().map(|pod| &**pod).collect();
        self.check_pending(key, &pods)?;
        let result = self.carry_out(key, &set, &plan(&set, &pods)).await;
        let now = Timestamp::now();
        self.write_status(&set, &status(&set, &pods, now)).await?;
        if let Some(wait) = until_next_is_available(&set, &pods, now) {
            self.queue.add_after(key.clone(), wait);
        }
        result
    }

    /// An error while the watch has not told of all that was done last.
    fn check_pending(&self, key: &Key, pods: &[&Pod]) -> Result<(), SyncError> {
        let mut pending = self.pending();
        let Some(of_set) = pending.get_mut(key) else { return Ok(()) };
        let find = |name: &String| pods.iter().find(|pod| pod.name_any() == *name);
        of_set.created.retain(|name| find(name).is_none());
        of_set.deleted.retain(|name| find(name).is_some_and(|pod| pod.metadata.deletion_timestamp.is_none()));
        let is_empty = of_set.created.is_empty() && of_set.deleted.is_empty();
        if is_empty || of_set.since.elapsed() > PATIENCE {
            pending.remove(key);
            return Ok(());
        }
        Err(SyncError::Stale)
    }

    async fn carry_out(&self, key: &Key, set: &ReplicaSet, plan: &Plan) -> Result<(), SyncError> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let about = set.object_ref(&());
        for name in &plan.adopt {
            let patch = json!({"metadata": {"ownerReferences": [owner(set)]}});
            ignore_out_of_date(api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await)?;
        }
        for name in &plan.release {
            let owner = json!([{"$patch": "delete", "uid": set.uid()}]);
            let patch = json!({"metadata": {"ownerReferences": owner}});
            ignore_out_of_date(api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await)?;
        }
        for _ in 0..plan.create {
            match api.create(&PostParams::default(), &new_pod(set)).await {
                Ok(pod) => {
                    let name = pod.name_any();
                    self.pending().entry(key.clone()).or_default().created.push(name.clone());
                    self.events.normal(&about, "SuccessfulCreate", &format!("Created pod: {name}")).await;
                }
                Err(error) if is_refused_by_namespace(&error) => return Ok(()),
                Err(error) => {
                    self.events.warning(&about, "FailedCreate", &format!("Error creating: {error}")).await;
                    return Err(error.into());
                }
            }
        }
        for name in &plan.delete {
            let uid = self.cluster.pods.get(&Key::new(&key.namespace, name)).and_then(|pod| pod.uid());
            let preconditions = Some(Preconditions { uid, resource_version: None });
            self.pending().entry(key.clone()).or_default().deleted.push(name.clone());
            let params = DeleteParams { preconditions, ..DeleteParams::default() };
            ignore_out_of_date(api.delete(name, &params).await)?;
            self.events.normal(&about, "SuccessfulDelete", &format!("Deleted pod: {name}")).await;
        }
        Ok(())
    }

    async fn write_status(&self, set: &ReplicaSet, status: &ReplicaSetStatus) -> Result<(), SyncError> {
        if set.status.as_ref() == Some(status) {
            return Ok(());
        }
        let api = Api::<ReplicaSet>::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({"status": {
            "replicas": status.replicas,
            "fullyLabeledReplicas": status.fully_labeled_replicas,
            "readyReplicas": status.ready_replicas,
            "availableReplicas": status.available_replicas,
            "observedGeneration": status.observed_generation,
        }}));
        ignore_out_of_date(api.patch_status(&set.name_any(), &PatchParams::default(), &patch).await)?;
        Ok(())
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is gone, or changed meanwhile, is looked at again when the watch tells of it.
fn ignore_out_of_date<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if is_out_of_date(&error) => Ok(()),
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i32) -> ReplicaSet {
        let spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}});
        serde_json::from_value(json!({"metadata": {"name": "web", "uid": "1"}, "spec": spec})).unwrap()
    }

    fn pod(name: &str, owner: Option<&str>, state: &str) -> Pod {
        let owners = owner.map(|uid| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": uid, "controller": true}]));
        let (node, status) = match state {
            "ready" => {
                (json!("n"), json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}))
            }
            "running" => (json!("n"), json!({"phase": "Running"})),
            "done" => (json!("n"), json!({"phase": "Failed"})),
            _ => (json!(null), json!({"phase": "Pending"})),
        };
        let metadata = json!({"name": name, "labels": {"app": "web"}, "ownerReferences": owners});
        let spec = json!({"containers": [], "nodeName": node});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    fn plan_of(replicas: i32, pods: &[Pod]) -> Plan {
        plan(&set(replicas), &pods.iter().collect::<Vec<_>>())
    }

    #[test]
    fn missing_pods_are_created_and_those_that_ended_do_not_count() {
        let pods = [pod("a", Some("1"), "ready"), pod("b", Some("1"), "done"), pod("c", Some("2"), "ready")];
        assert_eq!(plan_of(3, &pods), Plan { create: 2, ..Plan::default() });
    }

    #[test]
    fn a_ready_pod_is_looked_at_again_when_it_becomes_available() {
        let now: Timestamp = "2026-01-02T03:04:05.5Z".parse().unwrap();
        let ready_since = |time: &str| {
            let mut pod = pod("a", Some("1"), "ready");
            let status = pod.status.as_mut().unwrap();
            status.conditions.as_mut().unwrap()[0].last_transition_time =
                serde_json::from_value(json!(time)).unwrap();
            pod
        };
        let mut set = set(1);
        let until = |set: &ReplicaSet, pods: &[Pod]| {
            until_next_is_available(set, &pods.iter().collect::<Vec<_>>(), now)
        };
        let pods = [ready_since("2026-01-02T03:04:05Z"), ready_since("2026-01-02T03:04:04Z")];
        assert_eq!(until(&set, &pods), None, "without a minimum they are available at once");
        set.spec.as_mut().unwrap().min_ready_seconds = Some(10);
        assert_eq!(until(&set, &pods), Some(Duration::from_millis(8500)));
        assert_eq!(until(&set, &[ready_since("2026-01-02T03:00:00Z"), pod("b", Some("1"), "running")]), None);
    }

    #[test]
    fn the_least_useful_pods_go_first() {
        let pods =
            [pod("a", Some("1"), "ready"), pod("b", Some("1"), "running"), pod("c", Some("1"), "pending")];
        assert_eq!(plan_of(1, &pods).delete, ["b", "c"]);
        assert_eq!(plan_of(0, &pods).delete, ["a", "b", "c"]);
    }

    #[test]
    fn orphans_are_adopted_and_strangers_released() {
        let mut stranger = pod("b", Some("1"), "ready");
        stranger.labels_mut().clear();
        let plan = plan_of(1, &[pod("a", None, "ready"), stranger]);
        assert_eq!((plan.adopt, plan.release, plan.create), (vec!["a".to_owned()], vec!["b".to_owned()], 0));
    }

    #[test]
    fn the_status_counts_what_it_has() {
        let pods =
            [pod("a", Some("1"), "ready"), pod("b", Some("1"), "pending"), pod("c", Some("1"), "done")];
        let status = status(&set(2), &pods.iter().collect::<Vec<_>>(), Timestamp::UNIX_EPOCH);
        assert_eq!(
            (status.replicas, status.ready_replicas, status.available_replicas),
            (2, Some(1), Some(1))
        );
    }
}
