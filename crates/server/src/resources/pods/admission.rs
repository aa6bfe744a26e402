//! What the cluster adds to a new pod: the identity it runs under, its priority, and how long it stands a lost node.

use serde_json::{Map, Value, json};

use super::NAMES;
use crate::metadata::generated_name;
use crate::object::Object;
use crate::registry::Context;
use crate::resources::defaults::{fill, maps_in};
use crate::status::{ApiError, Subject};
use crate::store::Key;

const ACCOUNT: [&str; 2] = ["spec", "serviceAccountName"];
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_VOLUME_PREFIX: &str = "kube-api-access-";
/// A little over an hour, by which agents know the token as one that nobody asked for.
const TOKEN_SECONDS: i64 = 3607;
/// How long a pod stays on a node that is not ready or cannot be reached.
const NODE_LOSS_SECONDS: i64 = 300;
/// What a pod takes over from its node.
const TOPOLOGY_LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// # Errors
/// 403 if what the pod refers to does not exist.
pub(super) fn admit(context: &Context<'_>, pod: &mut Object) -> Result<(), ApiError> {
    set_priority(pod)?;
    set_account_name(pod);
    let name = pod.text(&ACCOUNT);
    let account = context.snapshot.get(&Key::object("", "serviceaccounts", pod.namespace(), name));
    let Some(account) = account else {
        let namespace = pod.namespace();
        let why =
            format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(forbidden(pod, &why));
    };
    use_account(pod, &account.object());
    tolerate_node_loss(pod);
    if let Some(node) = context.snapshot.get(&Key::object("", "nodes", "", pod.text(&["spec", "nodeName"]))) {
        copy_topology(pod, &node.object());
    }
    Ok(())
}

fn forbidden(pod: &Object, why: &str) -> ApiError {
    ApiError::forbidden(Subject { group: NAMES.group, kind: NAMES.plural, name: pod.name() }, why)
}

/// There are no classes here but the two that every cluster has.
fn set_priority(pod: &mut Object) -> Result<(), ApiError> {
    let priority = match pod.text(&["spec", "priorityClassName"]) {
        "" => 0,
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        class => return Err(forbidden(pod, &format!("no PriorityClass with name {class} was found"))),
    };
    pod.set(&["spec", "priority"], priority);
    if pod.text(&["spec", "preemptionPolicy"]).is_empty() {
        pod.set(&["spec", "preemptionPolicy"], "PreemptLowerPriority");
    }
    Ok(())
}

fn set_account_name(pod: &mut Object) {
    if pod.text(&ACCOUNT).is_empty() {
        pod.set(&ACCOUNT, "default");
        pod.set(&["spec", "serviceAccount"], "default");
    }
}

fn use_account(pod: &mut Object, account: &Object) {
    const SECRETS: [&str; 2] = ["spec", "imagePullSecrets"];
    let secrets = account.list(&["imagePullSecrets"]);
    if pod.list(&SECRETS).is_empty() && !secrets.is_empty() {
        pod.set(&SECRETS, secrets.to_vec());
    }
    let wish = |object: &Object, path: &[&str]| object.at(path).and_then(Value::as_bool);
    let mounts = wish(pod, &["spec", "automountServiceAccountToken"])
        .or_else(|| wish(account, &["automountServiceAccountToken"]))
        .unwrap_or(true);
    if mounts {
        mount_token(pod);
    }
}

/// Gives the containers a token by which they can talk to the API, unless they mount something of their own there.
fn mount_token(pod: &mut Object) {
    let Some(Value::Object(spec)) = pod.0.get_mut("spec") else { return };
    let present = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let name = present
        .filter_map(|volume| volume.get("name")?.as_str())
        .find(|name| name.starts_with(TOKEN_VOLUME_PREFIX))
        .map(str::to_owned);
    let is_present = name.is_some();
    let name = name.unwrap_or_else(|| generated_name(TOKEN_VOLUME_PREFIX));
    let mut is_mounted = false;
    for list in ["initContainers", "containers"] {
        for container in maps_in(spec, list) {
            is_mounted |= mount(container, &name);
        }
    }
    if is_mounted && !is_present {
        fill(spec, "volumes", json!([]));
        if let Some(Value::Array(volumes)) = spec.get_mut("volumes") {
            volumes.push(token_volume(&name));
        }
    }
}

