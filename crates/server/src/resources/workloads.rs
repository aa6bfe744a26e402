//! What Deployments and ReplicaSets have in common: a number of pods after a template, found by a selector.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use serde_json::{Map, Value, json};

use super::defaults::{existing_map_at, fill, map_at, set_generation};
use super::pods;
use super::table::{NONE, joined};
use crate::field::FieldError;
use crate::metadata::syntax;
use crate::object::Object;
use crate::registry::{Names, Subresource, SubresourceWrite};
use crate::status::{ApiError, Subject};

/// The subresources of a workload of some kind.
pub(super) const fn subresources(kind: &'static str) -> [Subresource; 2] {
    let verbs = &["get", "patch", "update"];
    [
        Subresource {
            name: "scale",
            verbs,
            group: "autoscaling",
            version: "v1",
            kind: "Scale",
            write: SubresourceWrite::Own,
        },
        Subresource { name: "status", verbs, group: "", version: "", kind, write: SubresourceWrite::Status },
    ]
}

const REPLICAS: [&str; 2] = ["spec", "replicas"];
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// The spec with the defaults of both kinds.
pub(super) fn fill_spec(object: &mut Object) -> Option<&mut Map<String, Value>> {
    map_at(&mut object.0, "status");
    let spec = map_at(&mut object.0, "spec")?;
    fill(spec, "replicas", 1);
    if let Some(template) = map_at(spec, "template") {
        if let Some(metadata) = map_at(template, "metadata") {
            // Clients send `creationTimestamp: null`, which is not a part of the template.
            metadata.retain(|_, value| !value.is_null());
        }
        if let Some(spec) = existing_map_at(template, "spec") {
            pods::fill_spec(spec);
        }
    }
    Some(spec)
}

/// What is wrong with numbers that count something.
pub(super) fn negative_errors(numbers: &[(&str, Option<i32>)]) -> Vec<FieldError> {
    let negative =
        numbers.iter().filter_map(|(path, number)| Some((*path, number.filter(|number| *number < 0)?)));
    negative.map(|(path, number)| FieldError::invalid(path, number, NOT_NEGATIVE)).collect()
}

/// What is wrong with the selector, or with a template that it does not find.
pub(super) fn template_errors(
    selector: &LabelSelector,
    template: Option<&PodTemplateSpec>,
) -> Vec<FieldError> {
    let mut errors = selector_errors(selector);
    let is_empty = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if is_empty {
        let detail = "empty selector is invalid for deployment";
        errors.push(FieldError::invalid("spec.selector", to_json(selector), detail));
    }
    let Some(template) = template else {
        errors.push(FieldError::required("spec.template", ""));
        return errors;
    };
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    let none = BTreeMap::new();
    if let Ok(selector) = Selector::try_from(selector.clone())
        && !selector.matches(labels.unwrap_or(&none))
    {
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", to_json(&labels), detail));
    }
    for (key, value) in labels.into_iter().flatten() {
        errors.extend(label_errors("spec.template.labels", key, value));
    }
    let spec = template.spec.clone().unwrap_or_default();
    errors.extend(pods::spec_errors(&spec, "spec.template.spec"));
    if let Some(policy) = spec.restart_policy.as_deref().filter(|policy| *policy != "Always") {
        errors.push(FieldError::not_supported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", detail));
    }
    errors
}

fn selector_errors(selector: &LabelSelector) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        errors.extend(label_errors("spec.selector.matchLabels", key, value));
    }
    for (i, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        let path = format!("spec.selector.matchExpressions[{i}]");
        let has_values = requirement.values.as_ref().is_some_and(|values| !values.is_empty());
        match requirement.operator.as_str() {
            "In" | "NotIn" if !has_values => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(format!("{path}.values"), detail));
            }
            "Exists" | "DoesNotExist" if has_values => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{path}.values"), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(FieldError::invalid(
                    format!("{path}.operator"),
                    other,
                    "not a valid selector operator",
                ));
            }
        }
        let (path, key) = (format!("{path}.key"), requirement.key.as_str());
        let mistakes = syntax::qualified_name(key);
        errors.extend(mistakes.iter().map(|mistake| FieldError::invalid(path.as_str(), key, mistake)));
    }
    errors
}

