//! Which objects the files hold, and what changes when some of the files do. Objects are told apart by fingerprints
//! and not kept: the model has them already.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};

use switchyard_api::ObjectKey;
use switchyard_api::manifest::{MalformedObject, Object};

use crate::klog_warning;
use crate::source::{Kind, Malformed, Update};

/// What a file was found to hold.
pub(super) type Contents = Vec<Result<Object, MalformedObject>>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ObjectId {
    kind: Kind,
    key: ObjectKey,
}

#[derive(Debug)]
pub(super) struct Store {
    /// Of nodes only the one of that name is used; all if `None`.
    node_name: Option<String>,
    /// By file name, so that the first by name comes first.
    files: BTreeMap<String, BTreeMap<ObjectId, Entry>>,
    /// What the reader of our updates holds.
    delivered: BTreeMap<ObjectId, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Readable { fingerprint: u64 },
    Unreadable,
}

/// The objects of one file, to be handed on.
type Readings = BTreeMap<ObjectId, Result<Object, MalformedObject>>;

impl Store {
    pub(super) fn new(node_name: Option<&str>) -> Store {
        Store { node_name: node_name.map(str::to_owned), files: BTreeMap::new(), delivered: BTreeMap::new() }
    }

    pub(super) fn file_names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Takes the new contents of some files (`None` for one that is gone) and returns what that changes. `reread`
    /// is for a file that did not change but now comes first for an object.
    pub(super) fn apply(
        &mut self,
        changed: BTreeMap<String, Option<Contents>>,
        mut reread: impl FnMut(&str) -> Option<Contents>,
    ) -> Vec<Update> {
        let mut readings: BTreeMap<String, Readings> = BTreeMap::new();
        for (name, contents) in changed {
            let Some(contents) = contents else {
                self.files.remove(&name);
                continue;
            };
            let found = self.readings(&name, contents);
            let entries = found.iter().map(|(id, object)| (id.clone(), entry(object))).collect();
            self.files.insert(name.clone(), entries);
            readings.insert(name, found);
        }
        let mut updates = Vec::new();
        for (id, (name, entry)) in self.winners(&readings) {
            let news = match entry {
                Entry::Readable { fingerprint } => self.delivered.get(&id) != Some(&fingerprint),
                // Told when its file is read, and the last readable state stays.
                Entry::Unreadable => readings.contains_key(&name),
            };
            if !news {
                continue;
            }
            if !readings.contains_key(&name) {
                let contents = reread(&name).unwrap_or_default();
                readings.insert(name.clone(), self.readings(&name, contents));
            }
            let object = readings.get_mut(&name).and_then(|objects| objects.remove(&id));
            match (object, entry) {
                (Some(Ok(object)), Entry::Readable { fingerprint }) => {
                    self.delivered.insert(id, fingerprint);
                    updates.push(Update::set(object));
                }
                (Some(Err(object)), _) => updates.push(Update::Malformed(Malformed { object, uid: None })),
                // It changed again since; the next notice brings it.
                _ => {}
            }
        }
        updates.extend(self.removals());
        updates
    }

    /// The file that each object is taken from.
    fn winners(&self, changed: &BTreeMap<String, Readings>) -> BTreeMap<ObjectId, (String, Entry)> {
        let mut winners: BTreeMap<ObjectId, (String, Entry)> = BTreeMap::new();
        for (name, entries) in &self.files {
            for (id, entry) in entries {
                let Some((first, _)) = winners.get(id) else {
                    winners.insert(id.clone(), (name.clone(), *entry));
                    continue;
                };
                if changed.contains_key(name) || changed.contains_key(first) {
                    klog_warning!(
                        "An object is in two manifests, the first one counts",
                        kind = id.kind.as_str(),
                        object = id.key.to_string(),
                        file = first.as_str(),
                        ignored = name.as_str(),
                    );
                }
            }
        }
        winners
    }

    /// Forgets what is in no file any more.
    fn removals(&mut self) -> Vec<Update> {
        let present: BTreeSet<&ObjectId> = self.files.values().flat_map(BTreeMap::keys).collect();
        let mut updates = Vec::new();
        self.delivered.retain(|id, _| {
            let stays = present.contains(id);
            if !stays {
                updates.push(Update::removed(id.kind, id.key.clone()));
            }
            stays
        });
        updates
    }

