//! What may change in a pod once it is there: next to nothing.

use k8s_openapi::api::core::v1::{Pod, PodSchedulingGate, PodSpec, Toleration};
use serde_json::Value;

use super::validation::{check_tolerations, spec_errors};
use crate::field::FieldError;
use crate::object::Object;

const CHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn errors(new: &Object, old: &Object) -> Vec<FieldError> {
    let (new, old): (Pod, Pod) = match (new.typed(), old.typed()) {
        (Ok(new), Ok(old)) => (new, old),
        (Err(error), _) | (_, Err(error)) => return vec![FieldError::internal("spec", &error.to_string())],
    };
    let (new, old) = (new.spec.unwrap_or_default(), old.spec.unwrap_or_default());
    let mut errors = Vec::new();
    let lengths = [
        ("containers", new.containers.len(), old.containers.len()),
        ("initContainers", length(&new.init_containers), length(&old.init_containers)),
    ];
    for (list, new, old) in lengths {
        if new != old {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(format!("spec.{list}"), detail));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    errors.extend(deadline_errors(&new, &old));
    errors.extend(toleration_errors(&new, &old));
    errors.extend(gate_errors(&new, &old));
    if !errors.is_empty() {
        return errors;
    }
    let allowed = with_allowed_changes(&new, &old);
    if new == allowed {
        return spec_errors(&new, "spec");
    }
    let difference = difference(&new, &allowed);
    vec![FieldError::forbidden("spec", &format!("{CHANGEABLE}\n{difference}"))]
}

fn length<T>(list: &Option<Vec<T>>) -> usize {
    list.as_ref().map_or(0, Vec::len)
}

/// A deadline may only come nearer.
fn deadline_errors(new: &PodSpec, old: &PodSpec) -> Option<FieldError> {
    const PATH: &str = "spec.activeDeadlineSeconds";
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), Some(old)) if new > old => {
            Some(FieldError::invalid(PATH, new, "must be less than or equal to previous value"))
        }
        (None, Some(_)) => {
            Some(FieldError::forbidden(PATH, "must not update from a positive integer to nil value"))
        }
        _ => None,
    }
}

fn toleration_errors(new: &PodSpec, old: &PodSpec) -> Vec<FieldError> {
    const PATH: &str = "spec.tolerations";
    let new = new.tolerations.as_deref().unwrap_or_default();
    // How long one is tolerated may change.
    let is_same = |one: &Toleration, other: &Toleration| {
        Toleration { toleration_seconds: None, ..one.clone() }
            == Toleration { toleration_seconds: None, ..other.clone() }
    };
    if !old.tolerations.iter().flatten().all(|old| new.iter().any(|new| is_same(new, old))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        return vec![FieldError::forbidden(PATH, detail)];
    }
    let mut errors = Vec::new();
    check_tolerations(new, PATH, &mut errors);
    errors
}

/// The old spec with those changes of the new one that are allowed.
fn with_allowed_changes(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut allowed = old.clone();
    for (to, from) in allowed.containers.iter_mut().zip(&new.containers) {
        to.image.clone_from(&from.image);
    }
    let init_containers = allowed.init_containers.iter_mut().flatten();
    for (to, from) in init_containers.zip(new.init_containers.iter().flatten()) {
        to.image.clone_from(&from.image);
    }
    allowed.active_deadline_seconds = new.active_deadline_seconds;
    allowed.tolerations.clone_from(&new.tolerations);
    if is_gated(old) {
        allowed.node_selector.clone_from(&new.node_selector);
        allowed.affinity.clone_from(&new.affinity);
        allowed.scheduling_gates.clone_from(&new.scheduling_gates);
    }
    allowed
}

fn is_gated(spec: &PodSpec) -> bool {
    length(&spec.scheduling_gates) > 0
}

/// Gates may go until none is left; none may come.
fn gate_errors(new: &PodSpec, old: &PodSpec) -> Vec<FieldError> {
    let is_new =
        |gate: &&PodSchedulingGate| old.scheduling_gates.iter().flatten().all(|old| old.name != gate.name);
    let added = new.scheduling_gates.iter().flatten().filter(is_new);
    let detail = |name: &str| format!("only deletion is allowed, but found new scheduling gate '{name}'");
    added.map(|gate| FieldError::forbidden("spec.schedulingGates", &detail(&gate.name))).collect()
}

/// The fields that differ, a line each for what was and what was to be.
fn difference(new: &PodSpec, old: &PodSpec) -> String {
    let fields = |spec: &PodSpec| match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (new, old) = (fields(new), fields(old));
    let mut lines = Vec::new();
    for field in old.keys().chain(new.keys().filter(|field| !old.contains_key(*field))) {
        let (before, after) = (old.get(field), new.get(field));
        if before != after {
            lines.extend(before.map(|value| format!("- {field}: {value}")));
            lines.extend(after.map(|value| format!("+ {field}: {value}")));
        }
    }
    lines.join("\n")
}
