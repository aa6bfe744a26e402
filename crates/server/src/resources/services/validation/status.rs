//! What a load balancer may tell of itself.

use serde_json::Value;

use super::super::{Spec, text};
use super::addresses::is_address;
use super::mistakes;
use crate::field::FieldError;
use crate::object::Object;
use crate::resources::{ips, names};

const INGRESS: [&str; 3] = ["status", "loadBalancer", "ingress"];

pub(in super::super) fn status(object: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let ingress = object.list(&INGRESS);
    if Spec(object).kind() != "LoadBalancer" {
        if !ingress.is_empty() {
            let detail = "may only be used when `spec.type` is 'LoadBalancer'";
            errors.push(FieldError::forbidden("status.loadBalancer.ingress", detail));
        }
        return errors;
    }
    let before: Vec<&str> = old.list(&INGRESS).iter().map(|entry| text(entry, "ip")).collect();
    for (index, entry) in ingress.iter().enumerate() {
        one(entry, &format!("status.loadBalancer.ingress[{index}]"), &before, &mut errors);
    }
    errors
}

fn one(entry: &Value, path: &str, before: &[&str], errors: &mut Vec<FieldError>) {
    let ip = text(entry, "ip");
    if !ip.is_empty() && !before.contains(&ip) {
        errors.extend(mistakes(&format!("{path}.ip"), ip, ips::legacy_ip(ip)));
    }
    let mode = entry.get("ipMode").and_then(Value::as_str);
    let mode_path = format!("{path}.ipMode");
    match mode {
        None if !ip.is_empty() => {
            errors.push(FieldError::required(mode_path.as_str(), "must be specified when `ip` is set"));
        }
        Some(_) if ip.is_empty() => {
            errors
                .push(FieldError::forbidden(mode_path.as_str(), "may not be specified when `ip` is not set"));
        }
        Some(mode) if !["Proxy", "VIP"].contains(&mode) => {
            errors.push(FieldError::not_supported(mode_path.as_str(), mode, &["Proxy", "VIP"]));
        }
        _ => {}
    }
    let host = text(entry, "hostname");
    if !host.is_empty() {
        let path = format!("{path}.hostname");
        errors.extend(mistakes(&path, host, names::subdomain(host)));
        if is_address(host) {
            errors.push(FieldError::invalid(path, host, "must be a DNS name, not an IP address"));
        }
    }
}
