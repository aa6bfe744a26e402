//! From the form of the core group to that of `events.k8s.io` and back: the same fields, some by other names.

use serde_json::{Value, json};

use crate::object::Object;
use crate::resources::defaults::fill;

/// The name of a field in the core group, and that in `events.k8s.io`.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Fields that an event of the core group always shows.
pub(super) fn fill_core(event: &mut Object) {
    for field in ["involvedObject", "source"] {
        fill(&mut event.0, field, json!({}));
    }
    for field in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        fill(&mut event.0, field, Value::Null);
    }
    for field in ["reportingComponent", "reportingInstance"] {
        fill(&mut event.0, field, "");
    }
}

pub(super) fn from_core(event: &mut Object) {
    for (core, name) in RENAMED {
        rename(event, core, name);
    }
    // Left out when empty, in this form.
    for field in ["reportingController", "reportingInstance"] {
        if event.text(&[field]).is_empty() {
            event.remove(&[field]);
        }
    }
    event.set(&["apiVersion"], "events.k8s.io/v1");
}

pub(super) fn to_core(event: &mut Object) {
    for (core, name) in RENAMED {
        rename(event, name, core);
    }
    fill_core(event);
    event.set(&["apiVersion"], "v1");
}

fn rename(event: &mut Object, from: &str, to: &str) {
    if let Some(value) = event.remove(&[from]) {
        event.set(&[to], value);
    }
}
