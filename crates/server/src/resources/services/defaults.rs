//! What a Service says where its author said nothing.

use serde_json::{Value, json};

use super::Spec;
use crate::object::Object;

pub(super) fn set(object: &mut Object) {
    fill(object, "sessionAffinity", "None");
    match Spec(object).text("sessionAffinity") {
        "None" => drop(object.remove(&["spec", "sessionAffinityConfig"])),
        "ClientIP" => {
            let path = ["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"];
            if object.at(&path).is_none() {
                object.set(&path, 10_800);
            }
        }
        _ => {}
    }
    fill(object, "type", "ClusterIP");
    if let Some(Value::Array(ports)) = object.at(&["spec", "ports"]).cloned() {
        object.set(&["spec", "ports"], ports.into_iter().map(port).collect::<Vec<_>>());
    }
    if Spec(object).is_externally_accessible() {
        fill(object, "externalTrafficPolicy", "Cluster");
    }
    match Spec(object).is_external_name() {
        true => drop(object.remove(&["spec", "internalTrafficPolicy"])),
        false if Spec(object).needs_cluster_ip() => fill(object, "internalTrafficPolicy", "Cluster"),
        false => {}
    }
    if Spec(object).kind() == "LoadBalancer" {
        if !Spec(object).has("allocateLoadBalancerNodePorts") {
            object.set(&["spec", "allocateLoadBalancerNodePorts"], true);
        }
        ip_modes(object);
    }
    // Zeros that say nothing, as Go leaves them out.
    for (field, zero) in [("healthCheckNodePort", json!(0)), ("publishNotReadyAddresses", json!(false))] {
        if object.at(&["spec", field]) == Some(&zero) {
            object.remove(&["spec", field]);
        }
    }
    for field in ["clusterIP", "externalName", "loadBalancerIP", "externalTrafficPolicy"] {
        if object.at(&["spec", field]) == Some(&json!("")) {
            object.remove(&["spec", field]);
        }
    }
    for field in ["clusterIPs", "externalIPs", "ipFamilies", "loadBalancerSourceRanges", "ports"] {
        if object.at(&["spec", field]) == Some(&json!([])) {
            object.remove(&["spec", field]);
        }
    }
    if object.at(&["spec", "selector"]) == Some(&json!({})) {
        object.remove(&["spec", "selector"]);
    }
}

fn fill(object: &mut Object, field: &str, value: &str) {
    if Spec(object).text(field).is_empty() {
        object.set(&["spec", field], value);
    }
}

fn port(mut port: Value) -> Value {
    let Value::Object(fields) = &mut port else { return port };
    let is_unset =
        |value: Option<&Value>| value.is_none_or(|value| *value == json!(0) || *value == json!(""));
    if is_unset(fields.get("protocol")) {
        fields.insert("protocol".to_owned(), "TCP".into());
    }
    if is_unset(fields.get("targetPort"))
        && let Some(number) = fields.get("port").cloned()
    {
        fields.insert("targetPort".to_owned(), number);
    }
    for field in ["nodePort", "name"] {
        if is_unset(fields.get(field)) {
            fields.remove(field);
        }
    }
    port
}

fn ip_modes(object: &mut Object) {
    let path = ["status", "loadBalancer", "ingress"];
    let Some(Value::Array(mut ingress)) = object.at(&path).cloned() else { return };
    for entry in &mut ingress {
        let has_ip = entry.get("ip").and_then(Value::as_str).is_some_and(|ip| !ip.is_empty());
        if let (true, Value::Object(fields)) = (has_ip, entry) {
            fields.entry("ipMode").or_insert_with(|| "VIP".into());
        }
    }
    object.set(&path, ingress);
}
