//! The objects of the fake API server and the history of their changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// `(collection path, namespace/name)`.
pub(crate) type Id = (String, String);

#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) id: Id,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(crate) event: &'static str,
    pub(crate) object: Value,
}

/// Every change since the beginning, so that any past state can be shown again.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) history: Vec<Change>,
    /// Changes up to this revision can no longer be watched.
    pub(crate) compacted: u64,
    last: u64,
}

impl World {
    pub(crate) fn revision(&self) -> u64 {
        self.last
    }

    /// Creates or replaces an object; its metadata is filled in.
    pub(crate) fn put(&mut self, collection: &str, key: &str, mut object: Value) {
        let id = (collection.to_owned(), key.to_owned());
        let event = if self.at(self.last).contains_key(&id) { "MODIFIED" } else { "ADDED" };
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        self.last += 1;
        object["metadata"] = json!({
            "name": name, "namespace": namespace, "uid": format!("uid-{name}"),
            "resourceVersion": self.last.to_string(),
        });
        self.history.push(Change { revision: self.last, id, event, object });
    }

    pub(crate) fn delete(&mut self, collection: &str, key: &str) {
        let id = (collection.to_owned(), key.to_owned());
        let mut object = self.at(self.last).remove(&id).expect("only what is there can be deleted");
        self.last += 1;
        object["metadata"]["resourceVersion"] = self.last.to_string().into();
        self.history.push(Change { revision: self.last, id, event: "DELETED", object });
    }

    /// The objects as they were at a revision.
    pub(crate) fn at(&self, revision: u64) -> BTreeMap<Id, Value> {
        let mut objects = BTreeMap::new();
        for change in self.history.iter().take_while(|change| change.revision <= revision) {
            match change.event {
                "DELETED" => objects.remove(&change.id),
                _ => objects.insert(change.id.clone(), change.object.clone()),
            };
        }
        objects
    }

    /// What one collection holds at a revision.
    pub(crate) fn list(&self, collection: &str, revision: u64) -> Vec<Value> {
        let objects = self.at(revision).into_iter();
        objects.filter(|((of, _), _)| of == collection).map(|(_, object)| object).collect()
    }

    pub(crate) fn changes_after(&self, collection: &str, revision: u64) -> Vec<Change> {
        let later = self.history.iter().filter(|change| change.revision > revision);
        later.filter(|change| change.id.0 == collection).cloned().collect()
    }
}
