//! A worker for each pod of this node, and for each that the runtime has left over.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::worker::{Desired, Worker};
use crate::core::{Core, blocking};
use crate::runtime::{PodName, Sandbox};

/// How long one wait for ends of containers may block a thread.
const ENDS: Duration = Duration::from_secs(5);

/// The pods that this agent looks after, for whoever serves requests about them.
#[derive(Debug, Clone, Default)]
pub struct Pods {
    by_uid: Arc<RwLock<BTreeMap<String, Arc<Pod>>>>,
}

impl Pods {
    /// The pod of that name. If one that ends and its successor share it, the successor.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let all = self.by_uid.read().unwrap_or_else(PoisonError::into_inner);
        let named = all
            .values()
            .filter(|pod| pod.namespace().as_deref() == Some(namespace) && pod.name_any() == name);
        named.max_by_key(|pod| pod.metadata.creation_timestamp.clone().map(|time| time.0)).cloned()
    }

    /// All of them, in no order that means anything.
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.by_uid.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn set(&self, uid: &str, pod: Option<Arc<Pod>>) {
        let mut all = self.by_uid.write().unwrap_or_else(PoisonError::into_inner);
        match pod {
            Some(pod) => drop(all.insert(uid.to_owned(), pod)),
            None => drop(all.remove(uid)),
        }
    }
}

/// Follows the pods of the API.
pub(crate) struct Manager {
    core: Arc<Core>,
    pods: Pods,
    workers: BTreeMap<String, watch::Sender<Desired>>,
    tasks: JoinSet<String>,
    /// What the runtime had when the agent started and no pod has claimed.
    leftovers: BTreeMap<String, Sandbox>,
}

impl Manager {
    pub(crate) fn new(core: Arc<Core>, pods: Pods) -> Manager {
        Manager { core, pods, workers: BTreeMap::new(), tasks: JoinSet::new(), leftovers: BTreeMap::new() }
    }

    /// Until the agent ends.
    pub(crate) async fn run(mut self) {
        self.take_stock().await;
        std::thread::spawn({
            let core = self.core.clone();
            move || watch_ends(&core)
        });
        let api = Api::<Pod>::all(self.core.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.core.node_name));
        let mut events = pin!(watcher::watcher(api, config).default_backoff());
        let mut listed = BTreeSet::new();
        loop {
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(event)) => self.follow(event, &mut listed),
                    // The watch never ends by itself; errors are followed by another try.
                    Ok(None) => return,
                    Err(error) => tracing::warn!(%error, "watching pods"),
                },
                Some(over) = self.tasks.join_next() => self.forget(over),
            }
        }
    }

    /// What is there already; and what networks still hold for sandboxes that are not, is given back.
    async fn take_stock(&mut self) {
        let core = self.core.clone();
        let sandboxes = blocking(move || {
            let sandboxes = core.runtime.sandboxes()?;
            if let Err(error) = core.cni.collect_garbage(&sandboxes) {
                tracing::info!(error = crate::core::one_line(&error), "no garbage of the network collected");
            }
            Ok::<_, crate::runtime::RuntimeError>(sandboxes)
        })
        .await;
        match sandboxes {
            Ok(sandboxes) => {
                self.leftovers = sandboxes.into_iter().map(|one| (one.pod.uid.clone(), one)).collect();
            }
            Err(error) => {
                tracing::error!(error = crate::core::one_line(&error), "listing what runs on this node");
            }
        }
    }

    fn follow(&mut self, event: Event<Pod>, listed: &mut BTreeSet<String>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.insert(pod.uid().unwrap_or_default());
                self.apply(pod, true);
            }
            Event::InitDone => self.sweep(listed),
            Event::Apply(pod) => self.apply(pod, true),
            Event::Delete(pod) => self.apply(pod, false),
        }
    }

    /// After a list: pods that are not in it are gone, and sandboxes without a pod have to go.
    fn sweep(&mut self, listed: &BTreeSet<String>) {
        for (uid, worker) in &self.workers {
            if !listed.contains(uid) {
                worker.send_modify(|desired| desired.is_in_api = false);
            }
        }
        for sandbox in std::mem::take(&mut self.leftovers).into_values() {
            tracing::info!(
                pod = sandbox.pod.name,
                uid = sandbox.pod.uid,
                "removing what is left of a pod that is gone"
            );
            let pod = Arc::new(nameless(&sandbox.pod));
            self.start(Desired { pod, is_in_api: false }, Some(sandbox));
        }
    }

    fn apply(&mut self, pod: Pod, is_in_api: bool) {
        let Some(uid) = pod.uid() else { return };
        let desired = Desired { pod: Arc::new(pod), is_in_api };
        if let Some(worker) = self.workers.get(&uid) {
            self.pods.set(&uid, Some(desired.pod.clone()));
            worker.send_replace(desired);
        } else if is_in_api || self.leftovers.contains_key(&uid) {
            let sandbox = self.leftovers.remove(&uid);
            self.start(desired, sandbox);
        }
    }

    fn start(&mut self, desired: Desired, sandbox: Option<Sandbox>) {
        let uid = desired.pod.uid().unwrap_or_default();
        self.pods.set(&uid, Some(desired.pod.clone()));
        let (sender, receiver) = watch::channel(desired);
        self.workers.insert(uid.clone(), sender);
        let worker = Worker::new(self.core.clone(), receiver, sandbox);
        self.tasks.spawn(async move {
            worker.run().await;
            uid
        });
    }

    fn forget(&mut self, over: Result<String, tokio::task::JoinError>) {
        match over {
            Ok(uid) => {
                self.workers.remove(&uid);
                self.pods.set(&uid, None);
            }
            Err(error) => tracing::error!(%error, "the worker of a pod broke down"),
        }
    }
}

/// All that is known of a pod that the API does not have any more.
fn nameless(name: &PodName) -> Pod {
    let PodName { namespace, name, uid } = name.clone();
    let metadata =
        ObjectMeta { namespace: Some(namespace), name: Some(name), uid: Some(uid), ..ObjectMeta::default() };
    Pod { metadata, ..Pod::default() }
}

/// Has all workers look again whenever a container ended.
fn watch_ends(core: &Core) {
    while !core.stopping.is_cancelled() {
        match core.runtime.wait_for_ends(ENDS) {
            Ok(()) => core.ends.send_modify(|count| *count += 1),
            Err(error) => {
                tracing::warn!(%error, "waiting for containers to end");
                std::thread::sleep(ENDS);
            }
        }
    }
}
