//! Pods get a node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod, Taint, Toleration};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::events::Events;
use super::informer::Key;
use super::queue::{Queue, work};
use super::{Cluster, is_out_of_date, pods};

/// Pods that name another scheduler are left to it.
const OWN_NAME: &str = "default-scheduler";

struct Controller {
    client: Client,
    cluster: Arc<Cluster>,
    events: Events,
    /// Pods that were bound, and of which the watch has not told yet, with their nodes.
    bound: Mutex<HashMap<Key, String>>,
}

pub(super) async fn run(client: Client, cluster: Arc<Cluster>) {
    let queue = Queue::default();
    let own = queue.clone();
    cluster.pods.on_change(move |change| {
        if let Some(pod) = change.new.filter(|pod| is_waiting(pod)) {
            own.add(Key::of(pod));
        }
    });
    let (pods, own) = (cluster.pods.clone(), queue.clone());
    cluster.nodes.on_change(move |change| {
        let relevant = |node: Option<&Node>| {
            node.map(|node| (node.labels().clone(), is_schedulable(node), taints(node)))
        };
        if relevant(change.old) != relevant(change.new) {
            pods.all().iter().filter(|pod| is_waiting(pod)).for_each(|pod| own.add(Key::of(&**pod)));
        }
    });
    let events = Events::new(client.clone(), OWN_NAME);
    let controller =
        Arc::new(Controller { client, cluster: cluster.clone(), events, bound: Mutex::default() });
    cluster.synced().await;
    // One at a time: each choice counts on those before it.
    work(queue, 1, "scheduler", |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

fn is_waiting(pod: &Pod) -> bool {
    let spec = pod.spec.clone().unwrap_or_default();
    spec.node_name.is_none_or(|node| node.is_empty())
        && pod.metadata.deletion_timestamp.is_none()
        && !pods::is_done(pod)
        && spec.scheduling_gates.is_none_or(|gates| gates.is_empty())
        && spec.scheduler_name.is_none_or(|name| name == OWN_NAME)
}

fn is_schedulable(node: &Node) -> bool {
    let is_cordoned = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    !is_cordoned && node.metadata.deletion_timestamp.is_none() && super::nodes::is_ready(node)
}

fn taints(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default()
}

/// Why a node cannot take a pod; nothing if it can.
fn objection(pod: &Pod, node: &Node) -> Option<String> {
    let spec = pod.spec.clone().unwrap_or_default();
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        return Some("were unschedulable".to_owned());
    }
    if !is_schedulable(node) {
        return Some("were not ready".to_owned());
    }
    let tolerations = spec.tolerations.unwrap_or_default();
    let is_tolerated = |taint: &Taint| tolerations.iter().any(|toleration| tolerates(toleration, taint));
    let repelling = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    if let Some(taint) = taints(node).iter().filter(repelling).find(|taint| !is_tolerated(taint)) {
        let value = taint.value.as_deref().unwrap_or_default();
        return Some(format!("had untolerated taint {{{}: {value}}}", taint.key));
    }
    let labels = node.labels();
    let selector = spec.node_selector.unwrap_or_default();
    if !selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return Some("didn't match Pod's node affinity/selector".to_owned());
    }
    None
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let effect = text(&toleration.effect);
    let key = text(&toleration.key);
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => key.is_empty() || key == taint.key,
        "Equal" | "" => key == taint.key && text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}

/// The node with the fewest pods of the same owner, then with the fewest pods, then the first by name.
fn choose(pod: &Pod, nodes: &[Arc<Node>], placed: &[(String, Option<String>)]) -> Result<String, String> {
    let mut objections: HashMap<String, usize> = HashMap::new();
    let mut candidates = Vec::new();
    for node in nodes {
        match objection(pod, node) {
            None => candidates.push(node.name_any()),
            Some(why) => *objections.entry(why).or_default() += 1,
        }
    }
    let owner = pods::controller_uid(pod);
    let load = |node: &String| {
        let on_node = placed.iter().filter(|(name, _)| name == node);
        let of_owner = on_node.clone().filter(|(_, uid)| owner.is_some() && uid.as_deref() == owner).count();
        (of_owner, on_node.count(), node.clone())
    };
    candidates.into_iter().min_by_key(load).ok_or_else(|| {
        let mut reasons: Vec<String> =
            objections.into_iter().map(|(why, count)| format!("{count} node(s) {why}")).collect();
        reasons.sort();
        let reasons =
            if reasons.is_empty() { "no nodes are registered".to_owned() } else { reasons.join(", ") };
        format!("0/{} nodes are available: {reasons}.", nodes.len())
    })
}

