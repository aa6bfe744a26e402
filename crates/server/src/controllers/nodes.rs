//! Nodes: their pod ranges, and what follows when one is no longer heard of.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::informer::Key;
use super::queue::{Queue, work};
use super::{Cluster, is_out_of_date, pods};

/// The namespace of the leases by which nodes say that they live.
const LEASES: &str = "kube-node-lease";
/// A node that has said nothing for this long is taken to be lost.
const GRACE_SECONDS: i64 = 40;
/// How long pods may name a node that is not there: it may be about to come.
const ORPHANED: Duration = Duration::from_secs(40);
/// How often to look for silence, which no watch tells of.
const INTERVAL: Duration = Duration::from_secs(5);
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The length of the ranges that nodes get, by family.
const V4_LENGTH: u8 = 24;
const V6_LENGTH: u8 = 64;

#[derive(Clone)]
struct Controller {
    client: Client,
    cluster: Arc<Cluster>,
    cluster_cidrs: Vec<IpNet>,
}

pub(super) async fn run(client: Client, cluster: Arc<Cluster>, cluster_cidrs: Vec<IpNet>) {
    let queue = Queue::default();
    let own = queue.clone();
    cluster.nodes.on_change(move |change| match (change.new, change.old) {
        (Some(node), _) => own.add(Key::of(node)),
        (None, Some(gone)) => own.add_after(Key::of(gone), ORPHANED),
        (None, None) => {}
    });
    let (nodes, own) = (cluster.nodes.clone(), queue.clone());
    cluster.pods.on_change(move |change| {
        let Some(node) = change.new.and_then(|pod| pod.spec.as_ref()?.node_name.clone()) else { return };
        if nodes.get(&Key::new("", &node)).is_none() {
            own.add_after(Key::new("", &node), ORPHANED);
        }
    });
    let controller = Controller { client, cluster: cluster.clone(), cluster_cidrs };
    cluster.synced().await;
    // One at a time, so that no range is given out twice.
    work(queue.clone(), 1, "nodes", |key| {
        let (controller, queue) = (controller.clone(), queue.clone());
        async move {
            let result = controller.sync(&key).await;
            if controller.cluster.nodes.get(&key).is_some() {
                queue.add_after(key, INTERVAL);
            }
            result
        }
    })
    .await;
}

pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub(super) fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|condition| condition.status == "True")
}

impl Controller {
    async fn sync(&self, key: &Key) -> Result<(), kube::Error> {
        let Some(node) = self.cluster.nodes.get(key) else { return self.remove_pods(&key.name).await };
        self.give_range(&node).await?;
        let silent = self.silent_seconds(&node, Timestamp::now());
        if silent > GRACE_SECONDS && condition(&node, "Ready").is_some_and(|ready| ready.status != "Unknown")
        {
            return self.declare_lost(&node).await;
        }
        self.taint(&node).await?;
        // A node that never said anything of itself was written by hand, and so were its pods.
        match condition(&node, "Ready").is_some_and(|ready| ready.status != "True") {
            true => self.mark_pods_not_ready(&node.name_any()).await,
            false => Ok(()),
        }
    }

