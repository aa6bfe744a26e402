//! Deployments roll from one ReplicaSet to the next.

mod rollout;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::events::Events;
use super::informer::Key;
use super::queue::{Queue, work};
use super::{Cluster, is_out_of_date, is_refused_by_namespace, pods};
use rollout::{
    Bounds, HASH, REVISION, available, current, replicas, revision, scale_new, scale_old, template_hash,
};
use status::status;

const WORKERS: usize = 4;
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";
/// Not handed on to the ReplicaSets.
const OWN_ANNOTATIONS: [&str; 4] =
    ["kubectl.kubernetes.io/last-applied-configuration", REVISION, DESIRED, MOST];

struct Controller {
    client: Client,
    cluster: Arc<Cluster>,
    events: Events,
}

pub(super) async fn run(client: Client, cluster: Arc<Cluster>) {
    let queue = Queue::default();
    let own = queue.clone();
    cluster.deployments.on_change(move |change| {
        if let Some(object) = change.latest() {
            own.add(Key::of(object));
        }
    });
    let (deployments, own) = (cluster.deployments.clone(), queue.clone());
    cluster.replica_sets.on_change(move |change| {
        let namespace = change.latest().and_then(ResourceExt::namespace).unwrap_or_default();
        for deployment in deployments.in_namespace(&namespace) {
            if change.both().any(|set| pods::controller_uid(set) == deployment.uid().as_deref()) {
                own.add(Key::of(&*deployment));
            }
        }
    });
    let (sets, own) = (cluster.replica_sets.clone(), queue.clone());
    cluster.pods.on_change(move |change| {
        // Recreate waits for the last old pod to be gone.
        let (None, Some(pod)) = (change.new, change.old) else { return };
        let sets = sets.in_namespace(&pod.namespace().unwrap_or_default());
        let owner = sets.iter().find(|set| set.uid().as_deref() == pods::controller_uid(pod));
        let deployment =
            owner.and_then(|set| set.owner_references().iter().find(|owner| owner.kind == "Deployment"));
        if let Some(deployment) = deployment {
            own.add(Key::new(&pod.namespace().unwrap_or_default(), &deployment.name));
        }
    });
    let events = Events::new(client.clone(), "deployment-controller");
    let controller = Arc::new(Controller { client, cluster: cluster.clone(), events });
    cluster.synced().await;
    work(queue, WORKERS, "deployment", |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

impl Controller {
    async fn sync(&self, key: &Key) -> Result<(), kube::Error> {
        let Some(deployment) = self.cluster.deployments.get(key) else { return Ok(()) };
        if deployment.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let mut sets = self.owned(key, &deployment).await?;
        sets.sort_by_key(|set| (set.metadata.creation_timestamp.clone().map(|time| time.0), set.name_any()));
        let is_paused = deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true));
        let references: Vec<&ReplicaSet> = sets.iter().map(|set| &**set).collect();
        let new = current(&deployment, &references);
        let result = match (new, is_paused) {
            (None, true) => Ok(()),
            (None, false) => self.create(key, &deployment, &references).await,
            (Some(new), _) => self.roll(key, &deployment, new, &references, is_paused).await,
        };
        self.write_status(&deployment, new, &references).await?;
        result
    }

    /// Its ReplicaSets; those of nobody that it selects become its own.
    async fn owned(&self, key: &Key, deployment: &Deployment) -> Result<Vec<Arc<ReplicaSet>>, kube::Error> {
        let selector = deployment.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default();
        let mut owned = Vec::new();
        for set in self.cluster.replica_sets.in_namespace(&key.namespace) {
            match pods::controller_uid(&*set) {
                Some(uid) if deployment.uid().as_deref() == Some(uid) => owned.push(set),
                None if set.metadata.deletion_timestamp.is_none()
                    && pods::matches(&selector, set.labels()) =>
                {
                    let patch = json!({"metadata": {"ownerReferences": [owner(deployment)]}});
                    let api = Api::<ReplicaSet>::namespaced(self.client.clone(), &key.namespace);
                    api.patch(&set.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await?;
                    owned.push(set);
                }
                _ => {}
            }
        }
        Ok(owned)
    }

    async fn create(
        &self,
        key: &Key,
        deployment: &Deployment,
        sets: &[&ReplicaSet],
    ) -> Result<(), kube::Error> {
        let bounds = Bounds::of(deployment);
        let is_recreated = is_recreated(deployment);
        if is_recreated && !self.scale_all_down(key, deployment, sets).await? {
            return Ok(());
        }
        let old_total = sets.iter().map(|set| replicas(set)).sum();
        let set = new_set(deployment, next_revision(sets), scale_new(bounds, 0, old_total));
        let api = Api::<ReplicaSet>::namespaced(self.client.clone(), &key.namespace);
        match api.create(&PostParams::default(), &set).await {
            Ok(set) => {
                let note = format!("Scaled up replica set {} from 0 to {}", set.name_any(), replicas(&set));
                self.events.normal(&deployment.object_ref(&()), "ScalingReplicaSet", &note).await;
                Ok(())
            }
            // It is there already and the watch will tell.
            Err(error) if is_out_of_date(&error) || is_refused_by_namespace(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn roll(
        &self,
        key: &Key,
        deployment: &Deployment,
        new: &ReplicaSet,
        sets: &[&ReplicaSet],
        is_paused: bool,
    ) -> Result<(), kube::Error> {
        let old: Vec<&ReplicaSet> = sets.iter().copied().filter(|set| set.uid() != new.uid()).collect();
        self.annotate(key, deployment, new, &old).await?;
        let bounds = Bounds::of(deployment);
        let old_total: i32 = old.iter().map(|set| replicas(set)).sum();
        if is_paused {
            // No roll-out, but scaling goes on where it is clear what to scale.
            return if old_total == 0 {
                self.scale(key, deployment, new, bounds.desired).await
            } else {
                Ok(())
            };
        }
        if is_recreated(deployment) {
            return match self.scale_all_down(key, deployment, &old).await? {
                true => self.scale(key, deployment, new, bounds.desired).await,
                false => Ok(()),
            };
        }
        let wanted = scale_new(bounds, replicas(new), old_total);
        if wanted != replicas(new) {
            // The old ones are looked at again when this has come back.
            return self.scale(key, deployment, new, wanted).await;
        }
        let counts: Vec<(i32, i32)> = old.iter().map(|set| (replicas(set), available(set))).collect();
        for (set, wanted) in old.iter().zip(scale_old(bounds, (replicas(new), available(new)), &counts)) {
            self.scale(key, deployment, set, wanted).await?;
        }
        self.forget_history(key, deployment, &old).await
    }

    /// True once no old pod is left.
    async fn scale_all_down(
        &self,
        key: &Key,
        deployment: &Deployment,
        old: &[&ReplicaSet],
    ) -> Result<bool, kube::Error> {
        for set in old {
            self.scale(key, deployment, set, 0).await?;
        }
        let pods = self.cluster.pods.in_namespace(&key.namespace);
        let is_old = |pod: &Arc<Pod>| {
            let owner = pods::controller_uid(&**pod);
            !pods::is_done(pod) && old.iter().any(|set| owner.is_some() && set.uid().as_deref() == owner)
        };
        Ok(!pods.iter().any(is_old))
    }

    async fn scale(
        &self,
        key: &Key,
        deployment: &Deployment,
        set: &ReplicaSet,
        wanted: i32,
    ) -> Result<(), kube::Error> {
        let before = replicas(set);
        if before == wanted {
            return Ok(());
        }
        let bounds = Bounds::of(deployment);
        let annotations = json!({
            DESIRED: bounds.desired.to_string(),
            MOST: bounds.desired.saturating_add(bounds.surge).to_string(),
        });
        let patch = json!({
            "metadata": {"annotations": annotations, "resourceVersion": set.resource_version()},
            "spec": {"replicas": wanted},
        });
        self.patch(key, set, &patch).await?;
        let direction = if wanted > before { "up" } else { "down" };
        let note = format!("Scaled {direction} replica set {} from {before} to {wanted}", set.name_any());
        self.events.normal(&deployment.object_ref(&()), "ScalingReplicaSet", &note).await;
        Ok(())
    }

    /// The current ReplicaSet has the highest revision: also one that a roll-back brought back.
    async fn annotate(
        &self,
        key: &Key,
        deployment: &Deployment,
        new: &ReplicaSet,
        old: &[&ReplicaSet],
    ) -> Result<(), kube::Error> {
        let wanted = revision(new).max(next_revision(old));
        if wanted != revision(new) {
            let patch = json!({"metadata": {"annotations": {REVISION: wanted.to_string()}}});
            self.patch(key, new, &patch).await?;
        }
        if deployment.annotations().get(REVISION) == Some(&wanted.to_string()) {
            return Ok(());
        }
        let api = Api::<Deployment>::namespaced(self.client.clone(), &key.namespace);
        let patch = Patch::Merge(json!({"metadata": {"annotations": {REVISION: wanted.to_string()}}}));
        ignore_out_of_date(api.patch(&key.name, &PatchParams::default(), &patch).await)
    }

    /// Old ReplicaSets beyond the limit are of no use to anybody.
    async fn forget_history(
        &self,
        key: &Key,
        deployment: &Deployment,
        old: &[&ReplicaSet],
    ) -> Result<(), kube::Error> {
        let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let limit = usize::try_from(limit).unwrap_or_default();
        let is_empty = |set: &&&ReplicaSet| {
            replicas(set) == 0 && set.status.as_ref().is_none_or(|status| status.replicas == 0)
        };
        let mut empty: Vec<&&ReplicaSet> = old.iter().filter(is_empty).collect();
        empty.sort_by_key(|set| revision(set));
        let api = Api::<ReplicaSet>::namespaced(self.client.clone(), &key.namespace);
        for set in empty.iter().take(old.len().saturating_sub(limit)) {
            ignore_out_of_date(api.delete(&set.name_any(), &DeleteParams::default()).await)?;
        }
        Ok(())
    }

    async fn patch(&self, key: &Key, set: &ReplicaSet, patch: &serde_json::Value) -> Result<(), kube::Error> {
        let api = Api::<ReplicaSet>::namespaced(self.client.clone(), &key.namespace);
        api.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    async fn write_status(
        &self,
        deployment: &Deployment,
        new: Option<&ReplicaSet>,
        sets: &[&ReplicaSet],
    ) -> Result<(), kube::Error> {
        let status = status(deployment, new, sets, Timestamp::now());
        if deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let namespace = deployment.namespace().unwrap_or_default();
        let api = Api::<Deployment>::namespaced(self.client.clone(), &namespace);
        let mut written = deployment.clone();
        written.status = Some(status);
        let result = api.replace_status(&deployment.name_any(), &PostParams::default(), &written).await;
        ignore_out_of_date(result)
    }
}

fn ignore_out_of_date<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if is_out_of_date(&error) => Ok(()),
        result => result.map(drop),
    }
}

fn is_recreated(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

fn next_revision(sets: &[&ReplicaSet]) -> i64 {
    sets.iter().map(|set| revision(set)).max().unwrap_or_default() + 1
}

fn owner(deployment: &Deployment) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: deployment.name_any(),
        uid: deployment.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The ReplicaSet of the template as it is now. Its name is that of the template too, so that it is created once only.
fn new_set(deployment: &Deployment, revision: i64, replicas: i32) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let hash = template_hash(&spec.template);
    let mut template = spec.template;
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    let labels = metadata.labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    let mut set = ReplicaSet {
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        ..ReplicaSet::default()
    };
    set.metadata.name = Some(format!("{}-{hash}", deployment.name_any()));
    set.metadata.namespace = deployment.namespace();
    set.metadata.labels = labels;
    set.metadata.owner_references = Some(vec![owner(deployment)]);
    let bounds = Bounds::of(deployment);
    let annotations = set.annotations_mut();
    let handed_on =
        deployment.annotations().iter().filter(|(key, _)| !OWN_ANNOTATIONS.contains(&key.as_str()));
    annotations.extend(handed_on.map(|(key, value)| (key.clone(), value.clone())));
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations.insert(DESIRED.to_owned(), bounds.desired.to_string());
    annotations.insert(MOST.to_owned(), bounds.desired.saturating_add(bounds.surge).to_string());
    set
}