fn label_errors(path: &str, key: &str, value: &str) -> Vec<FieldError> {
    let mistakes = syntax::qualified_name(key);
    let mut errors: Vec<FieldError> =
        mistakes.iter().map(|mistake| FieldError::invalid(path, key, mistake)).collect();
    let mistakes = syntax::label_value(value);
    errors.extend(mistakes.iter().map(|mistake| FieldError::invalid(path, value, mistake)));
    errors
}

/// Which pods belong to an object is settled once and for all.
pub(super) fn selector_change(new: &Object, old: &Object) -> Option<FieldError> {
    const SELECTOR: [&str; 2] = ["spec", "selector"];
    let value = new.at(&SELECTOR);
    let is_changed = value != old.at(&SELECTOR);
    is_changed.then(|| {
        FieldError::invalid("spec.selector", value.cloned().unwrap_or_default(), "field is immutable")
    })
}

/// What is wrong with the counts of a status: none may be more than all.
pub(super) fn status_errors(object: &Object, counts: &[&str]) -> Vec<FieldError> {
    let count = |field: &str| object.at(&["status", field]).and_then(Value::as_i64).unwrap_or(0);
    let too_large = |field: &str, most: &str| {
        let detail = format!("cannot be greater than {most}");
        FieldError::invalid(format!("status.{field}"), count(field), &detail)
    };
    let all = std::iter::once("replicas").chain(counts.iter().copied());
    let negative = all.filter(|field| count(field) < 0);
    let mut errors: Vec<FieldError> = negative
        .map(|field| FieldError::invalid(format!("status.{field}"), count(field), NOT_NEGATIVE))
        .collect();
    let larger = counts.iter().filter(|field| count(field) > count("replicas"));
    errors.extend(larger.map(|field| too_large(field, "status.replicas")));
    if count("availableReplicas") > count("readyReplicas") {
        errors.push(too_large("availableReplicas", "readyReplicas"));
    }
    errors
}

/// The subresource `scale`: a view of any workload that knows nothing but how many pods there are and shall be.
pub(super) fn scale(
    names: &Names,
    object: &Object,
    body: Option<&Object>,
) -> Result<(Option<Object>, Value), ApiError> {
    let Some(body) = body else { return Ok((None, scale_of(object))) };
    let subject = Subject { group: names.group, kind: names.plural, name: object.name() };
    let version = body.resource_version();
    if !version.is_empty() && version != object.resource_version() {
        return Err(ApiError::modified(subject));
    }
    let replicas = body.at(&REPLICAS).and_then(Value::as_i64).unwrap_or(0);
    if replicas < 0 {
        let error = FieldError::invalid("spec.replicas", replicas, NOT_NEGATIVE);
        return Err(ApiError::invalid(Subject { group: "autoscaling", kind: "Scale", ..subject }, &[error]));
    }
    let mut scaled = object.clone();
    scaled.set(&REPLICAS, replicas);
    set_generation(&mut scaled, object);
    let shown = scale_of(&scaled);
    Ok((Some(scaled), shown))
}

fn scale_of(object: &Object) -> Value {
    let mut scale = Object::default();
    scale.set(&["kind"], "Scale");
    scale.set(&["apiVersion"], "autoscaling/v1");
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        scale.copy(object, &["metadata", field]);
    }
    scale.copy(object, &REPLICAS);
    let replicas = object.at(&["status", "replicas"]).cloned().unwrap_or_else(|| json!(0));
    scale.set(&["status", "replicas"], replicas);
    scale.set(&["status", "selector"], selector_text(object).unwrap_or_default());
    scale.0.into()
}

/// The last cells of a row: the containers' names, their images, and the selector.
pub(super) fn wide_cells(object: &Object) -> [Value; 3] {
    let containers = object.list(&["spec", "template", "spec", "containers"]);
    let all = |field: &str| {
        let texts: Vec<&str> =
            containers.iter().filter_map(|container| container.get(field)?.as_str()).collect();
        if texts.is_empty() { String::new() } else { joined(texts) }
    };
    let selector =
        selector_text(object).filter(|selector| !selector.is_empty()).unwrap_or_else(|| NONE.to_owned());
    [all("name").into(), all("image").into(), selector.into()]
}

/// As a client would write it: `app=web,tier in (a,b)`.
fn selector_text(object: &Object) -> Option<String> {
    let selector = object.at(&["spec", "selector"])?.clone();
    let selector: LabelSelector = serde_json::from_value(selector).ok()?;
    Selector::try_from(selector).ok().map(|selector| selector.to_string())
}

fn to_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