    /// Since its lease was renewed, or its condition, or it was created.
    fn silent_seconds(&self, node: &Node, now: Timestamp) -> i64 {
        let lease = self.cluster.leases.get(&Key::new(LEASES, &node.name_any()));
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone()).map(|time| time.0);
        let heartbeat =
            condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.clone()).map(|time| time.0);
        let heard: Vec<Timestamp> = renewed.into_iter().chain(heartbeat).collect();
        // A node that never said anything of itself was written by hand, and by hand it stays as it is.
        heard.into_iter().max().map_or(0, |heard| now.as_second() - heard.as_second())
    }

    async fn declare_lost(&self, node: &Node) -> Result<(), kube::Error> {
        let now = Timestamp::now();
        let lost =
            ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"].into_iter().filter_map(|kind| {
                condition(node, kind).map(|_| {
                    json!({"type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
                    "message": "Kubelet stopped posting node status.", "lastTransitionTime": now})
                })
            });
        let patch = json!({"status": {"conditions": lost.collect::<Vec<Value>>()}});
        let api = Api::<Node>::all(self.client.clone());
        ignore_out_of_date(
            api.patch_status(&node.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await,
        )
    }

    /// Keeps new pods away from a node that is not ready.
    async fn taint(&self, node: &Node) -> Result<(), kube::Error> {
        let wanted = match condition(node, "Ready").map(|ready| ready.status.as_str()) {
            Some("True") | None => None,
            Some("Unknown") => Some(UNREACHABLE),
            Some(_) => Some(NOT_READY),
        };
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let is_own = |key: &str| key == UNREACHABLE || key == NOT_READY;
        let own: Vec<&str> =
            taints.iter().map(|taint| taint.key.as_str()).filter(|key| is_own(key)).collect();
        if own == wanted.into_iter().collect::<Vec<_>>() {
            return Ok(());
        }
        let mut taints: Vec<Value> =
            taints.iter().filter(|taint| !is_own(&taint.key)).map(|taint| json!(taint)).collect();
        taints.extend(wanted.map(|key| json!({"key": key, "effect": "NoSchedule"})));
        let patch =
            json!({"metadata": {"resourceVersion": node.resource_version()}, "spec": {"taints": taints}});
        let api = Api::<Node>::all(self.client.clone());
        ignore_out_of_date(api.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    /// Nobody knows how pods on a lost node fare; they get no more traffic.
    async fn mark_pods_not_ready(&self, node: &str) -> Result<(), kube::Error> {
        for pod in self.pods_on(node).into_iter().filter(|pod| pods::is_ready(pod)) {
            let condition =
                json!({"type": "Ready", "status": "False", "lastTransitionTime": Timestamp::now()});
            let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
            let api = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
            ignore_out_of_date(api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await)?;
        }
        Ok(())
    }

    /// Pods of a node that is gone have nobody who would end them.
    async fn remove_pods(&self, node: &str) -> Result<(), kube::Error> {
        for pod in self.pods_on(node) {
            let api = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
            let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            ignore_out_of_date(api.delete(&pod.name_any(), &params).await)?;
        }
        Ok(())
    }

    fn pods_on(&self, node: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.cluster.pods.all();
        pods.retain(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node));
        pods
    }

    async fn give_range(&self, node: &Node) -> Result<(), kube::Error> {
        let has_range = node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some());
        if has_range || self.cluster_cidrs.is_empty() {
            return Ok(());
        }
        let nodes = self.cluster.nodes.all();
        let taken: Vec<IpNet> = nodes
            .iter()
            .flat_map(|node| node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten()))
            .filter_map(|range| range.parse().ok())
            .collect();
        let free: Option<Vec<IpNet>> =
            self.cluster_cidrs.iter().map(|range| first_free(range, &taken)).collect();
        let Some(free) = free else {
            tracing::error!(node = node.name_any(), ranges = ?self.cluster_cidrs, "no pod range is left; widen --cluster-cidr");
            return Ok(());
        };
        let texts: Vec<String> = free.iter().map(ToString::to_string).collect();
        let patch = json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "spec": {"podCIDR": texts.first(), "podCIDRs": texts},
        });
        let api = Api::<Node>::all(self.client.clone());
        // Until the write has come back, the next node must not be looked at: its range would be the same.
        let written = api.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
        match written {
            Ok(_) => self.wait_for_range(&Key::of(node)).await,
            Err(error) if is_out_of_date(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn wait_for_range(&self, key: &Key) {
        let has_range = || {
            let node = self.cluster.nodes.get(key);
            node.is_none_or(|node| node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some()))
        };
        while !has_range() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The first range of a node's size within `all` that meets none of `taken`. The range with the number 0 is left out:
/// nodes are counted from 1 by people.
fn first_free(all: &IpNet, taken: &[IpNet]) -> Option<IpNet> {
    let length = if matches!(all, IpNet::V4(_)) { V4_LENGTH } else { V6_LENGTH }.max(all.prefix_len());
    let count = 1u128.checked_shl(u32::from(length - all.prefix_len())).unwrap_or(u128::MAX);
    let first = u128::from(count > 1);
    let is_free = |range: &IpNet| !taken.iter().any(|taken| taken.contains(range) || range.contains(taken));
    (first..count)
        .take(taken.len() + 1)
        .filter_map(|number| nth(all, length, number))
        .find(is_free)
        .or_else(|| (first..count.min(1 << 16)).filter_map(|number| nth(all, length, number)).find(is_free))
}

fn nth(all: &IpNet, length: u8, number: u128) -> Option<IpNet> {
    match all.network() {
        IpAddr::V4(base) => {
            let offset = u32::try_from(number).ok()?.checked_shl(32 - u32::from(length))?;
            Ipv4Net::new((u32::from(base) + offset).into(), length).ok().map(IpNet::V4)
        }
        IpAddr::V6(base) => {
            let offset = number.checked_shl(128 - u32::from(length))?;
            Ipv6Net::new((u128::from(base) + offset).into(), length).ok().map(IpNet::V6)
        }
    }
}

fn ignore_out_of_date<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if is_out_of_date(&error) => Ok(()),
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(all: &str, taken: &[&str]) -> Option<String> {
        let taken: Vec<IpNet> = taken.iter().map(|range| range.parse().unwrap()).collect();
        first_free(&all.parse().unwrap(), &taken).map(|range| range.to_string())
    }

    #[test]
    fn nodes_get_ranges_one_after_the_other() {
        assert_eq!(free("10.244.0.0/16", &[]).as_deref(), Some("10.244.1.0/24"));
        assert_eq!(
            free("10.244.0.0/16", &["10.244.1.0/24", "10.244.3.0/24"]).as_deref(),
            Some("10.244.2.0/24")
        );
        assert_eq!(free("fd00:10:244::/56", &["fd00:10:244:1::/64"]).as_deref(), Some("fd00:10:244:2::/64"));
    }

    #[test]
    fn a_range_that_is_used_up_gives_nothing() {
        assert_eq!(free("10.0.0.0/24", &[]).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(free("10.0.0.0/24", &["10.0.0.0/25"]), None);
        assert_eq!(free("10.0.0.0/23", &["10.0.1.0/24"]), None);
    }
}
