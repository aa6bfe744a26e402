//! Whether the API knows a status already, and how to tell it.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

/// Whether what the API has says all that is to be told. Others may have said more: the scheduler, readiness gates.
pub(super) fn covers(known: &PodStatus, wanted: &PodStatus) -> bool {
    match (serde_json::to_value(known), serde_json::to_value(wanted)) {
        (Ok(known), Ok(wanted)) => value_covers(&known, &wanted),
        _ => false,
    }
}

fn value_covers(known: &Value, wanted: &Value) -> bool {
    match (known, wanted) {
        (Value::Object(known), Value::Object(wanted)) => wanted.iter().all(|(field, value)| {
            match (known.get(field), value) {
                (Some(Value::Array(known)), Value::Array(wanted)) if field == "conditions" => {
                    wanted.iter().all(|wanted| known.iter().any(|known| value_covers(known, wanted)))
                }
                // Whoever was in the state before is in another one now.
                (Some(known), value) if field == "state" || field == "lastState" => known == value,
                (Some(known), value) => value_covers(known, value),
                (None, value) => value.is_null() || *value == json!({}) || *value == json!([]),
            }
        }),
        (Value::Array(known), Value::Array(wanted)) => {
            known.len() == wanted.len()
                && known.iter().zip(wanted).all(|(known, wanted)| value_covers(known, wanted))
        }
        (known, wanted) => known == wanted,
    }
}

/// As a strategic merge patch, for no other pod than this: one of the same name may have taken its place.
pub(super) fn patch(pod: &Pod, status: &PodStatus) -> Value {
    let mut status = json!(status);
    // Lists of addresses are merged by address; addresses that are no longer the pod's have to go.
    for list in ["podIPs"] {
        if let Some(Value::Array(items)) = status.get_mut(list) {
            items.insert(0, json!({"$patch": "replace"}));
        }
    }
    // Reasons of conditions that hold again.
    if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            for field in ["reason", "message"] {
                condition.entry(field).or_insert(Value::Null);
            }
        }
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_others_said_does_not_matter() {
        let known = status(json!({"phase": "Running", "qosClass": "Burstable", "conditions": [
            {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True", "lastProbeTime": null}]}));
        let same = status(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
        assert!(covers(&known, &same));
        let other = status(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}));
        assert!(!covers(&known, &other));
        assert!(!covers(&known, &status(json!({"podIP": "10.0.0.1"}))));
    }

    #[test]
    fn states_of_containers_are_compared_whole() {
        let of = |state: Value| {
            status(json!({"containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true,
                "restartCount": 0, "state": state}]}))
        };
        let running = of(json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}));
        assert!(covers(&running, &running));
        assert!(!covers(&running, &of(json!({"waiting": {"reason": "CrashLoopBackOff"}}))));
        assert!(!covers(&of(json!({})), &running));
    }
}
