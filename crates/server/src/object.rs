//! A Kubernetes object as JSON, with its metadata at hand.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Any object. That its fields have the types of its kind is made sure by [`crate::schema`] before it gets here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object(pub Map<String, Value>);

impl Object {
    /// An object out of a typed one.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn from_typed(typed: &impl Serialize) -> Result<Object, serde_json::Error> {
        serde_json::to_value(typed).and_then(serde_json::from_value).map(Object)
    }

    /// The object as a type of `k8s_openapi`.
    ///
    /// # Errors
    /// When a field has the wrong type, which the schema has ruled out for decoded and stored objects.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&Value::Object(self.0.clone()))
    }

    pub fn kind(&self) -> &str {
        self.text(&["kind"])
    }

    pub fn name(&self) -> &str {
        self.text(&["metadata", "name"])
    }

    pub fn namespace(&self) -> &str {
        self.text(&["metadata", "namespace"])
    }

    pub fn uid(&self) -> &str {
        self.text(&["metadata", "uid"])
    }

    pub fn resource_version(&self) -> &str {
        self.text(&["metadata", "resourceVersion"])
    }

    pub fn is_being_deleted(&self) -> bool {
        self.at(&["metadata", "deletionTimestamp"]).is_some_and(|value| !value.is_null())
    }

    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.list(&["metadata", "finalizers"]).iter().filter_map(Value::as_str)
    }

    /// Values that are not text are left out.
    pub fn labels(&self) -> BTreeMap<&str, &str> {
        self.texts(&["metadata", "labels"])
    }

    pub fn annotations(&self) -> BTreeMap<&str, &str> {
        self.texts(&["metadata", "annotations"])
    }

    /// The value at a path of field names.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |value, field| value.get(field))
    }

    /// The text at a path; empty if there is none.
    pub fn text(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// The list at a path; empty if there is none.
    pub fn list(&self, path: &[&str]) -> &[Value] {
        self.at(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn texts(&self, path: &[&str]) -> BTreeMap<&str, &str> {
        let map = self.at(path).and_then(Value::as_object);
        map.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
    }

    /// Sets the value at a path, making the maps on the way. What stands in the way and is no map is replaced.
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut map = &mut self.0;
        for field in parents {
            let child = map.entry(*field).or_insert_with(|| Value::Object(Map::new()));
            if !child.is_object() {
                *child = Value::Object(Map::new());
            }
            let Value::Object(inner) = child else { return };
            map = inner;
        }
        map.insert((*last).to_owned(), value.into());
    }

    /// Makes the value at a path what it is in another object.
    pub fn copy(&mut self, other: &Object, path: &[&str]) {
        match other.at(path) {
            Some(value) => self.set(path, value.clone()),
            None => drop(self.remove(path)),
        }
    }

    /// Takes the value at a path away.
    pub fn remove(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        let mut map = &mut self.0;
        for field in parents {
            map = map.get_mut(*field)?.as_object_mut()?;
        }
        map.remove(*last)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        serde_json::from_value(value).map(Object).unwrap()
    }

    #[test]
    fn paths_are_made_and_taken_away() {
        let mut web = object(json!({"metadata": {"name": "web", "labels": {"a": "1", "odd": 1}}}));
        assert_eq!((web.name(), web.labels()), ("web", BTreeMap::from([("a", "1")])));
        web.set(&["status", "loadBalancer", "ingress"], json!([]));
        assert_eq!(web.list(&["status", "loadBalancer", "ingress"]), &[] as &[Value]);
        assert_eq!(web.remove(&["status", "loadBalancer"]), Some(json!({"ingress": []})));
        assert_eq!(web.at(&["status"]), Some(&json!({})));
        assert_eq!(web.remove(&["spec", "ports"]), None);
    }
}
