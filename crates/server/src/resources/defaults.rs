//! How defaults are filled into JSON objects, and generations counted.

use serde_json::{Map, Value};

use crate::object::Object;

const GENERATION: [&str; 2] = ["metadata", "generation"];

/// Sets a field that is not there or null.
pub(super) fn fill(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    let is_there = map.get(field).is_some_and(|value| !value.is_null());
    if !is_there {
        map.insert(field.to_owned(), value.into());
    }
}

/// The map in a field, made if it is not there; `None` if something else is.
pub(super) fn map_at<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    fill(map, field, Map::new());
    existing_map_at(map, field)
}

/// The map in a field, if there is one.
pub(super) fn existing_map_at<'a>(
    map: &'a mut Map<String, Value>,
    field: &str,
) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(field).and_then(Value::as_object_mut)
}

/// The maps of a list in a field.
pub(super) fn maps_in<'a>(
    map: &'a mut Map<String, Value>,
    field: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let list = map.get_mut(field).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The generation of a new object.
pub(super) fn set_first_generation(object: &mut Object) {
    object.set(&GENERATION, 1);
}

/// An object whose `spec` differs from what is stored is of the next generation, by which controllers tell that
/// they have something to do.
pub(super) fn set_generation(new: &mut Object, old: &Object) {
    let current = old.at(&GENERATION).and_then(Value::as_i64).unwrap_or(0);
    let is_changed = new.at(&["spec"]) != old.at(&["spec"]);
    new.set(&GENERATION, if is_changed { current.saturating_add(1) } else { current });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_counts_as_left_out() {
        let Value::Object(mut map) = json!({"a": null, "b": 0}) else { unreachable!() };
        fill(&mut map, "a", 1);
        fill(&mut map, "b", 1);
        assert_eq!(Value::from(map), json!({"a": 1, "b": 0}));
    }

    #[test]
    fn only_a_changed_spec_raises_the_generation() {
        let object = |spec: i64| {
            let mut object = Object::default();
            object.set(&["spec", "replicas"], spec);
            set_first_generation(&mut object);
            object
        };
        let old = object(1);
        for (spec, generation) in [(1, 1), (2, 2)] {
            let mut new = object(spec);
            set_generation(&mut new, &old);
            assert_eq!(new.at(&GENERATION), Some(&json!(generation)));
        }
    }
}