/// Whether the container had nothing at the path.
fn mount(container: &mut Map<String, Value>, volume: &str) -> bool {
    fill(container, "volumeMounts", json!([]));
    let Some(Value::Array(mounts)) = container.get_mut("volumeMounts") else { return false };
    let is_free = mounts.iter().all(|mount| mount.get("mountPath").is_none_or(|path| path != TOKEN_PATH));
    if is_free {
        mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}));
    }
    is_free
}

fn token_volume(name: &str) -> Value {
    let sources = json!([
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{
            "path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
        }]}},
    ]);
    json!({"name": name, "projected": {"sources": sources, "defaultMode": 0o644}})
}

/// Unless the pod says itself how long it stays.
pub(super) fn tolerate_node_loss(pod: &mut Object) {
    const TOLERATIONS: [&str; 2] = ["spec", "tolerations"];
    let mut tolerations = pod.list(&TOLERATIONS).to_vec();
    let text = |toleration: &Value, field: &str| {
        toleration.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let missing: Vec<Value> = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .into_iter()
        .filter(|taint| {
            !tolerations.iter().any(|toleration| {
                let (key, effect) = (text(toleration, "key"), text(toleration, "effect"));
                (key == *taint || key.is_empty()) && matches!(effect.as_str(), "NoExecute" | "")
            })
        })
        .map(|taint| {
            json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": NODE_LOSS_SECONDS,
            })
        })
        .collect();
    if !missing.is_empty() {
        tolerations.extend(missing);
        pod.set(&TOLERATIONS, tolerations);
    }
}

pub(super) fn copy_topology(pod: &mut Object, node: &Object) {
    for label in TOPOLOGY_LABELS {
        if let Some(value) = node.labels().get(label) {
            pod.set(&["metadata", "labels", label], *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::object;

    #[test]
    fn containers_get_a_token_unless_somebody_declines() {
        let pod = |spec: Value| object(json!({"metadata": {"name": "p"}, "spec": spec}));
        let mut plain = pod(json!({"containers": [{"name": "c"}]}));
        use_account(&mut plain, &Object::default());
        let volume = &plain.list(&["spec", "volumes"])[0];
        let mount = &plain.list(&["spec", "containers"])[0]["volumeMounts"][0];
        assert!(volume["name"].as_str().unwrap().starts_with(TOKEN_VOLUME_PREFIX));
        assert_eq!(mount["name"], volume["name"]);
        assert_eq!(mount["mountPath"], json!(TOKEN_PATH));

        let mut declined = pod(json!({"automountServiceAccountToken": false, "containers": [{"name": "c"}]}));
        let before = declined.clone();
        use_account(&mut declined, &object(json!({"automountServiceAccountToken": true})));
        assert_eq!(declined, before);

        let mut by_account = pod(json!({"containers": [{"name": "c"}]}));
        let before = by_account.clone();
        use_account(&mut by_account, &object(json!({"automountServiceAccountToken": false})));
        assert_eq!(by_account, before);
    }

    #[test]
    fn a_pod_that_tolerates_lost_nodes_is_left_alone() {
        let count = |tolerations: Value| {
            let mut pod = object(json!({"spec": {"tolerations": tolerations}}));
            tolerate_node_loss(&mut pod);
            pod.list(&["spec", "tolerations"]).len()
        };
        assert_eq!(count(json!([])), 2);
        assert_eq!(count(json!([{"operator": "Exists"}])), 1);
        assert_eq!(count(json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}])), 2);
    }

    #[test]
    fn only_the_clusters_own_priority_classes_exist() {
        let mut pod = object(json!({"metadata": {"name": "p"}, "spec": {"priorityClassName": "high"}}));
        let error = set_priority(&mut pod).unwrap_err();
        assert_eq!(error.message, "pods \"p\" is forbidden: no PriorityClass with name high was found");
        pod.set(&["spec", "priorityClassName"], "system-node-critical");
        set_priority(&mut pod).unwrap();
        assert_eq!(pod.at(&["spec", "priority"]), Some(&json!(2_000_001_000)));
    }
}
