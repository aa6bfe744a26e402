//! What is wrong with a Service, in the order in which upstream tells it.

mod addresses;
mod load_balancer;
mod ports;
mod status;
mod warnings;

use serde_json::Value;

use super::{Spec, number};
use crate::field::FieldError;
use crate::metadata::syntax;
use crate::object::Object;
use crate::resources::names;

pub(super) use addresses::cluster_ips;
pub(super) use status::status;
pub(super) use warnings::warnings;

const PORT: &str = "must be between 1 and 65535, inclusive";
const ONE_DAY: i64 = 86_400;
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// The rules for creates and updates; `old` is what was stored before an update.
pub(super) fn service(object: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    topology(object, &mut errors);
    kind(object, &mut errors);
    ports::each(object, &mut errors);
    selector(object, &mut errors);
    affinity(object, &mut errors);
    errors.extend(cluster_ips(object, old));
    addresses::external(object, old, &mut errors);
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    one_of(object, "type", &kinds, &mut errors);
    ports::together(object, &mut errors);
    load_balancer::errors(object, old, &mut errors);
    traffic(object, &mut errors);
    errors
}

/// Adds an error unless a field is empty or has one of the values.
fn one_of(object: &Object, field: &str, values: &[&str], errors: &mut Vec<FieldError>) {
    let value = Spec(object).text(field);
    if !value.is_empty() && !values.contains(&value) {
        errors.push(FieldError::not_supported(format!("spec.{field}"), value, values));
    }
}

fn is_port(number: i64) -> bool {
    (1..=65_535).contains(&number)
}

/// One error for each mistake in a value.
fn mistakes<'a>(path: &'a str, value: &'a str, found: Vec<String>) -> impl Iterator<Item = FieldError> + 'a {
    found.into_iter().map(move |mistake| FieldError::invalid(path, value, &mistake))
}

fn topology(object: &Object, errors: &mut Vec<FieldError>) {
    let annotations = object.annotations();
    let (mode, hints) = (annotations.get(TOPOLOGY_MODE), annotations.get(TOPOLOGY_HINTS));
    if let (Some(mode), Some(hints)) = (mode, hints)
        && mode != hints
    {
        let path = format!("metadata.annotations[{TOPOLOGY_MODE}]");
        let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.push(FieldError::invalid(path, *mode, &detail));
    }
}

/// What goes with the type and what does not.
fn kind(object: &Object, errors: &mut Vec<FieldError>) {
    let spec = Spec(object);
    if spec.ports().is_empty() && !spec.is_headless() && !spec.is_external_name() {
        errors.push(FieldError::required("spec.ports", ""));
    }
    if spec.may_have_node_ports() && spec.is_headless() {
        let detail = format!("may not be set to 'None' for {} services", spec.kind());
        errors.push(FieldError::invalid("spec.clusterIPs[0]", "None", &detail));
    }
    if !spec.is_external_name() {
        return;
    }
    let given = [
        ("clusterIPs", !spec.texts("clusterIPs").is_empty()),
        ("ipFamilies", !spec.texts("ipFamilies").is_empty()),
        ("ipFamilyPolicy", !spec.text("ipFamilyPolicy").is_empty()),
    ];
    errors.extend(given.into_iter().filter(|(_, is_given)| *is_given).map(|(field, _)| {
        FieldError::forbidden(format!("spec.{field}"), "may not be set for ExternalName services")
    }));
    let name = spec.text("externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.push(FieldError::required("spec.externalName", ""));
    } else {
        errors.extend(mistakes("spec.externalName", name, names::subdomain(name)));
    }
}

fn selector(object: &Object, errors: &mut Vec<FieldError>) {
    let selector = object.at(&["spec", "selector"]).and_then(Value::as_object);
    for (key, value) in selector.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        errors.extend(mistakes("spec.selector", key, syntax::qualified_name(key)));
        errors.extend(mistakes("spec.selector", value, syntax::label_value(value)));
    }
}

fn affinity(object: &Object, errors: &mut Vec<FieldError>) {
    one_of(object, "sessionAffinity", &["ClientIP", "None"], errors);
    if Spec(object).text("sessionAffinity") != "ClientIP" {
        return;
    }
    let config = object.at(&["spec", "sessionAffinityConfig", "clientIP"]);
    let seconds = config.map(|config| number(config, "timeoutSeconds")).unwrap_or_default();
    if !(1..=ONE_DAY).contains(&seconds) {
        let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        errors.push(FieldError::invalid(path, seconds, "must be greater than 0 and less than 86400"));
    }
}

fn traffic(object: &Object, errors: &mut Vec<FieldError>) {
    let spec = Spec(object);
    let external = spec.text("externalTrafficPolicy");
    if !external.is_empty() && !spec.is_externally_accessible() {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid("spec.externalTrafficPolicy", external, detail));
    }
    one_of(object, "externalTrafficPolicy", &["Cluster", "Local"], errors);
    let port = spec.health_check_port();
    if port != 0 && !spec.needs_health_check_port() {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid("spec.healthCheckNodePort", port, detail));
    } else if port != 0 && !is_port(port) {
        errors.push(FieldError::invalid("spec.healthCheckNodePort", port, PORT));
    }
    one_of(object, "internalTrafficPolicy", &["Cluster", "Local"], errors);
    one_of(object, "trafficDistribution", &["PreferClose", "PreferSameZone", "PreferSameNode"], errors);
}
