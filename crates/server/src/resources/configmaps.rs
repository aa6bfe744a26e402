//! ConfigMaps.

use jiff::Timestamp;
use serde_json::Value;

use super::keys;
use super::table::{AGE, NAME, age, column};
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Column, Context, Names, Resource, Scope, Update};

#[derive(Debug)]
pub(super) struct ConfigMaps;

const NAMES: Names = Names {
    group: "",
    version: "v1",
    plural: "configmaps",
    singular: "configmap",
    kind: "ConfigMap",
    short: &["cm"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: Names::ALL_VERBS,
};

const COLUMNS: &[Column] =
    &[NAME, column("Data", "string", "The number of keys in data and binaryData", 0), AGE];

impl Resource for ConfigMaps {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.ConfigMap"
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        errors(object)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        let mut found = keys::immutability_errors(update.new, update.old, &["data", "binaryData"]);
        found.extend(errors(update.new));
        found
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let count = keys::entries(object, "data").count() + keys::entries(object, "binaryData").count();
        vec![object.name().into(), count.into(), age(object, now).into()]
    }
}

fn errors(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0_usize;
    for (key, value) in keys::entries(object, "data") {
        errors.extend(keys::key_errors("data", key));
        if object.at(&["binaryData", key]).is_some() {
            errors.push(FieldError::invalid(
                format!("data[{key}]"),
                key,
                "duplicate of key present in binaryData",
            ));
        }
        bytes = bytes.saturating_add(value.len());
    }
    for (key, value) in keys::entries(object, "binaryData") {
        errors.extend(keys::key_errors("binaryData", key));
        bytes = bytes.saturating_add(keys::decoded_length(value));
    }
    if bytes > keys::MOST_BYTES {
        // Upstream names no field here.
        errors.push(FieldError::too_long("[]", keys::MOST_BYTES));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{context, object, texts};

    #[test]
    fn keys_are_file_names() {
        let map =
            object(json!({"data": {"a b": "", "..": "", "ok.txt": ""}, "binaryData": {"ok.txt": "AA=="}}));
        assert_eq!(
            texts(&ConfigMaps.validate_create(&context(), &map)),
            [
                "data[..]: Invalid value: \"..\": must not be '..'",
                "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', \
                 '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
                 '[-._a-zA-Z0-9]+')",
                "data[ok.txt]: Invalid value: \"ok.txt\": duplicate of key present in binaryData",
            ]
        );
    }

    #[test]
    fn a_mebibyte_is_the_most() {
        let map = |bytes: usize| object(json!({"data": {"a": "x".repeat(bytes)}}));
        assert_eq!(ConfigMaps.validate_create(&context(), &map(1_048_576)), []);
        let errors = ConfigMaps.validate_create(&context(), &map(1_048_577));
        assert_eq!(texts(&errors), ["[]: Too long: may not be more than 1048576 bytes"]);
    }

    #[test]
    fn immutable_ones_stay_as_they_are() {
        let old = object(json!({"immutable": true, "data": {"a": "1"}}));
        let new = object(json!({"data": {"a": "2"}}));
        let update = Update { old: &old, new: &new, subresource: "" };
        assert_eq!(
            texts(&ConfigMaps.validate_update(&context(), update)),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ]
        );
    }

    #[test]
    fn the_row_counts_both_kinds_of_data() {
        let map = object(json!({"metadata": {"name": "m"}, "data": {"a": ""}, "binaryData": {"b": ""}}));
        assert_eq!(ConfigMaps.row(&map, Timestamp::UNIX_EPOCH)[1], json!(2));
    }
}
