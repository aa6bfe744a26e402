//! Keys and sizes of the data of ConfigMaps and Secrets.

use serde_json::Value;

use crate::field::FieldError;
use crate::object::Object;

/// Of all values of an object.
pub(super) const MOST_BYTES: usize = 1024 * 1024;

const MOST_KEY_BYTES: usize = 253;

/// The entries of a map of texts, sorted by key.
pub(super) fn entries<'a>(object: &'a Object, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = object.at(&[field]).and_then(Value::as_object).into_iter().flatten();
    map.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

/// What is wrong with a key, which becomes the name of a file in a volume.
pub(super) fn key_errors(field: &str, key: &str) -> Vec<FieldError> {
    let mut mistakes = Vec::new();
    if key.len() > MOST_KEY_BYTES {
        mistakes.push("must be no more than 253 characters");
    }
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if key.is_empty() || !key.bytes().all(is_fine) {
        mistakes.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        );
    }
    match key {
        "." => mistakes.push("must not be '.'"),
        ".." => mistakes.push("must not be '..'"),
        _ if key.starts_with("..") => mistakes.push("must not start with '..'"),
        _ => {}
    }
    let path = format!("{field}[{key}]");
    mistakes.into_iter().map(|mistake| FieldError::invalid(path.as_str(), key, mistake)).collect()
}

/// How many bytes a text in base64 stands for.
pub(super) fn decoded_length(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|byte| *byte == b'=').count();
    (base64.len() / 4).saturating_mul(3).saturating_sub(padding)
}

/// What an update changes of an object that may not change.
pub(super) fn immutability_errors(new: &Object, old: &Object, data: &[&str]) -> Vec<FieldError> {
    let is_immutable = |object: &Object| object.at(&["immutable"]) == Some(&Value::Bool(true));
    if !is_immutable(old) {
        return Vec::new();
    }
    let unset = (!is_immutable(new)).then_some("immutable");
    let changed = data.iter().copied().filter(|field| !entries(new, field).eq(entries(old, field)));
    let fields = unset.into_iter().chain(changed);
    fields.map(|field| FieldError::forbidden(field, "field is immutable when `immutable` is set")).collect()
}
