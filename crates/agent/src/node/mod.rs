//! The agent's own node in the API: made known, kept alive, and told how it fares.
//!
//! What is told (`object`) is made from what is found on this machine (`facts`); `lease` says every few seconds that the
//! agent lives, which is cheaper than to say how.

mod facts;
mod lease;
mod object;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::core::{Core, blocking, one_line};
use crate::events::Kind;
use crate::flags::Settings;
use facts::Facts;
use object::{Health, Told};

pub(crate) use object::pod_cidrs;

/// Between tries to make the node known.
const RETRY: Duration = Duration::from_secs(1);
/// While the node is not ready, how often to look whether it has become so.
const UNREADY_INTERVAL: Duration = Duration::from_millis(500);

/// What else decides whether the node is ready.
pub(crate) type NetworkHealth = Result<(), String>;

/// Keeps the node. `network` says whether pods can be joined to the network, and why not.
pub(crate) struct NodeKeeper {
    core: Arc<Core>,
    settings: Settings,
    facts: Facts,
    /// Where the agent answers.
    port: u16,
    network: watch::Receiver<NetworkHealth>,
    /// As told last.
    conditions: Vec<NodeCondition>,
}

impl NodeKeeper {
    pub(crate) fn new(
        core: Arc<Core>,
        settings: Settings,
        port: u16,
        network: watch::Receiver<NetworkHealth>,
    ) -> NodeKeeper {
        NodeKeeper { core, settings, facts: Facts::read(), port, network, conditions: Vec::new() }
    }

    /// Until the agent ends.
    pub(crate) async fn run(mut self) {
        self.register_until_known().await;
        let lease = lease::run(self.core.clone());
        let status = self.keep_status();
        tokio::join!(lease, status);
    }

    async fn register_until_known(&mut self) {
        let mut is_first = true;
        while let Err(error) = self.register().await {
            if is_first {
                tracing::warn!(error = one_line(&error), "cannot make the node known; trying on");
            }
            is_first = false;
            sleep(RETRY).await;
        }
        let message = "Starting switchyard agent.";
        self.core.events.node(&self.core.node_name, Kind::Normal, "Starting", message);
    }

    fn api(&self) -> Api<Node> {
        Api::all(self.core.client.clone())
    }

    fn told(&self, health: &Health) -> Told<'_> {
        Told {
            settings: &self.settings,
            facts: &self.facts,
            port: self.port,
            health: health.clone(),
            before: &self.conditions,
            now: jiff::Timestamp::now(),
        }
    }

    /// Makes the node known, or puts its labels right if it is known already.
    async fn register(&mut self) -> Result<(), kube::Error> {
        let health = self.health().await;
        if self.settings.register_node {
            let node = object::node(&self.told(&health));
            match self.api().create(&PostParams::default(), &node).await {
                Ok(node) => {
                    self.remember(&node);
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
        let node = self.api().get(&self.core.node_name).await?;
        self.remember(&node);
        let labels = object::labels(&self.settings);
        if labels.iter().any(|(key, value)| node.labels().get(key) != Some(value)) {
            let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
            self.api().patch(&self.core.node_name, &PatchParams::default(), &patch).await?;
        }
        Ok(())
    }

    fn remember(&mut self, node: &Node) {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.clone());
        self.conditions = conditions.unwrap_or_default();
    }

    /// Every so often, and at once when it changes.
    async fn keep_status(mut self) {
        loop {
            let health = self.health().await;
            let is_ready = health.is_ok();
            if let Err(error) = self.tell(&health).await {
                tracing::warn!(error = one_line(&error), "cannot tell the node's status");
            }
            let until = Instant::now() + self.settings.status_interval;
            while Instant::now() < until {
                let next = if is_ready { until } else { until.min(Instant::now() + UNREADY_INTERVAL) };
                let changed = timeout_at(next, self.network.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    return;
                }
                if self.health().await != health {
                    break;
                }
            }
        }
    }

    async fn health(&mut self) -> Health {
        self.network.borrow_and_update().clone()?;
        let core = self.core.clone();
        blocking(move || core.cni.status().map_err(|error| one_line(&error))).await
    }

    async fn tell(&mut self, health: &Health) -> Result<(), kube::Error> {
        let patch = Patch::Strategic(object::status_patch(&self.told(health)));
        match self.api().patch_status(&self.core.node_name, &PatchParams::default(), &patch).await {
            Ok(node) => {
                let was_ready = object::is_ready(&self.conditions);
                self.remember(&node);
                if was_ready != Some(health.is_ok()) {
                    let reason = if health.is_ok() { "NodeReady" } else { "NodeNotReady" };
                    let message = format!("Node {} status is now: {reason}", self.core.node_name);
                    self.core.events.node(&self.core.node_name, Kind::Normal, reason, message);
                }
                Ok(())
            }
            // Somebody removed the node. As long as the agent runs, there is one.
            Err(kube::Error::Api(status)) if status.code == 404 => self.register().await,
            Err(error) => Err(error),
        }
    }
}
