//! A namespace that is deleted takes its contents with it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client, ResourceExt};

use super::informer::Key;
use super::queue::{Queue, work};
use super::{Cluster, is_out_of_date};

/// Between two looks at a namespace in which something waits for a finalizer.
const AGAIN: Duration = Duration::from_millis(200);
/// The finalizer, in `spec`, that stands for the contents.
const CONTENTS: &str = "kubernetes";

pub(super) async fn run(client: Client, cluster: Arc<Cluster>) {
    let queue = Queue::default();
    let own = queue.clone();
    cluster.namespaces.on_change(move |change| {
        let going = change.new.filter(|namespace| namespace.metadata.deletion_timestamp.is_some());
        if let Some(namespace) = going {
            own.add(namespace.name_any());
        }
    });
    cluster.synced().await;
    work(queue.clone(), 2, "namespace", |name| {
        let (client, cluster, queue) = (client.clone(), cluster.clone(), queue.clone());
        async move {
            let Some(namespace) = cluster.namespaces.get(&Key::new("", &name)) else { return Ok(()) };
            if !finish(&client, &namespace).await? {
                queue.add_after(name, AGAIN);
            }
            Ok::<(), kube::Error>(())
        }
    })
    .await;
}

/// Deletes what is in it and lets it go once that is gone. True when nothing is left to be done.
async fn finish(client: &Client, namespace: &Namespace) -> Result<bool, kube::Error> {
    let waits = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    if !waits.is_some_and(|finalizers| finalizers.iter().any(|name| name == CONTENTS)) {
        return Ok(true);
    }
    let mut is_empty = true;
    for resource in namespaced_resources(client).await? {
        is_empty &= empty(client, &namespace.name_any(), &resource).await?;
    }
    if is_empty {
        let_go(client, namespace).await?;
    }
    Ok(is_empty)
}

async fn namespaced_resources(client: &Client) -> Result<Vec<ApiResource>, kube::Error> {
    let discovered = Discovery::new(client.clone()).run_aggregated().await?;
    let resources = discovered.groups().flat_map(kube::discovery::ApiGroup::recommended_resources);
    let deletable = resources.filter(|(_, capabilities)| {
        capabilities.scope == Scope::Namespaced
            && capabilities.supports_operation(verbs::LIST)
            && capabilities.supports_operation(verbs::DELETE_COLLECTION)
    });
    Ok(deletable.map(|(resource, _)| resource).collect())
}

/// True if nothing of the resource is left in the namespace.
async fn empty(client: &Client, namespace: &str, resource: &ApiResource) -> Result<bool, kube::Error> {
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, resource);
    let left = |items: usize| items == 0;
    if left(api.list(&ListParams::default().limit(1)).await?.items.len()) {
        return Ok(true);
    }
    let mut params = DeleteParams::background();
    if resource.kind == "Pod" {
        // Upstream gives pods their time; their agent ends them, and where there is none they go at once.
        params.grace_period_seconds = None;
    }
    api.delete_collection(&params, &ListParams::default()).await?;
    Ok(left(api.list(&ListParams::default().limit(1)).await?.items.len()))
}

async fn let_go(client: &Client, namespace: &Namespace) -> Result<(), kube::Error> {
    let mut finalized = namespace.clone();
    if let Some(spec) = &mut finalized.spec {
        spec.finalizers = Some(Vec::new());
    }
    let api = Api::<Namespace>::all(client.clone());
    let params = PostParams::default();
    let result: Result<Namespace, kube::Error> =
        api.replace_subresource("finalize", &namespace.name_any(), &params, &finalized).await;
    match result {
        Err(error) if is_out_of_date(&error) => Ok(()),
        result => result.map(drop),
    }
}
