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
use tokio::time::{Instant, sleep_until};

use super::apply::{apply, tunnel_mtu};
use super::plan::{Site, Ways, ways};
use crate::core::{Core, blocking, one_line};
use crate::events::Kind;
use crate::flags::{PodNetwork, Settings};
use crate::node::{NetworkHealth, pod_cidrs};

/// After a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Somebody else may have removed what is ours.
const ANYWAY: Duration = Duration::from_secs(60);

/// What follows from the nodes for this one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Wanted {
    is_known: bool,
    /// For the pods of this node.
    ranges: Vec<IpNet>,
    ways: Ways,
}

/// Keeps the network of this node's pods.
pub(crate) struct NetworkKeeper {
    core: Arc<Core>,
    settings: Settings,
    health: watch::Sender<NetworkHealth>,
    nodes: BTreeMap<String, Node>,
    /// As it was put into force last.
    done: Option<Wanted>,
    /// What was in the way then.
    failures: Vec<String>,
}

impl NetworkKeeper {
    /// Also where to hear whether there is a network.
    pub(crate) fn new(
        core: Arc<Core>,
        settings: Settings,
    ) -> (NetworkKeeper, watch::Receiver<NetworkHealth>) {
        let (health, receiver) = watch::channel(Err("the API has not told of this node yet".to_owned()));
        let keeper = NetworkKeeper {
            core,
            settings,
            health,
            nodes: BTreeMap::new(),
            done: None,
            failures: Vec::new(),
        };
        (keeper, receiver)
    }

    /// Until the agent ends.
    pub(crate) async fn run(mut self) {
        let api = Api::<Node>::all(self.core.client.clone());
        let mut events = pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
        let mut listed = BTreeMap::new();
        let mut again = Instant::now() + ANYWAY;
        loop {
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(event)) => self.take(event, &mut listed),
                    Ok(None) => return,
                    Err(error) => tracing::warn!(%error, "watching nodes"),
                },
                () = sleep_until(again) => self.done = None,
            }
            // Nodes tell their status every few seconds, which mostly changes nothing here.
            let wanted = self.wanted();
            if !self.nodes.is_empty() && self.done.as_ref() != Some(&wanted) {
                let is_done = self.put(&wanted).await;
                self.done = Some(wanted);
                again = Instant::now() + if is_done { ANYWAY } else { RETRY };
            }
        }
    }

    fn take(&mut self, event: Event<Node>, listed: &mut BTreeMap<String, Node>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(node) => drop(listed.insert(node.name_any(), node)),
            Event::InitDone => self.nodes = std::mem::take(listed),
            Event::Apply(node) => drop(self.nodes.insert(node.name_any(), node)),
            Event::Delete(node) => drop(self.nodes.remove(&node.name_any())),
        }
    }

    fn wanted(&self) -> Wanted {
        let own = self.nodes.get(&self.core.node_name);
        let given = own.map(pod_cidrs).unwrap_or_default();
        let ranges = if given.is_empty() { self.settings.pod_cidrs.clone() } else { given };
        let site = Site {
            name: self.core.node_name.clone(),
            addresses: self.core.node_ips.clone(),
            ranges: ranges.clone(),
        };
        let all: Vec<Site> = self.nodes.values().map(Site::of).collect();
        Wanted { is_known: own.is_some(), ranges, ways: ways(self.settings.network, &site, &all) }
    }

    /// Whether all of it could be put into force.
    async fn put(&mut self, wanted: &Wanted) -> bool {
        let health = self.configure(wanted).await;
        let is_healthy = health.is_ok();
        self.health.send_if_modified(|known| {
            let is_new = *known != health;
            *known = health;
            is_new
        });
        let ways = wanted.ways.clone();
        let failures = blocking(move || apply(&ways)).await;
        // Said once, and again when it changes.
        for failure in failures.iter().filter(|failure| !self.failures.contains(failure)) {
            let message = format!("{failure}{}", self.way_out());
            self.core.events.node(&self.core.node_name, Kind::Warning, "FailedPodNetwork", message);
        }
        self.failures = failures;
        is_healthy && self.failures.is_empty()
    }

    fn way_out(&self) -> &'static str {
        match self.settings.network {
            PodNetwork::Routes => {
                "; where nodes share no link, pods of other nodes are reached with --network vxlan"
            }
            PodNetwork::Vxlan | PodNetwork::None => "",
        }
    }

    /// Sees to it that there is a network to join pods to.
    async fn configure(&self, wanted: &Wanted) -> NetworkHealth {
        if !wanted.is_known {
            return Err(format!("node {:?} is not known to the API", self.core.node_name));
        }
        let (core, ranges) = (self.core.clone(), wanted.ranges.clone());
        let tunnel = wanted.ways.tunnel.as_ref().map(|tunnel| tunnel.local);
        blocking(move || {
            if ranges.is_empty() {
                // Somebody else's network may need none.
                return core.cni.network_name().map(drop).map_err(|_| {
                    "the node has no addresses for pods yet (spec.podCIDR): set --cluster-cidr of the API server, or \
                     --pod-cidr"
                        .to_owned()
                });
            }
            let mtu = tunnel.map(tunnel_mtu).transpose().map_err(|error| one_line(&error))?;
            core.cni.configure(&ranges, mtu).map_err(|error| one_line(&error))
        })
        .await
    }
}
