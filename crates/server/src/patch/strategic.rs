//! Strategic merge: a patch that looks like the object, with lists merged by the keys that the schema names.

use serde_json::{Map, Value};

use crate::schema::types::{self, Field, Merge, Shape, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const REMOVE: &str = "$deleteFromPrimitiveList/";

/// Merges a patch into an object. Where the type is not known, lists are replaced.
pub(super) fn merge(
    object: &mut Map<String, Value>,
    patch: Map<String, Value>,
    of: Option<&Type>,
) -> Result<(), String> {
    let mut patch = patch;
    match directive(&mut patch)? {
        Directive::Merge => {}
        Directive::Replace => {
            *object = patch;
            return Ok(());
        }
        Directive::Delete => {
            object.clear();
            return Ok(());
        }
    }
    if let Some(Value::Array(keys)) = patch.remove(RETAIN) {
        object.retain(|name, _| keys.iter().any(|key| key == name));
    }
    let (mut orders, mut removals) = (Vec::new(), Vec::new());
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(ORDER) {
            orders.push((list.to_owned(), value));
        } else if let Some(list) = name.strip_prefix(REMOVE) {
            removals.push((list.to_owned(), value));
        } else {
            merge_field(object, &name, value, of.and_then(|of| of.field(&name)))?;
        }
    }
    for (name, removed) in removals {
        remove_from(object, &name, &removed);
    }
    for (name, order) in orders {
        let field = of.and_then(|of| of.field(&name));
        if let (Some(Value::Array(list)), Value::Array(order)) = (object.get_mut(&name), order) {
            reorder(list, &order, field.and_then(|field| field.merge));
        }
    }
    Ok(())
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &mut Map<String, Value>) -> Result<Directive, String> {
    match patch.remove(DIRECTIVE) {
        None => Ok(Directive::Merge),
        Some(Value::String(kind)) => match kind.as_str() {
            "merge" => Ok(Directive::Merge),
            "replace" => Ok(Directive::Replace),
            "delete" => Ok(Directive::Delete),
            other => Err(format!("unknown patch type: {other} in map: {}", Value::Object(patch.clone()))),
        },
        Some(other) => Err(format!("unknown patch type: {other} in map: {}", Value::Object(patch.clone()))),
    }
}

fn merge_field(
    object: &mut Map<String, Value>,
    name: &str,
    value: Value,
    field: Option<&Field>,
) -> Result<(), String> {
    match (value, field) {
        (Value::Null, _) => drop(object.remove(name)),
        (Value::Object(patch), field) => {
            let inner = field.filter(|field| field.shape == Shape::One).and_then(inner_type);
            let mut merged = match object.remove(name) {
                Some(Value::Object(current)) => current,
                _ => Map::new(),
            };
            let deletes = patch.get(DIRECTIVE).is_some_and(|kind| kind == "delete");
            merge(&mut merged, patch, inner)?;
            if !deletes {
                object.insert(name.to_owned(), Value::Object(merged));
            }
        }
        (Value::Array(patch), Some(field)) if field.shape == Shape::List && field.merge.is_some() => {
            let current = match object.remove(name) {
                Some(Value::Array(current)) => current,
                _ => Vec::new(),
            };
            let merged = match field.merge {
                Some(Merge::By(key)) => merge_list(current, patch, key, inner_type(field))?,
                _ => merge_set(current, patch),
            };
            object.insert(name.to_owned(), Value::Array(merged));
        }
        (value, _) => drop(object.insert(name.to_owned(), value)),
    }
    Ok(())
}

fn inner_type(field: &Field) -> Option<&'static Type> {
    match &field.value {
        types::Value::Object(name) => types::get(name),
        _ => None,
    }
}

