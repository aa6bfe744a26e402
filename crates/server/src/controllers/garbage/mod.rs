//! Objects whose owners are gone go too.

mod graph;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use kube::core::PartialObjectMeta;
use kube::discovery::{Discovery, Scope, verbs};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::is_out_of_date;
use super::queue::{Queue, work};
use graph::{Action, Graph, Owner, Place};

const WORKERS: usize = 4;

struct Controller {
    client: Client,
    resources: Vec<(ApiResource, Scope)>,
    graph: Mutex<Graph>,
    queue: Queue<String>,
    /// Resources of which not everything is known yet: until then an owner may only seem to be gone.
    unknown: AtomicUsize,
    known: Notify,
}

pub(super) async fn run(client: Client) {
    let resources = loop {
        match discover(&client).await {
            Ok(resources) => break resources,
            Err(error) => {
                tracing::warn!(%error, "cannot tell what resources there are; asking again");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    };
    let queue = Queue::default();
    let controller = Arc::new(Controller {
        client,
        graph: Mutex::default(),
        queue: queue.clone(),
        unknown: AtomicUsize::new(resources.len()),
        known: Notify::new(),
        resources,
    });
    let mut watches = JoinSet::new();
    for index in 0..controller.resources.len() {
        watches.spawn(controller.clone().watch(index));
    }
    while controller.unknown.load(Ordering::SeqCst) > 0 {
        controller.known.notified().await;
    }
    work(queue, WORKERS, "garbage", |uid| {
        let controller = controller.clone();
        async move { controller.sync(&uid).await }
    })
    .await;
}

async fn discover(client: &Client) -> Result<Vec<(ApiResource, Scope)>, kube::Error> {
    let discovered = Discovery::new(client.clone()).run_aggregated().await?;
    let resources = discovered.groups().flat_map(kube::discovery::ApiGroup::recommended_resources);
    let followed = resources.filter(|(resource, capabilities)| {
        let operations = [verbs::LIST, verbs::WATCH, verbs::DELETE];
        // Events own nothing, are owned by nothing, and are many.
        resource.plural != "events" && operations.iter().all(|verb| capabilities.supports_operation(verb))
    });
    Ok(followed.map(|(resource, capabilities)| (resource, capabilities.scope)).collect())
}

impl Controller {
    async fn watch(self: Arc<Self>, index: usize) {
        let Some((resource, _)) = self.resources.get(index) else { return };
        let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(self.client.clone(), resource);
        let config = watcher::Config::default().streaming_lists();
        let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
        let mut is_known = false;
        let mut listed: Vec<String> = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.extend(object.uid());
                    self.set(index, &object);
                }
                Ok(Event::Apply(object)) => self.set(index, &object),
                Ok(Event::Delete(object)) => self.remove(index, &object),
                Ok(Event::InitDone) => {
                    self.keep_only(index, &std::mem::take(&mut listed));
                    if !std::mem::replace(&mut is_known, true) {
                        self.unknown.fetch_sub(1, Ordering::SeqCst);
                        self.known.notify_one();
                    }
                }
                Err(error) => tracing::debug!(resource = resource.plural, %error, "watching again"),
            }
        }
    }

    fn place(index: usize, metadata: &ObjectMeta) -> Place {
        Place {
            resource: index,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }

    fn set(&self, index: usize, object: &PartialObjectMeta<DynamicObject>) {
        let affected = self.graph().set(Self::place(index, &object.metadata), &object.metadata);
        affected.into_iter().for_each(|uid| self.queue.add(uid));
    }

    fn remove(&self, index: usize, object: &PartialObjectMeta<DynamicObject>) {
        let mut graph = self.graph();
        let uid = object.uid().or_else(|| graph.find(&Self::place(index, &object.metadata)));
        let affected = uid.map(|uid| graph.remove(&uid)).unwrap_or_default();
        drop(graph);
        affected.into_iter().for_each(|uid| self.queue.add(uid));
    }

    fn keep_only(&self, index: usize, listed: &[String]) {
        let mut graph = self.graph();
        let gone =
            graph.of_resource(index).into_iter().filter(|uid| !listed.contains(uid)).collect::<Vec<_>>();
        let affected: Vec<String> = gone.iter().flat_map(|uid| graph.remove(uid)).collect();
        drop(graph);
        affected.into_iter().for_each(|uid| self.queue.add(uid));
    }

    async fn sync(&self, uid: &str) -> Result<(), kube::Error> {
        let action = self.graph().action(uid);
        match action {
            Action::Nothing => Ok(()),
            Action::DeleteUnless(place, owners) => {
                for owner in &owners {
                    if self.exists(&place, owner).await? {
                        return Ok(());
                    }
                }
                self.delete(&place, uid).await
            }
            Action::DeleteDependents(dependents) => {
                for (place, uid) in &dependents {
                    self.delete(place, uid).await?;
                }
                Ok(())
            }
            Action::ReleaseDependents(places) => {
                for place in &places {
                    let owner = json!([{"$patch": "delete", "uid": uid}]);
                    let patch = json!({"metadata": {"ownerReferences": owner}});
                    self.patch(place, &Patch::Strategic(patch)).await?;
                }
                Ok(())
            }
            Action::RemoveFinalizer(place, finalizer) => {
                let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [finalizer]}});
                self.patch(&place, &Patch::Strategic(patch)).await
            }
        }
    }

    /// Whether an owner that no watch has told of is there all the same: younger than what the watch has told, or of a
    /// kind that nobody watches, which counts as there.
    async fn exists(&self, dependent: &Place, owner: &Owner) -> Result<bool, kube::Error> {
        let found = self
            .resources
            .iter()
            .find(|(resource, _)| resource.kind == owner.kind && resource.group == group(&owner.api_version));
        let Some((resource, scope)) = found else { return Ok(true) };
        let api = match scope {
            Scope::Namespaced => {
                Api::<DynamicObject>::namespaced_with(self.client.clone(), &dependent.namespace, resource)
            }
            Scope::Cluster => Api::<DynamicObject>::all_with(self.client.clone(), resource),
        };
        let found = api.get_metadata_opt(&owner.name).await?;
        Ok(found.is_some_and(|found| found.uid().as_deref() == Some(&owner.uid)))
    }

    async fn delete(&self, place: &Place, uid: &str) -> Result<(), kube::Error> {
        let Some(api) = self.api(place) else { return Ok(()) };
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        ignore_out_of_date(api.delete(&place.name, &params).await)
    }

    async fn patch(&self, place: &Place, patch: &Patch<serde_json::Value>) -> Result<(), kube::Error> {
        let Some(api) = self.api(place) else { return Ok(()) };
        ignore_out_of_date(api.patch_metadata(&place.name, &PatchParams::default(), patch).await)
    }

    fn api(&self, place: &Place) -> Option<Api<DynamicObject>> {
        let (resource, scope) = self.resources.get(place.resource)?;
        Some(match scope {
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), &place.namespace, resource),
            Scope::Cluster => Api::all_with(self.client.clone(), resource),
        })
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn ignore_out_of_date<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if is_out_of_date(&error) => Ok(()),
        result => result.map(drop),
    }
}
