//! What the subresources `binding` and `eviction` do to a pod.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{NAMES, NODE_NAME, admission, grace_seconds};
use crate::metadata::time_text;
use crate::object::Object;
use crate::registry::Context;
use crate::resources::defaults::set_generation;
use crate::status::{ApiError, Subject};
use crate::store::Key;

/// Gives the pod to the node that the scheduler has chosen.
///
/// # Errors
/// 409 if it has one already, or is being deleted; 400 if the target is no node.
pub(super) fn bind(context: &Context<'_>, pod: &Object, binding: &Object) -> Result<Object, ApiError> {
    let node = binding.text(&["target", "name"]);
    let subject = Subject { group: "", kind: "pods/binding", name: pod.name() };
    if node.is_empty() {
        return Err(ApiError::bad_request("target.name: Required value"));
    }
    if !matches!(binding.text(&["target", "kind"]), "Node" | "") {
        return Err(ApiError::bad_request(
            "target.kind: Unsupported value: supported values: \"Node\", \"<empty>\"",
        ));
    }
    let uid = binding.uid();
    if !uid.is_empty() && uid != pod.uid() {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", pod.uid());
        return Err(ApiError::conflict(subject, &why));
    }
    if pod.is_being_deleted() {
        let why = format!("pod {} is being deleted, cannot be assigned to a host", pod.name());
        return Err(ApiError::conflict(subject, &why));
    }
    let assigned = pod.text(&NODE_NAME);
    if !assigned.is_empty() {
        let why = format!("pod {} is already assigned to node {assigned:?}", pod.name());
        return Err(ApiError::conflict(subject, &why));
    }
    if !pod.list(&["spec", "schedulingGates"]).is_empty() {
        let why = format!("pod {} has non-empty .spec.schedulingGates", pod.name());
        return Err(ApiError::conflict(subject, &why));
    }
    let mut bound = pod.clone();
    bound.set(&NODE_NAME, node);
    for (key, value) in binding.annotations() {
        bound.set(&["metadata", "annotations", key], value);
    }
    if let Some(node) = context.snapshot.get(&Key::object("", "nodes", "", node)) {
        admission::copy_topology(&mut bound, &node.object());
    }
    set_scheduled(&mut bound, context.now);
    set_generation(&mut bound, pod);
    Ok(bound)
}

fn set_scheduled(pod: &mut Object, now: Timestamp) {
    const CONDITIONS: [&str; 2] = ["status", "conditions"];
    const SCHEDULED: &str = "PodScheduled";
    let mut conditions = pod.list(&CONDITIONS).to_vec();
    conditions.retain(|condition| condition.get("type").is_none_or(|kind| kind != SCHEDULED));
    conditions.push(json!({
        "type": SCHEDULED, "status": "True", "lastProbeTime": null, "lastTransitionTime": time_text(now),
    }));
    pod.set(&CONDITIONS, conditions);
}

/// Deletes the pod, as there are no disruption budgets that could forbid it.
///
/// # Errors
/// 409 if a precondition does not hold.
pub(super) fn evict(pod: &Object, eviction: &Object, now: Timestamp) -> Result<Object, ApiError> {
    let uid = eviction.text(&["deleteOptions", "preconditions", "uid"]);
    if !uid.is_empty() && uid != pod.uid() {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). \
             The object might have been deleted and then recreated",
            pod.uid()
        );
        return Err(ApiError::conflict(
            Subject { group: NAMES.group, kind: NAMES.kind, name: pod.name() },
            &why,
        ));
    }
    let mut evicted = pod.clone();
    if pod.is_being_deleted() {
        return Ok(evicted);
    }
    let requested = eviction.at(&["deleteOptions", "gracePeriodSeconds"]).and_then(Value::as_i64);
    let grace = grace_seconds(pod, requested);
    let end = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
    evicted.set(&["metadata", "deletionTimestamp"], time_text(end));
    evicted.set(&["metadata", "deletionGracePeriodSeconds"], grace);
    let generation = pod.at(&["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
    evicted.set(&["metadata", "generation"], generation.saturating_add(1));
    Ok(evicted)
}

/// The answer to both.
pub(super) fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}
