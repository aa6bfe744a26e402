use serde_json::json;

use super::*;
use crate::resources::testing::{context, object, texts};

fn recorded() -> Object {
    object(json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": "p.1", "namespace": "n"},
        "involvedObject": {"kind": "Pod", "namespace": "n", "name": "p", "fieldPath": "spec.containers{c}"},
        "reason": "Started", "message": " Started container c\n", "source": {"component": "kubelet", "host": "n1"},
        "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:01:00Z", "count": 2, "type": "Normal",
    }))
}

fn new_style() -> Object {
    object(json!({
        "metadata": {"name": "p.1", "namespace": "default"},
        "regarding": {"kind": "Node", "name": "n1"},
        "eventTime": "1970-01-01T00:00:00.000000Z", "reportingController": "example.com/c",
        "reportingInstance": "c-1", "action": "Move", "reason": "Moved", "type": "Normal",
    }))
}

#[test]
fn core_events_show_all_they_lack() {
    let mut event = object(json!({"metadata": {"name": "e"}}));
    CoreEvents.default(&mut event);
    let expected = json!({
        "metadata": {"name": "e"}, "involvedObject": {}, "source": {}, "firstTimestamp": null,
        "lastTimestamp": null, "eventTime": null, "reportingComponent": "", "reportingInstance": "",
    });
    assert_eq!(event, object(expected));
}

#[test]
fn both_views_show_the_same_event() {
    let mut core = recorded();
    CoreEvents.default(&mut core);
    let mut view = core.clone();
    Events.read_stored(&mut view);
    let expected = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "p.1", "namespace": "n"},
        "regarding": {"kind": "Pod", "namespace": "n", "name": "p", "fieldPath": "spec.containers{c}"},
        "reason": "Started", "note": " Started container c\n",
        "deprecatedSource": {"component": "kubelet", "host": "n1"}, "deprecatedCount": 2,
        "deprecatedFirstTimestamp": "1970-01-01T00:00:00Z", "deprecatedLastTimestamp": "1970-01-01T00:01:00Z",
        "eventTime": null, "type": "Normal",
    });
    assert_eq!(view, object(expected));
    assert_eq!(Events.row(&view, Timestamp::UNIX_EPOCH), CoreEvents.row(&core, Timestamp::UNIX_EPOCH));
    Events.write_stored(&mut view);
    assert_eq!(view, core);
    assert_eq!(Events.key("n", "e"), CoreEvents.key("n", "e"));
}

#[test]
fn rows_tell_when_what_and_who() {
    let now = Timestamp::from_second(90).unwrap();
    let cells = CoreEvents.row(&recorded(), now);
    let expected = json!([
        "30s",
        "Normal",
        "Started",
        "pod/p",
        "spec.containers{c}",
        "kubelet, n1",
        "Started container c",
        "90s",
        2,
        "p.1"
    ]);
    assert_eq!(Value::from(cells), expected);
}

#[test]
fn selectors_find_events_by_what_they_are_about() {
    let fields = CoreEvents.fields(&recorded());
    assert!(fields.contains(&("involvedObject.name", "p".to_owned())));
    assert!(fields.contains(&("source", "kubelet".to_owned())));
    let mut view = recorded();
    Events.read_stored(&mut view);
    assert!(Events.fields(&view).contains(&("regarding.fieldPath", "spec.containers{c}".to_owned())));
    let names: Vec<&str> = Events.fields(&view).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, Events.field_names());
}

#[test]
fn old_recorders_need_the_right_namespace_only() {
    let mut event = recorded();
    assert_eq!(CoreEvents.validate_create(&context(), &event), []);
    event.set(&["metadata", "namespace"], "other");
    let expected = "involvedObject.namespace: Invalid value: \"n\": does not match event.namespace";
    assert_eq!(texts(&CoreEvents.validate_create(&context(), &event)), [expected]);
}

#[test]
fn new_events_say_who_did_what() {
    let mut event = new_style();
    Events.default(&mut event);
    assert_eq!(Events.validate_create(&context(), &event), []);
    let mut event = object(json!({
        "metadata": {"namespace": "default"}, "type": "Foo", "deprecatedCount": 1, "series": {"count": 1},
        "eventTime": "1970-01-01T00:00:00.000000Z", "note": "x".repeat(1025), "reportingController": "c",
    }));
    Events.default(&mut event);
    assert_eq!(
        texts(&Events.validate_create(&context(), &event)),
        [
            "reportingInstance: Required value",
            "action: Required value",
            "reason: Required value",
            "message: Invalid value: \"\": can have at most 1024 characters",
            "series.count: Invalid value: \"\": should be at least 2",
            "series.lastObservedTime: Required value",
            "type: Invalid value: \"\": has invalid value: Foo",
            "count: Invalid value: \"\": needs to be unset",
        ]
    );
}

#[test]
fn only_the_series_of_a_new_event_changes() {
    let mut old = new_style();
    Events.default(&mut old);
    let mut new = old.clone();
    new.set(&["series"], json!({"count": 2, "lastObservedTime": "1970-01-01T00:00:01.000000Z"}));
    assert_eq!(Events.validate_update(&context(), Update { old: &old, new: &new, subresource: "" }), []);
    new.set(&["reason"], "Other");
    let errors = Events.validate_update(&context(), Update { old: &old, new: &new, subresource: "" });
    assert_eq!(texts(&errors), ["reason: Invalid value: \"Other\": field is immutable"]);
}
