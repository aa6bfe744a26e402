//! What a node must be.

use ipnet::IpNet;
use serde_json::Value;

use crate::field::FieldError;
use crate::metadata::syntax;
use crate::object::Object;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const CIDRS: [&str; 2] = ["spec", "podCIDRs"];

pub(super) fn errors(node: &Object) -> Vec<FieldError> {
    let mut errors = taint_errors(node);
    errors.extend(address_errors(node));
    errors.extend(cidr_errors(node));
    errors
}

pub(super) fn update_errors(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = errors(new);
    let is_set_and_changed = |path: &[&str]| {
        let is_set = old.at(path).is_some_and(|value| !value.is_null() && *value != "");
        is_set && new.at(path) != old.at(path)
    };
    let but_once = |what: &str| format!("node updates may not change {what} except from \"\" to valid");
    if !old.list(&CIDRS).is_empty() && new.list(&CIDRS) != old.list(&CIDRS) {
        errors.push(FieldError::forbidden("spec.podCIDRs", &but_once("podCIDR")));
    }
    if is_set_and_changed(&["spec", "providerID"]) {
        errors.push(FieldError::forbidden("spec.providerID", &but_once("providerID")));
    }
    if new.text(&["spec", "externalID"]) != old.text(&["spec", "externalID"]) {
        errors.push(FieldError::forbidden("spec.externalID", "may not be updated"));
    }
    errors
}

/// The paths say `metadata` although the taints are in the spec, as upstream's do.
fn taint_errors(node: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, taint) in node.list(&["spec", "taints"]).iter().enumerate() {
        let path = format!("metadata.taints[{i}]");
        let text = |field: &str| taint.get(field).and_then(Value::as_str).unwrap_or_default();
        let (key, value, effect) = (text("key"), text("value"), text("effect"));
        let mut invalid = |field: &str, value: &str, mistakes: Vec<String>| {
            let path = format!("{path}.{field}");
            errors.extend(mistakes.iter().map(|mistake| FieldError::invalid(path.as_str(), value, mistake)));
        };
        invalid("key", key, syntax::qualified_name(key));
        let mistakes = syntax::label_value(value);
        invalid("value", value, if mistakes.is_empty() { mistakes } else { vec![mistakes.join(";")] });
        if effect.is_empty() {
            errors.push(FieldError::required(format!("{path}.effect"), ""));
        } else if !EFFECTS.contains(&effect) {
            errors.push(FieldError::not_supported(format!("{path}.effect"), effect, &EFFECTS));
        }
        if seen.contains(&(key, effect)) {
            let mut error = FieldError::duplicate(path, taint.clone());
            error.body.push_str(": taints must be unique by key and effect pair");
            errors.push(error);
        }
        seen.push((key, effect));
    }
    errors
}

fn address_errors(node: &Object) -> Vec<FieldError> {
    let addresses = node.list(&["status", "addresses"]);
    let repeated = addresses
        .iter()
        .enumerate()
        .filter(|(i, address)| addresses.iter().take(*i).any(|one| one == *address));
    repeated
        .map(|(i, address)| FieldError::duplicate(format!("status.addresses[{i}]"), address.clone()))
        .collect()
}

fn cidr_errors(node: &Object) -> Vec<FieldError> {
    let list = node.list(&CIDRS);
    let mut errors = Vec::new();
    let mut nets: Vec<IpNet> = Vec::new();
    for (i, cidr) in list.iter().enumerate() {
        match cidr.as_str().and_then(|text| text.parse().ok()) {
            Some(net) => nets.push(net),
            None => {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.push(FieldError::invalid(format!("spec.podCIDRs[{i}]"), cidr.clone(), detail));
            }
        }
    }
    let count_of_family = |is_v4: bool| nets.iter().filter(|net| net.addr().is_ipv4() == is_v4).count();
    if count_of_family(true) > 1 || count_of_family(false) > 1 {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid("spec.podCIDRs", list.to_vec(), detail));
    }
    errors
}
