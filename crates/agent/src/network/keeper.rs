//! Follows the nodes of the cluster: from the own one come the addresses for pods, from the others the ways to theirs.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::sync::watch;

use crate::core::{Core, blocking, one_line};
use crate::flags::{PodNetwork, Settings};
use crate::node::{NetworkHealth, pod_cidrs};

use super::ways;

/// Somebody else may have removed what was set up.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Keeps the network of this node's pods.
pub(crate) struct NetworkKeeper {
    core: Arc<Core>,
    settings: Settings,
    health: watch::Sender<NetworkHealth>,
    nodes: BTreeMap<String, Node>,
}

impl NetworkKeeper {
    /// Also where to hear whether there is a network.
    pub(crate) fn new(
        core: Arc<Core>,
        settings: Settings,
    ) -> (NetworkKeeper, watch::Receiver<NetworkHealth>) {
        let (health, receiver) = watch::channel(Err("the API has not told of this node yet".to_owned()));
        (NetworkKeeper { core, settings, health, nodes: BTreeMap::new() }, receiver)
    }

    /// Until the agent ends.
    pub(crate) async fn run(mut self) {
        let api = Api::<Node>::all(self.core.client.clone());
        let mut events = pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
        let mut listed = BTreeMap::new();
        let mut look_again = tokio::time::interval(LOOK_AGAIN);
        loop {
            let event = tokio::select! {
                event = events.try_next() => event,
                _ = look_again.tick() => {
                    if !self.nodes.is_empty() {
                        self.follow().await;
                    }
                    continue;
                }
            };
            match event {
                Ok(Some(Event::Init)) => listed.clear(),
                Ok(Some(Event::InitApply(node))) => drop(listed.insert(node.name_any(), node)),
                Ok(Some(Event::InitDone)) => {
                    self.nodes = std::mem::take(&mut listed);
                    self.follow().await;
                }
                Ok(Some(Event::Apply(node))) => {
                    self.nodes.insert(node.name_any(), node);
                    self.follow().await;
                }
                Ok(Some(Event::Delete(node))) => {
                    self.nodes.remove(&node.name_any());
                    self.follow().await;
                }
                Ok(None) => return,
                Err(error) => tracing::warn!(%error, "watching nodes"),
            }
        }
    }

    async fn follow(&mut self) {
        let health = self.configure().await;
        if self.settings.network == PodNetwork::Routes {
            self.lead().await;
        }
        self.health.send_if_modified(|known| {
            let is_new = *known != health;
            *known = health;
            is_new
        });
    }

    /// Sees to it that the pods of other nodes are reached.
    async fn lead(&self) {
        let wanted = ways::ways(&self.core.node_name, self.nodes.values());
        for error in blocking(move || ways::lead(&wanted)).await {
            tracing::warn!(
                error = one_line(&error),
                "pods of another node are not reached; where nodes share no link, use --network vxlan"
            );
        }
    }

    /// Sees to it that there is a network to join pods to.
    async fn configure(&self) -> NetworkHealth {
        let Some(own) = self.nodes.get(&self.core.node_name) else {
            return Err(format!("node {:?} is not known to the API", self.core.node_name));
        };
        let given = pod_cidrs(own);
        let ranges: Vec<IpNet> = if given.is_empty() { self.settings.pod_cidrs.clone() } else { given };
        let core = self.core.clone();
        blocking(move || {
            if ranges.is_empty() && core.cni.network_name().is_err() {
                return Err("the node has no addresses for pods yet (spec.podCIDR): \
                            set --cluster-cidr of the API server, or --pod-cidr"
                    .to_owned());
            }
            let configured = if ranges.is_empty() { Ok(()) } else { core.cni.configure(&ranges, None) };
            configured.map_err(|error| one_line(&error))
        })
        .await
    }
}
