//! What only a load balancer may have.

use serde_json::Value;

use super::super::Spec;
use super::mistakes;
use crate::field::FieldError;
use crate::metadata::syntax;
use crate::object::Object;
use crate::resources::ips;

/// Of old, the source ranges, separated by commas.
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ELSEWHERE: &str = "may only be used when `type` is 'LoadBalancer'";

pub(super) fn errors(object: &Object, old: Option<&Object>, errors: &mut Vec<FieldError>) {
    let spec = Spec(object);
    let is_load_balancer = spec.kind() == "LoadBalancer";
    source_ranges(object, old, is_load_balancer, errors);
    if spec.has("allocateLoadBalancerNodePorts") && !is_load_balancer {
        errors.push(FieldError::forbidden("spec.allocateLoadBalancerNodePorts", ELSEWHERE));
    }
    let class = object.at(&["spec", "loadBalancerClass"]).and_then(Value::as_str);
    match class {
        Some(class) if is_load_balancer => {
            errors.extend(mistakes("spec.loadBalancerClass", class, syntax::qualified_name(class)));
        }
        Some(_) => errors.push(FieldError::forbidden("spec.loadBalancerClass", ELSEWHERE)),
        None => {}
    }
}

fn source_ranges(
    object: &Object,
    old: Option<&Object>,
    is_load_balancer: bool,
    errors: &mut Vec<FieldError>,
) {
    let ranges = Spec(object).texts("loadBalancerSourceRanges");
    if !ranges.is_empty() {
        // The capital letter is upstream's.
        let path = "spec.LoadBalancerSourceRanges";
        if !is_load_balancer {
            errors.push(FieldError::forbidden(path, ELSEWHERE));
        }
        let before = old.map(|old| Spec(old).texts("loadBalancerSourceRanges")).unwrap_or_default();
        for (index, range) in ranges.iter().enumerate().filter(|(_, range)| !before.contains(range)) {
            errors.extend(mistakes(&format!("{path}[{index}]"), range, ips::legacy_cidr(range.trim())));
        }
        return;
    }
    let annotation = |object: &Object| object.annotations().get(RANGES).map(|text| (*text).to_owned());
    let Some(text) = annotation(object) else { return };
    let path = format!("metadata.annotations[{RANGES}]");
    if !is_load_balancer {
        errors.push(FieldError::forbidden(path.as_str(), ELSEWHERE));
    }
    if text.is_empty() || old.and_then(annotation).is_some_and(|before| before == text) {
        return;
    }
    for range in text.split(',').map(str::trim) {
        errors.extend(mistakes(&path, range, ips::legacy_cidr(range)));
    }
}
