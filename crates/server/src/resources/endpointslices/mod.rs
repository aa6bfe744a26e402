//! EndpointSlices: where the pods behind a Service are. This is what proxies read.

mod validation;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::defaults::{fill, maps_in, set_first_generation};
use super::table::{AGE, NAME, UNSET, age, column, shortened};
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Column, Context, Names, Resource, Scope, Update};
use crate::status::ApiError;

#[derive(Debug)]
pub(super) struct EndpointSlices;

const NAMES: Names = Names {
    group: "discovery.k8s.io",
    version: "v1",
    plural: "endpointslices",
    singular: "endpointslice",
    kind: "EndpointSlice",
    short: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: Names::ALL_VERBS,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("AddressType", "string", "IPv4, IPv6 or FQDN.", 0),
    column("Ports", "string", "The ports of every endpoint.", 0),
    column("Endpoints", "string", "The addresses of the endpoints.", 0),
    AGE,
];

impl Resource for EndpointSlices {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.discovery.v1.EndpointSlice"
    }

    fn default(&self, object: &mut Object) {
        for port in maps_in(&mut object.0, "ports") {
            fill(port, "name", "");
            fill(port, "protocol", "TCP");
        }
        // Go writes both as null when they are empty.
        for list in ["endpoints", "ports"] {
            if object.list(&[list]).is_empty() {
                object.set(&[list], Value::Null);
            }
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) -> Result<(), ApiError> {
        drop_topology(object);
        set_first_generation(object);
        Ok(())
    }

    fn prepare_update(
        &self,
        _context: &Context<'_>,
        new: &mut Object,
        old: &Object,
        _subresource: &str,
    ) -> Result<(), ApiError> {
        drop_topology(new);
        let generation = old.at(&["metadata", "generation"]).and_then(Value::as_i64).unwrap_or_default();
        let is_changed = content(new) != content(old) || new.labels() != old.labels();
        new.set(
            &["metadata", "generation"],
            if is_changed { generation.saturating_add(1) } else { generation },
        );
        Ok(())
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        validation::errors(object, None)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        let mut errors = validation::errors(update.new, Some(update.old));
        let (new, old) = (update.new.text(&["addressType"]), update.old.text(&["addressType"]));
        if new != old {
            errors.push(FieldError::invalid("addressType", new, "field is immutable"));
        }
        errors
    }

    fn warnings(&self, object: &Object, _old: Option<&Object>) -> Vec<String> {
        validation::warnings(object)
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let addresses = object.list(&["endpoints"]).iter().flat_map(|endpoint| {
            let addresses = endpoint.get("addresses").and_then(Value::as_array);
            addresses.into_iter().flatten().filter_map(Value::as_str)
        });
        vec![
            object.name().into(),
            object.text(&["addressType"]).into(),
            shortened(object.list(&["ports"]).iter().map(port), UNSET).into(),
            shortened(addresses, UNSET).into(),
            age(object, now).into(),
        ]
    }
}

/// Everything but the metadata.
fn content(object: &Object) -> Map<String, Value> {
    let mut content = object.0.clone();
    content.remove("metadata");
    content
}

/// A field of an older version, which clients of this one cannot set.
fn drop_topology(object: &mut Object) {
    maps_in(&mut object.0, "endpoints").for_each(|endpoint| drop(endpoint.remove("deprecatedTopology")));
}

/// Its number, or its name where it has none; `*` stands for all ports.
fn port(port: &Value) -> String {
    let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
    match port.get("port").and_then(Value::as_i64) {
        Some(number) => number.to_string(),
        None if name.is_empty() => "*".to_owned(),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{context, object};

    #[test]
    fn ports_get_names_and_protocols() {
        let mut slice = object(json!({"ports": [{"port": 80}]}));
        EndpointSlices.default(&mut slice);
        assert_eq!(slice.at(&["ports"]), Some(&json!([{"port": 80, "name": "", "protocol": "TCP"}])));
        assert_eq!(slice.at(&["endpoints"]), Some(&Value::Null));
    }

    #[test]
    fn labels_and_content_raise_the_generation_and_annotations_do_not() {
        let mut old = object(json!({"metadata": {"labels": {"a": "1"}}, "addressType": "IPv4"}));
        EndpointSlices.prepare_create(&context(), &mut old).unwrap();
        let generation = |change: &dyn Fn(&mut Object)| {
            let mut new = old.clone();
            change(&mut new);
            EndpointSlices.prepare_update(&context(), &mut new, &old, "").unwrap();
            new.at(&["metadata", "generation"]).cloned().unwrap()
        };
        assert_eq!(generation(&|_| {}), 1);
        assert_eq!(generation(&|new| new.set(&["metadata", "annotations", "a"], "1")), 1);
        assert_eq!(generation(&|new| new.set(&["metadata", "labels", "a"], "2")), 2);
        assert_eq!(generation(&|new| new.set(&["ports"], json!([{"port": 1}]))), 2);
    }

    #[test]
    fn the_row_says_what_is_unset() {
        let row = |slice: Value| EndpointSlices.row(&object(slice), Timestamp::UNIX_EPOCH);
        assert_eq!(row(json!({}))[2..4], [json!("<unset>"), json!("<unset>")]);
        let slice = json!({"ports": [{"port": 80}, {"name": "x"}, {}], "endpoints": [
            {"addresses": ["10.0.0.1", "10.0.0.2"]}, {"addresses": ["10.0.0.3"]}, {"addresses": ["10.0.0.4"]}]});
        assert_eq!(row(slice)[2..4], [json!("80,x,*"), json!("10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...")]);
    }
}