/// Elements are maps that `key` tells apart.
fn merge_list(
    current: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
    of: Option<&Type>,
) -> Result<Vec<Value>, String> {
    let mut merged = current;
    let mut replaces = false;
    let mut elements = Vec::new();
    for element in patch {
        let Value::Object(mut element) = element else {
            return Err(format!("expected a map in a list that is merged by {key}, got: {element}"));
        };
        let kind = directive(&mut element)?;
        match (&kind, element.is_empty()) {
            // An element that says nothing but this is about the whole list.
            (Directive::Replace, true) => replaces = true,
            _ => elements.push((kind, element)),
        }
    }
    if replaces {
        // As it is: two elements of one key, such as a node's two internal addresses, stay two.
        let elements = elements.into_iter().map(|(_, element)| Value::Object(without_directives(element)));
        return Ok(elements.collect());
    }
    for (kind, element) in elements {
        let Some(wanted) = element.get(key).cloned() else {
            return Err(format!(
                "map: {} does not contain declared merge key: {key}",
                Value::Object(element)
            ));
        };
        let position = merged.iter().position(|current| current.get(key) == Some(&wanted));
        match (kind, position) {
            (Directive::Delete, _) => merged.retain(|current| current.get(key) != Some(&wanted)),
            (Directive::Merge, Some(index)) => {
                if let Some(Value::Object(current)) = merged.get_mut(index) {
                    merge(current, element, of)?;
                }
            }
            (Directive::Replace, Some(index)) => {
                if let Some(current) = merged.get_mut(index) {
                    *current = Value::Object(without_directives(element));
                }
            }
            (_, None) => {
                let mut new = Map::new();
                merge(&mut new, element, of)?;
                merged.push(Value::Object(new));
            }
        }
    }
    Ok(merged)
}

fn without_directives(mut element: Map<String, Value>) -> Map<String, Value> {
    element.retain(|name, _| !name.starts_with('$'));
    element
}

fn merge_set(current: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let mut merged = current;
    for value in patch {
        if !merged.contains(&value) {
            merged.push(value);
        }
    }
    merged
}

fn remove_from(object: &mut Map<String, Value>, name: &str, removed: &Value) {
    let (Some(Value::Array(list)), Value::Array(removed)) = (object.get_mut(name), removed) else { return };
    list.retain(|value| !removed.contains(value));
    if list.is_empty() {
        object.remove(name);
    }
}

