//! What an event must say. Both views are checked in the form of the core group, whose field names the texts have.

use serde_json::Value;

use crate::field::FieldError;
use crate::metadata::syntax;
use crate::object::Object;

const LONGEST_WORD: usize = 128;
const LONGEST_MESSAGE: usize = 1024;

/// What is wrong with an event in either view. `reporter` is the name of the reporting controller's field there.
///
/// Events without `eventTime` come from old recorders, of which nothing more is asked.
pub(super) fn errors(event: &Object, reporter: &str) -> Vec<FieldError> {
    let is_new = !event.text(&["eventTime"]).is_empty();
    let mut errors = Vec::new();
    let about = event.text(&["involvedObject", "namespace"]);
    let fits = match about {
        // What belongs to the whole cluster is told of in these.
        "" => matches!(event.namespace(), "default" | "kube-system"),
        namespace => namespace == event.namespace(),
    };
    if !fits {
        errors.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
    if !is_new {
        return errors;
    }
    let controller = event.text(&["reportingComponent"]);
    if controller.is_empty() {
        errors.push(FieldError::required(reporter, ""));
    }
    let mistakes = syntax::qualified_name(controller);
    errors.extend(mistakes.iter().map(|mistake| FieldError::invalid(reporter, controller, mistake)));
    for field in ["reportingInstance", "action", "reason"] {
        let text = event.text(&[field]);
        if text.is_empty() {
            errors.push(FieldError::required(field, ""));
        }
        errors.extend(too_long(field, text, LONGEST_WORD));
    }
    errors.extend(too_long("message", event.text(&["message"]), LONGEST_MESSAGE));
    errors
}

fn too_long(field: &str, text: &str, most: usize) -> Option<FieldError> {
    let detail = format!("can have at most {most} characters");
    (text.len() > most).then(|| FieldError::invalid(field, "", &detail))
}

/// What else is wrong with an event made through `events.k8s.io`.
pub(super) fn strict_errors(event: &Object) -> Vec<FieldError> {
    let mut errors = series_errors(event);
    if event.text(&["eventTime"]).is_empty() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = event.text(&["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", "", &format!("has invalid value: {kind}")));
    }
    let is_set = |field: &str| match event.at(&[field]) {
        None | Some(Value::Null) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Number(number)) => number.as_i64() != Some(0),
        Some(_) => true,
    };
    let deprecated = ["firstTimestamp", "lastTimestamp", "count", "source"].into_iter();
    errors.extend(
        deprecated
            .filter(|field| is_set(field))
            .map(|field| FieldError::invalid(field, "", "needs to be unset")),
    );
    errors
}

fn series_errors(event: &Object) -> Vec<FieldError> {
    let Some(series) = event.at(&["series"]).filter(|series| !series.is_null()) else { return Vec::new() };
    let mut errors = Vec::new();
    if series.get("count").and_then(Value::as_i64).unwrap_or(0) < 2 {
        errors.push(FieldError::invalid("series.count", "", "should be at least 2"));
    }
    if series.get("lastObservedTime").and_then(Value::as_str).is_none_or(str::is_empty) {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
    errors
}

/// What is wrong with a change made through `events.k8s.io`, which may concern the series only.
pub(super) fn update_errors(new: &Object, old: &Object) -> Vec<FieldError> {
    /// The field, and how the texts call it.
    const IMMUTABLE: [(&str, &str); 13] = [
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("type", "type"),
        ("eventTime", "eventTime"),
    ];
    let changed = IMMUTABLE.iter().filter(|(field, _)| new.at(&[field]) != old.at(&[field]));
    let immutable = changed.map(|(field, shown)| {
        let value = new.at(&[field]).cloned().unwrap_or_default();
        FieldError::invalid(*shown, value, "field is immutable")
    });
    let mut errors: Vec<FieldError> = immutable.collect();
    errors.extend(series_errors(new));
    errors
}
