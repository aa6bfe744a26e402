//! What metadata must be.

use serde_json::Value;

use super::{FOREGROUND_DELETION, ORPHAN, syntax};
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Resource, Scope};

/// Of all annotations of an object, keys and values, in bytes.
const MOST_ANNOTATION_BYTES: usize = 256 * 1024;

/// What is wrong with the metadata of an object to be stored.
pub fn validate(resource: &dyn Resource, object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check_names(resource, object, &mut errors);
    check_labels(object, &mut errors);
    check_annotations(object, &mut errors);
    check_owners(object, &mut errors);
    check_finalizers(resource, object, &mut errors);
    errors
}

/// What is wrong with the metadata of an update; what it left out has been filled in from the stored object.
pub fn validate_update(new: &Object, old: &Object) -> Vec<FieldError> {
    const IMMUTABLE: [&str; 6] =
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    let mut errors = Vec::new();
    if old.is_being_deleted() {
        let added: Vec<String> = new
            .finalizers()
            .filter(|finalizer| old.finalizers().all(|one| one != *finalizer))
            .map(|finalizer| format!("{finalizer:?}"))
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &detail));
        }
    }
    for field in IMMUTABLE {
        let path = ["metadata", field];
        if new.at(&path) != old.at(&path) {
            let value = new.at(&path).cloned().unwrap_or_default();
            errors.push(FieldError::invalid(path.join("."), value, "field is immutable"));
        }
    }
    errors
}

fn check_names(resource: &dyn Resource, object: &Object, errors: &mut Vec<FieldError>) {
    let mut invalid = |path: &str, value: &str, mistakes: Vec<String>| {
        errors.extend(mistakes.iter().map(|mistake| FieldError::invalid(path, value, mistake)));
    };
    let prefix = object.text(&["metadata", "generateName"]);
    if !prefix.is_empty() {
        invalid("metadata.generateName", prefix, resource.validate_name(&without_trailing_dash(prefix)));
    }
    let name = object.name();
    if !name.is_empty() {
        invalid("metadata.name", name, resource.validate_name(name));
    }
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    }
    if object.namespace().is_empty() && resource.names().scope == Scope::Namespaced {
        errors.push(FieldError::required("metadata.namespace", ""));
    }
}

/// A prefix may end in what a name may not, as long as the generated characters follow.
fn without_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(start) if !start.is_empty() => format!("{start}a"),
        _ => prefix.to_owned(),
    }
}

fn check_labels(object: &Object, errors: &mut Vec<FieldError>) {
    let mut invalid = |value: &str, mistakes: Vec<String>| {
        errors.extend(mistakes.iter().map(|mistake| FieldError::invalid("metadata.labels", value, mistake)));
    };
    for (key, value) in object.labels() {
        invalid(key, syntax::qualified_name(key));
        invalid(value, syntax::label_value(value));
    }
}

fn check_annotations(object: &Object, errors: &mut Vec<FieldError>) {
    const PATH: &str = "metadata.annotations";
    let mut bytes = 0_usize;
    for (key, value) in object.annotations() {
        let mistakes = syntax::qualified_name(&key.to_lowercase());
        errors.extend(mistakes.iter().map(|mistake| FieldError::invalid(PATH, key, mistake)));
        bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
    }
    if bytes > MOST_ANNOTATION_BYTES {
        errors.push(FieldError::too_long(PATH, MOST_ANNOTATION_BYTES));
    }
}

fn check_owners(object: &Object, errors: &mut Vec<FieldError>) {
    const PATH: &str = "metadata.ownerReferences";
    let owners = object.list(&["metadata", "ownerReferences"]);
    let text =
        |owner: &Value, field: &str| owner.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut controller: Option<String> = None;
    for owner in owners {
        let (api_version, kind, name) = (text(owner, "apiVersion"), text(owner, "kind"), text(owner, "name"));
        let mut must_be_there = |field: &str, what: &str| {
            let detail = format!("{what}must not be empty");
            errors.push(FieldError::invalid(format!("{PATH}.{field}"), "", &detail));
        };
        if api_version.rsplit('/').next().is_none_or(str::is_empty) {
            must_be_there("apiVersion", "version ");
        }
        if kind.is_empty() {
            must_be_there("kind", "");
        }
        if name.is_empty() {
            must_be_there("name", "");
        }
        if text(owner, "uid").is_empty() {
            must_be_there("uid", "");
        }
        if (api_version.as_str(), kind.as_str()) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(PATH, owner.clone(), detail));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{kind}/{name}");
            if let Some(first) = &controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                errors.push(FieldError::invalid(PATH, owners.to_vec(), &detail));
            }
            controller.get_or_insert(this);
        }
    }
}

fn check_finalizers(resource: &dyn Resource, object: &Object, errors: &mut Vec<FieldError>) {
    const PATH: &str = "metadata.finalizers";
    // Leases take any qualified name, also one without a domain.
    let wants_domain = resource.names().group != "coordination.k8s.io";
    for (i, finalizer) in object.finalizers().enumerate() {
        let mistakes = syntax::qualified_name(finalizer);
        errors.extend(mistakes.iter().map(|mistake| FieldError::invalid(PATH, finalizer, mistake)));
        if wants_domain && !finalizer.contains('/') && !is_standard(finalizer) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(format!("{PATH}[{i}]"), finalizer, detail));
        }
    }
    let has = |wanted: &str| object.finalizers().any(|finalizer| finalizer == wanted);
    if has(ORPHAN) && has(FOREGROUND_DELETION) {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(PATH, object.list(&["metadata", "finalizers"]).to_vec(), detail));
    }
}

fn is_standard(finalizer: &str) -> bool {
    matches!(finalizer, "kubernetes" | ORPHAN | FOREGROUND_DELETION)
}
