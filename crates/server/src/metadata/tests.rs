use serde_json::json;

use super::*;
use crate::field::FieldError;
use crate::registry::{Names, Resource, Scope};

/// Takes any name.
#[derive(Debug)]
struct Things(&'static str);

impl Resource for Things {
    fn names(&self) -> &Names {
        const NAMES: Names = Names {
            group: "",
            version: "v1",
            plural: "things",
            singular: "thing",
            kind: "Thing",
            short: &[],
            categories: &[],
            scope: Scope::Namespaced,
            verbs: Names::ALL_VERBS,
        };
        const LEASES: Names = Names { group: "coordination.k8s.io", ..NAMES };
        if self.0.is_empty() { &NAMES } else { &LEASES }
    }

    fn schema(&self) -> &'static str {
        ""
    }

    fn validate_name(&self, _name: &str) -> Vec<String> {
        Vec::new()
    }
}

/// What is wrong with the metadata of a thing.
fn errors(metadata: Value) -> Vec<String> {
    let mut metadata = metadata;
    metadata["name"] = "x".into();
    metadata["namespace"] = "default".into();
    let object = serde_json::from_value(json!({"metadata": metadata})).map(Object).unwrap();
    validate(&Things(""), &object).iter().map(FieldError::to_string).collect()
}

#[test]
fn owners_are_complete_and_at_most_one_controls() {
    let owner = |name: &str| json!({"apiVersion": "apps/v1", "kind": "A", "name": name, "uid": "u", "controller": true});
    assert_eq!(errors(json!({"ownerReferences": [owner("b")]})), Vec::<String>::new());
    let path = "metadata.ownerReferences";
    assert_eq!(
        errors(json!({"ownerReferences": [{"apiVersion": "", "kind": "", "name": "", "uid": ""}]})),
        [
            format!("{path}.apiVersion: Invalid value: \"\": version must not be empty"),
            format!("{path}.kind: Invalid value: \"\": must not be empty"),
            format!("{path}.name: Invalid value: \"\": must not be empty"),
            format!("{path}.uid: Invalid value: \"\": must not be empty"),
        ]
    );
    let two = errors(json!({"ownerReferences": [owner("b"), owner("c")]}));
    let text =
        "Only one reference can have Controller set to true. Found \"true\" in references for A/b and A/c";
    assert!(two.len() == 1 && two[0].ends_with(text), "{two:?}");
    let event =
        errors(json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}]}));
    assert!(
        event.len() == 1 && event[0].ends_with("/v1, Kind=Event is disallowed from being an owner"),
        "{event:?}"
    );
}

#[test]
fn finalizers_name_a_domain() {
    assert_eq!(errors(json!({"finalizers": ["orphan", "kubernetes", "a.b/c"]})), Vec::<String>::new());
    let text = "metadata.finalizers[1]: Invalid value: \"foo\": name is neither a standard finalizer name nor is it \
        fully qualified";
    assert_eq!(errors(json!({"finalizers": ["a.b/c", "foo"]})), [text]);
    let both = errors(json!({"finalizers": ["orphan", "foregroundDeletion"]}));
    let text = "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and \
        foregroundDeletion cannot be both set";
    assert_eq!(both, [text]);

    let metadata = json!({"name": "x", "namespace": "default", "finalizers": ["foo"]});
    let lease = serde_json::from_value(json!({"metadata": metadata})).map(Object).unwrap();
    assert_eq!(validate(&Things("leases"), &lease), []);
}

#[test]
fn labels_and_annotations_have_their_limits() {
    let bad = errors(json!({"labels": {"a b": "1", "ok": "-"}}));
    assert!(
        bad.len() == 2
            && bad[0].starts_with("metadata.labels: Invalid value: \"a b\": name part must consist")
    );
    assert!(bad[1].starts_with("metadata.labels: Invalid value: \"-\": a valid label must be"));
    assert_eq!(errors(json!({"annotations": {"Example.com/Key": "any value"}})), Vec::<String>::new());
    let large = errors(json!({"annotations": {"k": "x".repeat(262_144)}}));
    assert_eq!(large, ["metadata.annotations: Too long: may not be more than 262144 bytes"]);
}

#[test]
fn finalizers_of_a_policy_come_and_go() {
    let mut object = Object::default();
    assert!(set_finalizer(&mut object, ORPHAN, true) && !set_finalizer(&mut object, ORPHAN, true));
    assert_eq!(object.finalizers().collect::<Vec<_>>(), [ORPHAN]);
    assert!(set_finalizer(&mut object, ORPHAN, false));
    assert_eq!(object.at(&["metadata", "finalizers"]), None);
}

#[test]
fn generated_names_have_five_characters_more() {
    let name = generated_name("a-");
    assert!(name.len() == 7 && name.starts_with("a-"));
    assert!(name.chars().skip(2).all(|one| "bcdfghjklmnpqrstvwxz2456789".contains(one)), "{name}");
}
