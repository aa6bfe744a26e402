//! What an update may change, and what it takes over from before, so that a client may send its first manifest again.

use serde_json::Value;

use super::{Spec, families, node_port, text};
use crate::allocation::ClusterSettings;
use crate::field::FieldError;
use crate::object::Object;
use crate::status::ApiError;

pub(super) fn prepare(cluster: &ClusterSettings, new: &mut Object, old: &Object) -> Result<(), ApiError> {
    take_over(new, old);
    sync_addresses(new, old);
    families::set(cluster, new, Some(old))?;
    drop_what_the_type_lost(new, old);
    new.copy(old, &["status"]);
    if Spec(new).kind() != "LoadBalancer" {
        new.set(&["status", "loadBalancer"], serde_json::json!({}));
    }
    Ok(())
}

/// Allocated values that the client left out.
fn take_over(new: &mut Object, old: &Object) {
    if Spec(new).needs_cluster_ip() && Spec(old).needs_cluster_ip() {
        if Spec(new).text("clusterIP").is_empty() {
            new.copy(old, &["spec", "clusterIP"]);
        }
        if Spec(new).texts("clusterIPs").is_empty() {
            new.copy(old, &["spec", "clusterIPs"]);
        }
    }
    if Spec(new).wants_node_ports() && Spec(old).wants_node_ports() {
        take_over_node_ports(new, old);
    }
    let needs = Spec(new).needs_health_check_port() && Spec(old).needs_health_check_port();
    if needs && Spec(new).health_check_port() == 0 {
        new.copy(old, &["spec", "healthCheckNodePort"]);
    }
}

fn take_over_node_ports(new: &mut Object, old: &Object) {
    let named = Spec(new).node_ports();
    let mut ports = Spec(new).ports().to_vec();
    for port in ports.iter_mut().filter(|port| node_port(port) == 0) {
        let same = Spec(old).ports().iter().find(|before| text(before, "name") == text(port, "name"));
        let before = same.map(node_port).filter(|number| *number != 0 && !named.contains(number));
        if let (Some(number), Value::Object(fields)) = (before, port) {
            fields.insert("nodePort".to_owned(), number.into());
        }
    }
    if !ports.is_empty() {
        new.set(&["spec", "ports"], ports);
    }
}

/// `clusterIP` is the first of `clusterIPs`; a client that knows one of them only changes that one.
fn sync_addresses(new: &mut Object, old: &Object) {
    let (now, before) = (Spec(new).text("clusterIP").to_owned(), Spec(old).text("clusterIP").to_owned());
    let (all_now, all_before) = (Spec(new).texts("clusterIPs"), Spec(old).texts("clusterIPs"));
    if now == before {
        if all_now.is_empty() && !all_before.is_empty() && Spec(new).needs_cluster_ip() {
            new.set(&["spec", "clusterIPs"], all_before);
        }
        return;
    }
    if all_now == all_before {
        match now.is_empty() {
            true => drop(new.remove(&["spec", "clusterIPs"])),
            false => new.set(&["spec", "clusterIPs"], vec![now]),
        }
    }
}

/// Fields that the new type may not have go, where the client has left them as they were.
fn drop_what_the_type_lost(new: &mut Object, old: &Object) {
    let same = |new: &Object, field: &str| new.at(&["spec", field]) == old.at(&["spec", field]);
    let remove = |new: &mut Object, field: &str| drop(new.remove(&["spec", field]));
    if Spec(old).needs_cluster_ip() && Spec(new).is_external_name() {
        if same(new, "clusterIP") && same(new, "clusterIPs") {
            remove(new, "clusterIP");
            remove(new, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same(new, field) {
                remove(new, field);
            }
        }
    }
    if Spec(old).may_have_node_ports() && !Spec(new).may_have_node_ports() {
        let before = Spec(old).node_ports();
        if Spec(new).node_ports().iter().all(|port| before.contains(port)) {
            let mut ports = Spec(new).ports().to_vec();
            for port in &mut ports {
                if let Value::Object(fields) = port {
                    fields.remove("nodePort");
                }
            }
            if !ports.is_empty() {
                new.set(&["spec", "ports"], ports);
            }
        }
    }
    let lost = |had: bool, has: bool| had && !has;
    let health = lost(Spec(old).needs_health_check_port(), Spec(new).needs_health_check_port());
    if health && same(new, "healthCheckNodePort") {
        remove(new, "healthCheckNodePort");
    }
    if lost(Spec(old).kind() == "LoadBalancer", Spec(new).kind() == "LoadBalancer") {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(new, field) {
                remove(new, field);
            }
        }
    }
    let accessible = lost(Spec(old).is_externally_accessible(), Spec(new).is_externally_accessible());
    if accessible && same(new, "externalTrafficPolicy") {
        remove(new, "externalTrafficPolicy");
    }
}

/// What may not change once it is set.
pub(super) fn errors(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (now, before) = (Spec(new), Spec(old));
    let involves_name = now.is_external_name() || before.is_external_name();
    let both_headless = now.is_headless() && before.is_headless();
    if !involves_name && !both_headless {
        list_errors(new, old, "clusterIPs", "clusterIP", &mut errors);
    }
    if !involves_name && !now.is_headless() && !before.is_headless() {
        list_errors(new, old, "ipFamilies", "ipFamily", &mut errors);
    }
    let class = |object: &Object| object.at(&["spec", "loadBalancerClass"]).cloned();
    if now.kind() == "LoadBalancer" && before.kind() == "LoadBalancer" && class(new) != class(old) {
        let value = class(new).unwrap_or(Value::Null);
        errors.push(FieldError::invalid("spec.loadBalancerClass", value, "may not change once set"));
    }
    let both_need = now.needs_health_check_port() && before.needs_health_check_port();
    if both_need && now.health_check_port() != before.health_check_port() {
        errors.push(FieldError::forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
    errors
}

fn list_errors(new: &Object, old: &Object, field: &str, one: &str, errors: &mut Vec<FieldError>) {
    let (now, before) = (Spec(new).texts(field), Spec(old).texts(field));
    let shown = || Value::from(now.clone());
    let invalid =
        |index: usize, detail: &str| FieldError::invalid(format!("spec.{field}[{index}]"), shown(), detail);
    const FIXED: &str = "may not change once set";
    if now.len() == before.len() {
        let changed = (0..now.len()).filter(|index| now.get(*index) != before.get(*index));
        let changed: Vec<usize> = changed.collect();
        match field {
            "ipFamilies" => errors.extend(changed.first().map(|_| invalid(0, FIXED))),
            _ => errors.extend(changed.into_iter().map(|index| invalid(index, FIXED))),
        }
        return;
    }
    if now.len() < before.len() {
        match now.first() {
            None => errors.push(invalid(0, &format!("primary {one} can not be unset"))),
            first if first != before.first() => errors.push(invalid(0, FIXED)),
            _ => {}
        }
        let policy = Spec(new).text("ipFamilyPolicy");
        if now.len() == 1 && policy != "SingleStack" {
            let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
            errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, &detail));
        }
    } else if !before.is_empty() && now.first() != before.first() {
        errors.push(invalid(0, FIXED));
    }
}
