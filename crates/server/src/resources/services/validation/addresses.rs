//! The addresses of a Service.

use std::net::IpAddr;

use serde_json::Value;

use super::super::Spec;
use super::mistakes;
use crate::allocation::addresses::family;
use crate::field::FieldError;
use crate::object::Object;
use crate::resources::ips;

/// Cluster IPs, families and policy must fit one another.
pub(in super::super) fn cluster_ips(object: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Spec(object);
    if spec.is_external_name() {
        return errors;
    }
    let (first, all) = (spec.text("clusterIP"), spec.texts("clusterIPs"));
    let shown = || Value::from(all.clone());
    let about_all = |detail: &str| FieldError::invalid("spec.clusterIPs", shown(), detail);
    match (first.is_empty(), all.first()) {
        (false, None) => errors.push(FieldError::required("spec.clusterIPs", "")),
        (false, Some(other)) if other != first => {
            errors.push(about_all("first value must match `clusterIP`"));
        }
        (true, Some(_)) => errors.push(about_all("must be empty when `clusterIP` is not specified")),
        _ => {}
    }
    let families = spec.texts("ipFamilies");
    for (index, family) in families.iter().enumerate() {
        let path = format!("spec.ipFamilies[{index}]");
        if !["IPv4", "IPv6"].contains(&family.as_str()) {
            errors.push(FieldError::not_supported(path.as_str(), family.as_str(), &["IPv4", "IPv6"]));
        }
        if families.iter().take(index).any(|earlier| earlier == family) {
            errors.push(FieldError::duplicate(path, family.as_str()));
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    super::one_of(object, "ipFamilyPolicy", &policies, &mut errors);
    let before = old.map(|old| Spec(old).texts("clusterIPs")).unwrap_or_default();
    let told = errors.len();
    if all.len() > 1 && all.first().is_some_and(|first| first == "None") {
        errors.push(about_all("'None' must be the first and only value"));
    }
    for (index, address) in all.iter().enumerate() {
        if (index == 0 && address == "None") || before.contains(address) {
            continue;
        }
        errors.extend(mistakes(&format!("spec.clusterIPs[{index}]"), address, ips::legacy_ip(address)));
    }
    let is_broken = errors.len() > told;
    if all.len() > 2 {
        errors.push(about_all("may only hold up to 2 values"));
    }
    if is_broken {
        return errors;
    }
    let of: Vec<Option<&str>> = all.iter().map(|address| ips::lenient(address).map(family)).collect();
    let is_pair = matches!(of.as_slice(), [first, second] if first != second);
    if all.len() == 2 && !is_pair
        || all.len() > 2 && of.windows(2).all(|pair| matches!(pair, [a, b] if a == b))
    {
        errors.push(about_all("may specify no more than one IP for each IP family"));
    }
    if !spec.is_headless() {
        let both = all.iter().zip(&of).zip(&families).enumerate();
        let wrong = both.filter(|(_, ((_, of), family))| of.is_some_and(|of| of != family.as_str()));
        errors.extend(wrong.map(|(index, ((address, _), family))| {
            let article = if family == "IPv4" { "an IPv4" } else { "an IPv6" };
            let detail = format!("expected {article} value as indicated by `ipFamilies[{index}]`");
            FieldError::invalid(format!("spec.clusterIPs[{index}]"), address.as_str(), &detail)
        }));
    }
    errors
}

pub(super) fn external(object: &Object, old: Option<&Object>, errors: &mut Vec<FieldError>) {
    let before = old.map(|old| Spec(old).texts("externalIPs")).unwrap_or_default();
    for (index, address) in Spec(object).texts("externalIPs").iter().enumerate() {
        let path = format!("spec.externalIPs[{index}]");
        let mut found = if before.contains(address) { Vec::new() } else { ips::legacy_ip(address) };
        if found.is_empty() {
            found = ips::endpoint_ip(address);
        }
        errors.extend(mistakes(&path, address, found));
    }
}

/// Whether a text is an address and no name.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}
