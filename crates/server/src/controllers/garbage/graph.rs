//! Who owns whom, and what follows when an owner goes.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Keeps an object until all its dependents are gone.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Keeps an object until its dependents have been told that they are on their own.
pub(super) const ORPHAN: &str = "orphan";

/// Where an object is found: the index of its resource, its namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) resource: usize,
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Node {
    place: Place,
    owners: Vec<Owner>,
    is_going: bool,
    finalizers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: String,
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) blocks: bool,
}

/// All objects that there are, by uid.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
}

/// What is to be done about one object.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Nothing,
    /// Every owner is gone. Those listed are not known; whether they exist is to be asked for first.
    DeleteUnless(Place, Vec<Owner>),
    /// It waits for these to go.
    DeleteDependents(Vec<(Place, String)>),
    /// It waits for these to be told that it goes.
    ReleaseDependents(Vec<Place>),
    RemoveFinalizer(Place, &'static str),
}

impl Graph {
    /// Takes an object up as it is now, and says whose affairs that may have changed.
    pub(super) fn set(&mut self, place: Place, metadata: &ObjectMeta) -> Vec<String> {
        let Some(uid) = metadata.uid.clone() else { return Vec::new() };
        let owners: Vec<Owner> = metadata
            .owner_references
            .iter()
            .flatten()
            .map(|owner| Owner {
                uid: owner.uid.clone(),
                api_version: owner.api_version.clone(),
                kind: owner.kind.clone(),
                name: owner.name.clone(),
                blocks: owner.block_owner_deletion == Some(true),
            })
            .collect();
        let node = Node {
            place,
            is_going: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
            owners,
        };
        let mut affected = self.unlink(&uid);
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            affected.push(owner.uid.clone());
        }
        self.nodes.insert(uid.clone(), node);
        affected.push(uid);
        affected
    }

    /// Forgets an object that is gone, and says whose affairs that changes.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        let mut affected = self.unlink(uid);
        self.nodes.remove(uid);
        affected.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        affected
    }

    /// The object at a place, for deletions that come without a uid.
    pub(super) fn find(&self, place: &Place) -> Option<String> {
        self.nodes.iter().find(|(_, node)| node.place == *place).map(|(uid, _)| uid.clone())
    }

    /// The uids of all objects of a resource.
    pub(super) fn of_resource(&self, resource: usize) -> Vec<String> {
        let of_resource = self.nodes.iter().filter(|(_, node)| node.place.resource == resource);
        of_resource.map(|(uid, _)| uid.clone()).collect()
    }

    fn unlink(&mut self, uid: &str) -> Vec<String> {
        let owners: Vec<String> = self
            .nodes
            .get(uid)
            .into_iter()
            .flat_map(|node| &node.owners)
            .map(|owner| owner.uid.clone())
            .collect();
        for owner in &owners {
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
        owners
    }

    pub(super) fn action(&self, uid: &str) -> Action {
        let Some(node) = self.nodes.get(uid) else { return Action::Nothing };
        if node.is_going {
            return self.finish(uid, node);
        }
        let gone = |owner: &&Owner| !self.nodes.contains_key(&owner.uid);
        if !node.owners.is_empty() && node.owners.iter().all(|owner| gone(&owner)) {
            return Action::DeleteUnless(node.place.clone(), node.owners.clone());
        }
        Action::Nothing
    }

    fn finish(&self, uid: &str, node: &Node) -> Action {
        let has = |name: &str| node.finalizers.iter().any(|finalizer| finalizer == name);
        let dependents = self
            .dependents
            .get(uid)
            .into_iter()
            .flatten()
            .filter_map(|dependent| self.nodes.get(dependent).map(|node| (dependent.clone(), node)));
        if has(ORPHAN) {
            let places: Vec<Place> = dependents.map(|(_, dependent)| dependent.place.clone()).collect();
            return match places.is_empty() {
                true => Action::RemoveFinalizer(node.place.clone(), ORPHAN),
                false => Action::ReleaseDependents(places),
            };
        }
        if !has(FOREGROUND) {
            return Action::Nothing;
        }
        let dependents: Vec<(String, &Node)> = dependents.collect();
        let blocks = |dependent: &Node| dependent.owners.iter().any(|owner| owner.uid == uid && owner.blocks);
        let waiting: Vec<(Place, String)> = dependents
            .iter()
            .filter(|(_, dependent)| !dependent.is_going)
            .map(|(uid, dependent)| (dependent.place.clone(), uid.clone()))
            .collect();
        if !waiting.is_empty() {
            return Action::DeleteDependents(waiting);
        }
        match dependents.iter().any(|(_, dependent)| blocks(dependent)) {
            true => Action::Nothing,
            false => Action::RemoveFinalizer(node.place.clone(), FOREGROUND),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(name: &str) -> Place {
        Place { resource: 0, namespace: "n".to_owned(), name: name.to_owned() }
    }

    fn metadata(uid: &str, owners: &[&str], finalizer: Option<&str>) -> ObjectMeta {
        let owners: Vec<_> = owners
            .iter()
            .map(|uid| json!({"apiVersion": "v1", "kind": "K", "name": uid, "uid": uid, "blockOwnerDeletion": true}))
            .collect();
        let deleted = finalizer.map(|_| "2026-01-01T00:00:00Z");
        let finalizers: Vec<_> = finalizer.into_iter().filter(|name| !name.is_empty()).collect();
        serde_json::from_value(json!({"uid": uid, "ownerReferences": owners, "deletionTimestamp": deleted, "finalizers": finalizers}))
            .unwrap()
    }

    #[test]
    fn what_nobody_owns_any_more_goes() {
        let mut graph = Graph::default();
        graph.set(place("a"), &metadata("a", &[], None));
        graph.set(place("b"), &metadata("b", &["a"], None));
        assert_eq!(graph.action("b"), Action::Nothing);
        assert_eq!(graph.remove("a"), ["b"]);
        assert!(
            matches!(graph.action("b"), Action::DeleteUnless(place, owners) if place.name == "b" && owners.len() == 1)
        );
    }

    #[test]
    fn one_owner_is_enough_to_stay() {
        let mut graph = Graph::default();
        graph.set(place("a"), &metadata("a", &[], None));
        graph.set(place("b"), &metadata("b", &["a", "gone"], None));
        assert_eq!(graph.action("b"), Action::Nothing);
    }

    #[test]
    fn foreground_deletion_waits_for_the_dependents() {
        let mut graph = Graph::default();
        graph.set(place("a"), &metadata("a", &[], Some(FOREGROUND)));
        graph.set(place("b"), &metadata("b", &["a"], None));
        assert_eq!(graph.action("a"), Action::DeleteDependents(vec![(place("b"), "b".to_owned())]));
        graph.set(place("b"), &metadata("b", &["a"], Some("")));
        assert_eq!(graph.action("a"), Action::Nothing);
        assert!(graph.remove("b").contains(&"a".to_owned()));
        assert_eq!(graph.action("a"), Action::RemoveFinalizer(place("a"), FOREGROUND));
    }

    #[test]
    fn orphans_are_released_before_their_owner_goes() {
        let mut graph = Graph::default();
        graph.set(place("a"), &metadata("a", &[], Some(ORPHAN)));
        graph.set(place("b"), &metadata("b", &["a"], None));
        assert_eq!(graph.action("a"), Action::ReleaseDependents(vec![place("b")]));
        graph.set(place("b"), &metadata("b", &[], None));
        assert_eq!(graph.action("a"), Action::RemoveFinalizer(place("a"), ORPHAN));
    }
}
