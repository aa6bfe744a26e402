//! Events: one store, in the form of the core group, and two views of it.

mod convert;
mod validation;

use jiff::Timestamp;
use serde_json::Value;

use super::table::{NAME, column, since};
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Column, Context, Names, PutCreates, Resource, Scope, Update};
use crate::store::Key;

/// The view of the core group, which is the stored form.
#[derive(Debug)]
pub(super) struct CoreEvents;

/// The view of `events.k8s.io`.
#[derive(Debug)]
pub(super) struct Events;

const CORE_NAMES: Names = Names {
    group: "",
    version: "v1",
    plural: "events",
    singular: "event",
    kind: "Event",
    short: &["ev"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: Names::ALL_VERBS,
};

const NAMES: Names = Names { group: "events.k8s.io", ..CORE_NAMES };

const COLUMNS: &[Column] = &[
    column("Last Seen", "string", "The time since the event was seen last", 0),
    column("Type", "string", "Normal or Warning", 0),
    column("Reason", "string", "Why, in a word", 0),
    column("Object", "string", "What the event is about", 0),
    column("Subobject", "string", "Which part of it", 1),
    column("Source", "string", "Who reports it", 1),
    column("Message", "string", "What has happened", 0),
    column("First Seen", "string", "The time since the event was seen first", 1),
    column("Count", "string", "How often it was seen", 1),
    Column { priority: 1, ..NAME },
];

impl Resource for CoreEvents {
    fn names(&self) -> &Names {
        &CORE_NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.Event"
    }

    fn put_creates(&self) -> PutCreates {
        PutCreates::Yes
    }

    fn default(&self, object: &mut Object) {
        convert::fill_core(object);
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        validation::errors(object, "reportingComponent")
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        validation::errors(update.new, "reportingComponent")
    }

    fn fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        let source = match object.text(&["source", "component"]) {
            "" => object.text(&["reportingComponent"]),
            component => component,
        };
        let mut fields = reference_fields(object, "involvedObject", &CORE_FIELDS);
        fields.extend([
            ("reason", object.text(&["reason"]).to_owned()),
            ("reportingComponent", object.text(&["reportingComponent"]).to_owned()),
            ("source", source.to_owned()),
            ("type", object.text(&["type"]).to_owned()),
        ]);
        fields
    }

    fn field_names(&self) -> &'static [&'static str] {
        &CORE_FIELDS
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        row(object, now)
    }

    fn expires(&self) -> bool {
        true
    }
}

impl Resource for Events {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.events.v1.Event"
    }

    fn put_creates(&self) -> PutCreates {
        PutCreates::Yes
    }

    fn key(&self, namespace: &str, name: &str) -> Key {
        CoreEvents.key(namespace, name)
    }

    fn key_prefix(&self, namespace: &str) -> String {
        CoreEvents.key_prefix(namespace)
    }

    fn read_stored(&self, object: &mut Object) {
        convert::from_core(object);
    }

    fn write_stored(&self, object: &mut Object) {
        convert::to_core(object);
    }

    fn default(&self, object: &mut Object) {
        convert::to_core(object);
        convert::from_core(object);
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        let core = core_form(object);
        let mut errors = validation::errors(&core, "reportingController");
        errors.extend(validation::strict_errors(&core));
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        validation::update_errors(&core_form(update.new), &core_form(update.old))
    }

    fn fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        let mut fields = reference_fields(object, "regarding", &FIELDS);
        for field in ["reason", "reportingController", "type"] {
            fields.push((field, object.text(&[field]).to_owned()));
        }
        fields
    }

    fn field_names(&self) -> &'static [&'static str] {
        &FIELDS
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        row(&core_form(object), now)
    }

    fn expires(&self) -> bool {
        true
    }
}

const CORE_FIELDS: [&str; 11] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

const FIELDS: [&str; 10] = [
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

/// Those of `names` that are about the object of the event.
fn reference_fields(event: &Object, reference: &str, names: &[&'static str]) -> Vec<(&'static str, String)> {
    let part = |name: &'static str| name.strip_prefix(reference)?.strip_prefix('.');
    let named = names.iter().filter_map(|name| Some((*name, part(name)?)));
    named.map(|(name, part)| (name, event.text(&[reference, part]).to_owned())).collect()
}

fn core_form(event: &Object) -> Object {
    let mut core = event.clone();
    convert::to_core(&mut core);
    core
}

fn row(event: &Object, now: Timestamp) -> Vec<Value> {
    let first_text = |paths: &[&[&'static str]]| {
        paths.iter().map(|path| event.text(path)).find(|text| !text.is_empty()).unwrap_or_default().to_owned()
    };
    let first_seen = first_text(&[&["firstTimestamp"], &["eventTime"]]);
    let last_seen = first_text(&[
        &["series", "lastObservedTime"],
        &["lastTimestamp"],
        &["firstTimestamp"],
        &["eventTime"],
    ]);
    let component = first_text(&[&["source", "component"], &["reportingComponent"]]);
    let host = first_text(&[&["source", "host"], &["reportingInstance"]]);
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    let kind = event.text(&["involvedObject", "kind"]).to_lowercase();
    let count = [event.at(&["series", "count"]), event.at(&["count"])];
    let count = count.into_iter().flatten().filter_map(Value::as_i64).find(|count| *count > 0).unwrap_or(1);
    vec![
        since(&last_seen, now).into(),
        event.text(&["type"]).into(),
        event.text(&["reason"]).into(),
        format!("{kind}/{}", event.text(&["involvedObject", "name"])).into(),
        event.text(&["involvedObject", "fieldPath"]).into(),
        source.into(),
        event.text(&["message"]).trim().into(),
        since(&first_seen, now).into(),
        count.into(),
        event.name().into(),
    ]
}

#[cfg(test)]
mod tests;
