//! What the spec of a pod must be, in a pod or in a template.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};

use super::containers;
use crate::field::FieldError;
use crate::metadata::syntax;
use crate::object::Object;
use crate::resources::names;

/// What is wrong with a new pod.
pub(super) fn create_errors(pod: &Object) -> Vec<FieldError> {
    let pod: Pod = match pod.typed() {
        Ok(pod) => pod,
        Err(error) => return vec![FieldError::internal("spec", &error.to_string())],
    };
    let spec = pod.spec.unwrap_or_default();
    let mut errors = spec_errors(&spec, "spec");
    if spec.ephemeral_containers.is_some_and(|containers| !containers.is_empty()) {
        errors.push(FieldError::forbidden("spec.ephemeralContainers", "cannot be set on create"));
    }
    let is_gated = spec.scheduling_gates.is_some_and(|gates| !gates.is_empty());
    if is_gated && spec.node_name.is_some_and(|name| !name.is_empty()) {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden("spec.nodeName", detail));
    }
    errors
}

/// What is wrong with a spec that has its defaults; `path` leads to it.
pub(in crate::resources) fn spec_errors(spec: &PodSpec, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let volumes = volume_names(spec, path, &mut errors);
    containers::check(spec, path, &volumes, &mut errors);
    check_choices(spec, path, &mut errors);
    check_names(spec, path, &mut errors);
    check_tolerations(
        spec.tolerations.as_deref().unwrap_or_default(),
        &format!("{path}.tolerations"),
        &mut errors,
    );
    errors
}

/// The names of all volumes, which mounts refer to.
fn volume_names(spec: &PodSpec, path: &str, errors: &mut Vec<FieldError>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let (path, name) = (format!("{path}.volumes[{i}].name"), volume.name.as_str());
        if name.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if !names::label(name).is_empty() {
            extend(errors, &path, name, names::label(name));
        } else if !seen.insert(name.to_owned()) {
            errors.push(FieldError::duplicate(path, name));
        }
    }
    seen
}

fn check_choices(spec: &PodSpec, path: &str, errors: &mut Vec<FieldError>) {
    let mut one_of = |field: &str, value: Option<&str>, supported: &[&str]| {
        let value = value.unwrap_or_default();
        if value.is_empty() {
            errors.push(FieldError::required(format!("{path}.{field}"), ""));
        } else if !supported.contains(&value) {
            errors.push(FieldError::not_supported(format!("{path}.{field}"), value, supported));
        }
    };
    one_of("restartPolicy", spec.restart_policy.as_deref(), &["Always", "OnFailure", "Never"]);
    one_of(
        "dnsPolicy",
        spec.dns_policy.as_deref(),
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    );
    if let Some(seconds) =
        spec.active_deadline_seconds.filter(|seconds| !(1..=i64::from(i32::MAX)).contains(seconds))
    {
        let detail = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(format!("{path}.activeDeadlineSeconds"), seconds, detail));
    }
}

fn check_names(spec: &PodSpec, path: &str, errors: &mut Vec<FieldError>) {
    type Rule = fn(&str) -> Vec<String>;
    let rules: [(&str, &Option<String>, Rule); 5] = [
        ("serviceAccountName", &spec.service_account_name, names::subdomain),
        ("nodeName", &spec.node_name, names::subdomain),
        ("priorityClassName", &spec.priority_class_name, names::subdomain),
        ("hostname", &spec.hostname, names::label),
        ("subdomain", &spec.subdomain, names::label),
    ];
    for (field, name, rule) in rules {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            extend(errors, &format!("{path}.{field}"), name, rule(name));
        }
    }
    let path = format!("{path}.nodeSelector");
    for (key, value) in spec.node_selector.iter().flatten() {
        extend(errors, &path, key, syntax::qualified_name(key));
        extend(errors, &path, value, syntax::label_value(value));
    }
}

pub(super) fn check_tolerations(tolerations: &[Toleration], path: &str, errors: &mut Vec<FieldError>) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (key, operator) = (text(&toleration.key), text(&toleration.operator));
        let (value, effect) = (text(&toleration.value), text(&toleration.effect));
        if !key.is_empty() {
            extend(errors, &format!("{path}.key"), &key, syntax::qualified_name(&key));
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(format!("{path}.operator"), operator.as_str(), detail));
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(format!("{path}.effect"), effect.as_str(), detail));
        }
        let operator_path = format!("{path}.operator");
        match operator.as_str() {
            "Equal" | "" => {
                let mistakes = syntax::label_value(&value);
                if !mistakes.is_empty() {
                    errors.push(FieldError::invalid(operator_path, value, &mistakes.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let shown = serde_json::to_value(toleration).unwrap_or_default();
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(operator_path, shown, detail));
            }
            "Exists" => {}
            other => errors.push(FieldError::not_supported(operator_path, other, &["Equal", "Exists"])),
        }
        const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if !effect.is_empty() && !EFFECTS.contains(&effect.as_str()) {
            errors.push(FieldError::not_supported(format!("{path}.effect"), effect, &EFFECTS));
        }
    }
}

/// One error for each mistake in a value.
pub(super) fn extend(errors: &mut Vec<FieldError>, path: &str, value: &str, mistakes: Vec<String>) {
    errors.extend(mistakes.iter().map(|mistake| FieldError::invalid(path, value, mistake)));
}
