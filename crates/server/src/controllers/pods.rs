//! What controllers ask of pods.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

/// All addresses of a pod, in their order; none before its node has given it one.
pub(super) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let listed = status.pod_ips.iter().flatten().filter_map(|address| address.ip.parse().ok());
    let listed: Vec<IpAddr> = listed.collect();
    match listed.is_empty() {
        true => status.pod_ip.iter().filter_map(|address| address.parse().ok()).collect(),
        false => listed,
    }
}

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Its containers have ended and will not be started again.
pub(super) fn is_done(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(super) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Whether labels have all that a Service's selector asks for. No selector selects nothing.
pub(super) fn selected(
    selector: Option<&BTreeMap<String, String>>,
    labels: &BTreeMap<String, String>,
) -> bool {
    selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Whether labels fulfil the selector of a ReplicaSet or Deployment. An empty one selects everything, an operator that is
/// not known nothing.
pub(super) fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let expressions = selector.match_expressions.iter().flatten().all(|requirement| {
        let value = labels.get(&requirement.key);
        let named = |value: &String| requirement.values.iter().flatten().any(|named| named == value);
        match requirement.operator.as_str() {
            "In" => value.is_some_and(named),
            "NotIn" => !value.is_some_and(named),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    expressions && selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
}

/// The uid of the controller that owns an object.
pub(super) fn controller_uid(object: &impl ResourceExt) -> Option<&str> {
    let owner = object.owner_references().iter().find(|owner| owner.controller == Some(true));
    owner.map(|owner| owner.uid.as_str())
}