/// Brings the elements that `order` names into that order. Others keep their place behind the one they stood behind.
fn reorder(list: &mut Vec<Value>, order: &[Value], merge: Option<Merge>) {
    let identity = |value: &Value| match merge {
        Some(Merge::By(key)) => value.get(key).cloned().unwrap_or(Value::Null),
        _ => value.clone(),
    };
    let order: Vec<Value> = order.iter().map(identity).collect();
    let rank = |value: &Value| order.iter().position(|wanted| *wanted == identity(value));
    let mut last = None;
    let mut keyed: Vec<(Option<usize>, usize, Value)> = Vec::new();
    for (index, value) in std::mem::take(list).into_iter().enumerate() {
        // One that the order does not name goes with the named one before it.
        last = rank(&value).or(last);
        keyed.push((last, index, value));
    }
    keyed.sort_by_key(|(rank, index, _)| (*rank, *index));
    *list = keyed.into_iter().map(|(_, _, value)| value).collect();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(name: &str, current: Value, patch: Value) -> Result<Value, String> {
        let (Value::Object(mut object), Value::Object(patch)) = (current, patch) else {
            panic!("no objects")
        };
        merge(&mut object, patch, types::get(name)).map(|()| Value::Object(object))
    }

    fn service(ports: Value, patch: Value) -> Value {
        let current = json!({"spec": {"ports": ports, "externalIPs": ["1.1.1.1"]}});
        merged("io.k8s.api.core.v1.Service", current, json!({"spec": patch})).unwrap()["spec"].clone()
    }

    #[test]
    fn lists_with_a_key_are_merged_by_it_and_others_replaced() {
        let spec = service(
            json!([{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]),
            json!({"ports": [{"port": 81, "name": "c"}, {"port": 82}], "externalIPs": ["2.2.2.2"]}),
        );
        assert_eq!(
            spec["ports"],
            json!([{"port": 80, "name": "a"}, {"port": 81, "name": "c"}, {"port": 82}])
        );
        assert_eq!(spec["externalIPs"], json!(["2.2.2.2"]));
    }

    #[test]
    fn elements_and_lists_can_be_deleted_and_replaced() {
        let ports = || json!([{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]);
        let deleted = service(ports(), json!({"ports": [{"$patch": "delete", "port": 80}]}));
        assert_eq!(deleted["ports"], json!([{"port": 81, "name": "b"}]));
        let replaced = service(ports(), json!({"ports": [{"$patch": "replace"}, {"port": 90}]}));
        assert_eq!(replaced["ports"], json!([{"port": 90}]));
        let two = json!([{"$patch": "replace"}, {"port": 90, "name": "a"}, {"port": 90, "name": "b"}]);
        let replaced = service(ports(), json!({ "ports": two }));
        assert_eq!(replaced["ports"], json!([{"port": 90, "name": "a"}, {"port": 90, "name": "b"}]));
        let one = service(ports(), json!({"ports": [{"$patch": "replace", "port": 80}]}));
        assert_eq!(one["ports"], json!([{"port": 80}, {"port": 81, "name": "b"}]));
        assert_eq!(service(ports(), json!({"ports": null})).get("ports"), None);
    }

    #[test]
    fn the_order_of_a_list_can_be_given() {
        let spec = service(
            json!([{"port": 80}, {"port": 81}]),
            json!({"$setElementOrder/ports": [{"port": 82}, {"port": 80}, {"port": 81}], "ports": [{"port": 82}]}),
        );
        assert_eq!(spec["ports"], json!([{"port": 82}, {"port": 80}, {"port": 81}]));
        assert_eq!(spec.as_object().map(Map::len), Some(2));
    }

    #[test]
    fn sets_are_added_to_and_taken_from() {
        let map = |finalizers: Value, patch: Value| {
            let current = json!({"metadata": {"finalizers": finalizers}});
            merged("io.k8s.api.core.v1.ConfigMap", current, json!({"metadata": patch})).unwrap()["metadata"]
                .clone()
        };
        assert_eq!(
            map(json!(["a/a"]), json!({"finalizers": ["b/b", "a/a"]})),
            json!({"finalizers": ["a/a", "b/b"]})
        );
        let removed = map(json!(["a/a", "b/b"]), json!({"$deleteFromPrimitiveList/finalizers": ["a/a"]}));
        assert_eq!(removed, json!({"finalizers": ["b/b"]}));
    }

    #[test]
    fn maps_are_merged_replaced_deleted_and_cut_down() {
        let spec = service(json!([]), json!({"selector": {"app": "web"}}));
        assert_eq!(spec["selector"], json!({"app": "web"}));
        let deployment = |patch: Value| {
            let current =
                json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
            merged("io.k8s.api.apps.v1.Deployment", current, json!({"spec": {"strategy": patch}})).unwrap()["spec"].clone()
        };
        let retained = deployment(json!({"$retainKeys": ["type"], "type": "Recreate"}));
        assert_eq!(retained, json!({"strategy": {"type": "Recreate"}}));
        assert_eq!(deployment(json!({"$patch": "delete"})), json!({}));
        assert_eq!(
            deployment(json!({"$patch": "replace", "type": "Recreate"})),
            json!({"strategy": {"type": "Recreate"}})
        );
    }

    #[test]
    fn nested_lists_merge_too() {
        let current = json!({"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 80}]}]}});
        let patch = json!({"spec": {"containers": [{"name": "c", "env": [{"name": "B", "value": "2"}]}]}});
        let pod = merged("io.k8s.api.core.v1.Pod", current, patch).unwrap();
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["env"], json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]));
        assert_eq!(container["ports"], json!([{"containerPort": 80}]));
    }

    #[test]
    fn what_is_wrong_is_told_in_upstreams_words() {
        let wrong = |patch| {
            merged("io.k8s.api.core.v1.Service", json!({"spec": {}}), json!({"spec": patch})).unwrap_err()
        };
        assert!(wrong(json!({"$patch": "foo"})).starts_with("unknown patch type: foo in map: "));
        assert!(
            wrong(json!({"ports": [{"name": "a"}]})).ends_with(" does not contain declared merge key: port")
        );
    }
}