impl Controller {
    async fn sync(&self, key: &Key) -> Result<(), kube::Error> {
        let Some(pod) = self.cluster.pods.get(key).filter(|pod| is_waiting(pod)) else { return Ok(()) };
        if self.bound().contains_key(key) {
            return Ok(());
        }
        let about = pod.object_ref(&());
        match choose(&pod, &self.cluster.nodes.all(), &self.placed()) {
            Ok(node) => {
                self.bind(key, &pod, &node).await?;
                let note = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
                self.events.normal(&about, "Scheduled", &note).await;
            }
            Err(why) => {
                self.refuse(key, &pod, &why).await?;
                self.events.warning(&about, "FailedScheduling", &why).await;
            }
        }
        Ok(())
    }

    /// The nodes and owners of all pods that take room.
    fn placed(&self) -> Vec<(String, Option<String>)> {
        let mut bound = self.bound();
        // What the watch has told of need not be remembered.
        bound.retain(|key, _| self.cluster.pods.get(key).is_some_and(|pod| is_waiting(&pod)));
        let owner = |pod: &Pod| pods::controller_uid(pod).map(str::to_owned);
        let remembered = bound.iter().filter_map(|(key, node)| {
            let pod = self.cluster.pods.get(key)?;
            Some((node.clone(), owner(&pod)))
        });
        let known = self.cluster.pods.all().into_iter().filter(|pod| !pods::is_done(pod)).filter_map(|pod| {
            let node = pod.spec.as_ref()?.node_name.clone()?;
            Some((node, owner(&pod)))
        });
        remembered.chain(known).collect()
    }

    async fn bind(&self, key: &Key, pod: &Pod, node: &str) -> Result<(), kube::Error> {
        let binding = Binding {
            metadata: kube::api::ObjectMeta {
                name: pod.metadata.name.clone(),
                namespace: pod.metadata.namespace.clone(),
                uid: pod.metadata.uid.clone(),
                ..kube::api::ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let bound: Result<serde_json::Value, kube::Error> =
            api.create_subresource("binding", &key.name, &PostParams::default(), &binding).await;
        match bound {
            Ok(_) => {
                self.bound().insert(key.clone(), node.to_owned());
                Ok(())
            }
            // Somebody else placed or deleted it.
            Err(error) if is_out_of_date(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says on the pod why it waits. A node that comes or changes lets it be looked at again.
    async fn refuse(&self, key: &Key, pod: &Pod, why: &str) -> Result<(), kube::Error> {
        let before = pods::condition(pod, "PodScheduled");
        if before.is_some_and(|condition| condition.message.as_deref() == Some(why)) {
            return Ok(());
        }
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
            "lastTransitionTime": jiff::Timestamp::now(),
        });
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
            Err(error) if is_out_of_date(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    fn bound(&self) -> std::sync::MutexGuard<'_, HashMap<Key, String>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, spec: serde_json::Value, ready: bool) -> Arc<Node> {
        let status =
            json!({"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]});
        let metadata = json!({"name": name, "labels": {"disk": name}});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status}))
            .map(Arc::new)
            .unwrap()
    }

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn pods_spread_over_ready_nodes() {
        let nodes = [node("a", json!({}), true), node("b", json!({}), true), node("c", json!({}), false)];
        let pod = pod(json!({"containers": []}));
        assert_eq!(choose(&pod, &nodes, &[]), Ok("a".to_owned()));
        assert_eq!(choose(&pod, &nodes, &[("a".to_owned(), None)]), Ok("b".to_owned()));
    }

    #[test]
    fn a_selector_and_taints_narrow_the_choice() {
        let taint = json!({"taints": [{"key": "only", "value": "db", "effect": "NoSchedule"}]});
        let nodes = [node("a", taint, true), node("b", json!({}), true)];
        assert_eq!(choose(&pod(json!({"containers": []})), &nodes, &[]), Ok("b".to_owned()));
        let tolerant = json!({"containers": [], "nodeSelector": {"disk": "a"},
            "tolerations": [{"key": "only", "operator": "Exists"}]});
        assert_eq!(choose(&pod(tolerant), &nodes, &[]), Ok("a".to_owned()));
    }

    #[test]
    fn a_pod_that_fits_nowhere_is_told_why() {
        let nodes = [node("a", json!({"unschedulable": true}), true), node("b", json!({}), false)];
        let why = choose(&pod(json!({"containers": []})), &nodes, &[]);
        let expected = "0/2 nodes are available: 1 node(s) were not ready, 1 node(s) were unschedulable.";
        assert_eq!(why, Err(expected.to_owned()));
    }
}
