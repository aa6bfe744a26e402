//! The row of a node in `kubectl get`.

use jiff::Timestamp;
use serde_json::Value;

use super::is_unschedulable;
use crate::object::Object;
use crate::resources::table::{NONE, UNKNOWN, age, joined};

pub(super) fn row(node: &Object, now: Timestamp) -> Vec<Value> {
    let info = |field: &str| node.text(&["status", "nodeInfo", field]);
    vec![
        node.name().into(),
        status(node).into(),
        roles(node).into(),
        age(node, now).into(),
        info("kubeletVersion").into(),
        address(node, "InternalIP").into(),
        address(node, "ExternalIP").into(),
        or_unknown(info("osImage")).into(),
        kernel(info("kernelVersion"), info("architecture")).into(),
        or_unknown(info("containerRuntimeVersion")).into(),
    ]
}

fn status(node: &Object) -> String {
    let text = |condition: &Value, field: &str| {
        condition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let ready =
        node.list(&["status", "conditions"]).iter().find(|condition| text(condition, "type") == "Ready");
    let readiness = match ready.map(|condition| text(condition, "status")) {
        Some(status) if status == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let suffix = if is_unschedulable(node) { ",SchedulingDisabled" } else { "" };
    format!("{readiness}{suffix}")
}

fn roles(node: &Object) -> String {
    let labels = node.labels();
    let mut roles: Vec<&str> = labels
        .iter()
        .filter_map(|(key, value)| match *key {
            "kubernetes.io/role" => Some(*value),
            key => key.strip_prefix("node-role.kubernetes.io/"),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    joined(roles)
}

fn address(node: &Object, kind: &str) -> String {
    let mut addresses = node.list(&["status", "addresses"]).iter();
    let found = addresses.find(|address| address.get("type").is_some_and(|one| one == kind));
    found.and_then(|address| address.get("address")?.as_str()).unwrap_or(NONE).to_owned()
}

fn kernel(version: &str, architecture: &str) -> String {
    match (version, architecture) {
        ("", _) => UNKNOWN.to_owned(),
        (version, "") => version.to_owned(),
        (version, architecture) => format!("{version} ({architecture})"),
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { UNKNOWN } else { text }
}