    fn readings(&self, file: &str, contents: Contents) -> Readings {
        let mut readings = Readings::new();
        for object in contents {
            let Some(id) = identity(&object) else { continue };
            let is_wanted = |wanted: &String| *id.key.name == **wanted;
            if id.kind == Kind::Node && !self.node_name.as_ref().is_none_or(is_wanted) {
                continue;
            }
            match readings.entry(id) {
                btree_map::Entry::Vacant(free) => {
                    free.insert(object);
                }
                btree_map::Entry::Occupied(taken) => klog_warning!(
                    "An object is twice in a manifest, the first one counts",
                    kind = taken.key().kind.as_str(),
                    object = taken.key().key.to_string(),
                    file = file,
                ),
            }
        }
        readings
    }
}

fn identity(object: &Result<Object, MalformedObject>) -> Option<ObjectId> {
    let (kind, key) = match object {
        Ok(Object::Service(service)) => (Kind::Service, service.metadata.key()),
        Ok(Object::EndpointSlice(slice)) => (Kind::EndpointSlice, slice.metadata.key()),
        Ok(Object::Node(node)) => (Kind::Node, node.metadata.key()),
        Ok(Object::ServiceCidr(cidr)) => (Kind::ServiceCidr, cidr.metadata.key()),
        Err(malformed) => (Kind::parse(&malformed.kind)?, malformed.key.clone()),
    };
    Some(ObjectId { kind, key })
}

fn entry(object: &Result<Object, MalformedObject>) -> Entry {
    match object {
        Ok(object) => Entry::Readable { fingerprint: fingerprint(object) },
        Err(_) => Entry::Unreadable,
    }
}

/// A hash over everything in the object, by way of its debug text, which is never built as a whole.
fn fingerprint(object: &Object) -> u64 {
    struct Hashing(DefaultHasher);
    impl Write for Hashing {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut hashing = Hashing(DefaultHasher::new());
    // Hashing cannot fail.
    let _ = write!(hashing, "{object:?}");
    hashing.0.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use switchyard_api::manifest;

    use super::*;
    use crate::source::Change;

    const FILES: [&str; 3] = ["a", "b", "c"];

    /// A file that holds some of three services, each at some port; `None` is no file.
    type File = Option<Vec<(u8, u16)>>;

    fn contents(file: &File) -> Option<Contents> {
        let service = |(name, port): &(u8, u16)| {
            format!("---\nkind: Service\nmetadata: {{name: s{name}}}\nspec: {{ports: [{{port: {port}}}]}}\n")
        };
        let text: String = file.as_ref()?.iter().map(service).collect();
        Some(manifest::parse(&text).unwrap())
    }

    fn apply(state: &mut BTreeMap<ObjectKey, u16>, updates: Vec<Update>) {
        for update in updates {
            match update {
                Update::Service(Change::Set(service)) => {
                    let port = service.spec.ports[0].port;
                    let before = state.insert(service.metadata.key(), port);
                    assert_ne!(before, Some(port), "nothing is told twice");
                }
                Update::Service(Change::Removed(key)) => assert!(state.remove(&key).is_some()),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn any_file() -> impl Strategy<Value = File> {
        prop::option::of(prop::collection::vec((0u8..3, 1u16..3), 0..4))
    }

    proptest! {
        #[test]
        fn after_any_changes_the_reader_holds_what_a_fresh_start_would_show(
            changes in prop::collection::vec((0usize..3, any_file()), 0..12)
        ) {
            let (mut files, mut state) = (BTreeMap::new(), BTreeMap::new());
            let mut store = Store::new(Some("node-1"));
            for (index, file) in changes {
                let change = BTreeMap::from([(FILES[index].to_owned(), contents(&file))]);
                files.insert(FILES[index].to_owned(), file);
                apply(&mut state, store.apply(change, |name| contents(&files[name])));
            }
            let all = files.iter().map(|(name, file)| (name.clone(), contents(file))).collect();
            let mut fresh = BTreeMap::new();
            apply(&mut fresh, Store::new(Some("node-1")).apply(all, |_| None));
            prop_assert_eq!(state, fresh);
        }
    }
}
