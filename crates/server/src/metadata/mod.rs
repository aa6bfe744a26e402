//! What every object has in common: names, times, labels, owners and finalizers, and what the system fills in.

pub mod syntax;
mod validation;

use http::StatusCode;
use jiff::Timestamp;
use rand::Rng;
use serde_json::Value;
use uuid::Uuid;

pub use validation::{validate, validate_update};

use crate::object::Object;
use crate::status::ApiError;

/// Keeps an object until its dependents have let go of it.
pub const ORPHAN: &str = "orphan";
/// Keeps an object until its dependents are gone.
pub const FOREGROUND_DELETION: &str = "foregroundDeletion";

/// A point in time as metadata has it: RFC 3339 in UTC, to the second.
pub fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Brings the namespace of the body and that of the path together; the latter is empty for resources of the cluster.
///
/// # Errors
/// 400 if they differ.
pub fn set_namespace(object: &mut Object, namespace: &str) -> Result<(), ApiError> {
    let own = object.namespace();
    if namespace.is_empty() {
        object.remove(&["metadata", "namespace"]);
    } else if own.is_empty() {
        object.set(&["metadata", "namespace"], namespace);
    } else if own != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Makes sure that a body is about the object of the path.
///
/// # Errors
/// 400 if it is not.
pub fn check_name(object: &Object, name: &str) -> Result<(), ApiError> {
    match object.name() {
        "" => Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        own if own == name => Ok(()),
        own => Err(ApiError::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        ))),
    }
}

/// Fills in the metadata of a new object. What only the system may set is not taken from the client.
///
/// # Errors
/// 500 if the object has a resourceVersion, which is upstream's answer.
pub fn prepare_create(object: &mut Object, now: Timestamp) -> Result<(), ApiError> {
    if !object.resource_version().is_empty() {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "", message));
    }
    for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        object.remove(&["metadata", field]);
    }
    drop_unused(object);
    object.set(&["metadata", "uid"], Uuid::new_v4().to_string());
    object.set(&["metadata", "creationTimestamp"], time_text(now));
    let prefix = object.text(&["metadata", "generateName"]);
    if object.name().is_empty() && !prefix.is_empty() {
        let name = generated_name(prefix);
        object.set(&["metadata", "name"], name);
    }
    Ok(())
}

/// Fills in from the stored object what an update may leave out or may not change.
pub fn prepare_update(new: &mut Object, old: &Object) {
    drop_unused(new);
    for field in ["creationTimestamp", "generation"] {
        new.copy(old, &["metadata", field]);
    }
    for field in ["namespace", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"] {
        if new.at(&["metadata", field]).is_none_or(|value| value.is_null() || value == "") {
            new.copy(old, &["metadata", field]);
        }
    }
}

/// Takes away what is never kept: who manages which field is not tracked, and empty fields mean the same as none.
fn drop_unused(object: &mut Object) {
    object.remove(&["metadata", "managedFields"]);
    object.remove(&["metadata", "selfLink"]);
    if let Some(Value::Object(metadata)) = object.0.get_mut("metadata") {
        metadata.retain(|_, value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::Bool(_) | Value::Number(_) => true,
        });
    }
}

/// A prefix and five characters that neither form words nor are taken for one another.
pub fn generated_name(prefix: &str) -> String {
    const CHARACTERS: &[char] = &[
        'b', 'c', 'd', 'f', 'g', 'h', 'j', 'k', 'l', 'm', 'n', 'p', 'q', 'r', 's', 't', 'v', 'w', 'x', 'z',
        '2', '4', '5', '6', '7', '8', '9',
    ];
    const LONGEST_PREFIX: usize = 58;
    let mut random = rand::rng();
    let suffix = (0..5).filter_map(|_| CHARACTERS.get(random.random_range(0..CHARACTERS.len())));
    prefix.chars().take(LONGEST_PREFIX).chain(suffix.copied()).collect()
}

/// Adds or removes the finalizers of a deletion's propagation policy; whether that changed anything.
pub fn set_finalizer(object: &mut Object, finalizer: &str, is_wanted: bool) -> bool {
    let mut finalizers: Vec<Value> = object.list(&["metadata", "finalizers"]).to_vec();
    let is_there = finalizers.iter().any(|one| one == finalizer);
    match (is_there, is_wanted) {
        (true, false) => finalizers.retain(|one| one != finalizer),
        (false, true) => finalizers.push(finalizer.into()),
        _ => return false,
    }
    if finalizers.is_empty() {
        object.remove(&["metadata", "finalizers"]);
    } else {
        object.set(&["metadata", "finalizers"], finalizers);
    }
    true
}

#[cfg(test)]
mod tests;
