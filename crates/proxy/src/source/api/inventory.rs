//! Which objects the server has told us about, and at which revision: what it takes to notice deletions that were
//! missed and to stay silent about what did not change. The objects themselves are not kept.

use std::collections::HashMap;

use switchyard_api::ObjectKey;

use super::revision::Revision;

/// Deletions remembered against events that arrive late. A bookmark ends the memory; without bookmarks this does.
const MAX_REMEMBERED_DELETIONS: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Inventory {
    known: HashMap<ObjectKey, Known>,
    deleted: HashMap<ObjectKey, Revision>,
    /// Counts complete listings; what a listing did not touch is gone when it ends.
    sweep: u32,
}

#[derive(Debug)]
struct Known {
    revision: Revision,
    sweep: u32,
    /// False for an object that was never readable, so that nobody has to be told when it goes.
    delivered: bool,
}

impl Inventory {
    /// A listing of everything begins. One that is begun anew starts over.
    pub(super) fn begin_sweep(&mut self) {
        self.sweep = self.sweep.wrapping_add(1);
        self.deleted.clear();
    }

    /// The listing is complete: forgets and returns the objects that it did not contain.
    pub(super) fn end_sweep(&mut self) -> Vec<ObjectKey> {
        let sweep = self.sweep;
        let mut gone = Vec::new();
        self.known.retain(|key, known| {
            let listed = known.sweep == sweep;
            if !listed && known.delivered {
                gone.push(key.clone());
            }
            listed
        });
        gone.sort_unstable();
        gone
    }

    /// Marks an object as contained in the listing; true if this revision of it is new to us. A listing is the truth
    /// even where it is older than what was known: the server may have been restored from a backup.
    pub(super) fn listed(&mut self, key: &ObjectKey, revision: &Revision) -> bool {
        let Some(known) = self.known.get_mut(key) else { return true };
        // Met twice in one streamed listing, it changed while the listing was under way, and the newer one counts.
        let met_before = std::mem::replace(&mut known.sweep, self.sweep) == self.sweep;
        if met_before { revision.replaces(&known.revision) } else { known.revision != *revision }
    }

    /// Whether a watch event shows a state of the object that was not seen before.
    pub(super) fn is_news(&self, key: &ObjectKey, revision: &Revision) -> bool {
        let seen = self.known.get(key).map(|known| &known.revision).or_else(|| self.deleted.get(key));
        seen.is_none_or(|seen| revision.replaces(seen))
    }

    /// Remembers that the object was handed on, or, if not `readable`, reported.
    pub(super) fn record(&mut self, key: ObjectKey, revision: Revision, readable: bool) {
        self.deleted.remove(&key);
        let delivered = readable || self.known.get(&key).is_some_and(|known| known.delivered);
        self.known.insert(key, Known { revision, sweep: self.sweep, delivered });
    }

    /// A watch event says that the object is gone; true if somebody has to be told.
    pub(super) fn delete(&mut self, key: &ObjectKey, revision: Revision) -> bool {
        // The event carries the revision of the deletion; one older than the object is about its predecessor.
        if self.known.get(key).is_some_and(|known| known.revision.is_newer_than(&revision)) {
            return false;
        }
        if self.deleted.len() >= MAX_REMEMBERED_DELETIONS {
            self.deleted.clear();
        }
        self.deleted.insert(key.clone(), revision);
        self.known.remove(key).is_some_and(|known| known.delivered)
    }

    /// The server has promised that nothing older than now will follow.
    pub(super) fn forget_deletions(&mut self) {
        self.deleted.clear();
    }

    /// Forgets everything and returns what was handed on.
    pub(super) fn clear(&mut self) -> Vec<ObjectKey> {
        self.begin_sweep();
        self.end_sweep()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("default", name)
    }

    fn at(revision: u64) -> Revision {
        Revision::Number(revision)
    }

    #[test]
    fn what_a_listing_lacks_is_gone() {
        let mut inventory = Inventory::default();
        inventory.record(key("stays"), at(1), true);
        inventory.record(key("goes"), at(2), true);
        inventory.record(key("never-readable"), at(3), false);
        inventory.begin_sweep();
        assert!(!inventory.listed(&key("stays"), &at(1)), "it did not change");
        assert!(inventory.listed(&key("new"), &at(4)));
        inventory.record(key("new"), at(4), true);
        assert_eq!(inventory.end_sweep(), [key("goes")]);
    }

    #[test]
    fn a_listing_may_go_back_in_time_and_a_watch_may_not() {
        let mut inventory = Inventory::default();
        inventory.record(key("a"), at(9), true);
        assert!(!inventory.is_news(&key("a"), &at(5)));
        inventory.begin_sweep();
        assert!(inventory.listed(&key("a"), &at(5)));
        inventory.record(key("a"), at(5), true);
        assert!(!inventory.listed(&key("a"), &at(4)), "but not within itself");
    }

    #[test]
    fn a_late_event_does_not_raise_the_dead() {
        let mut inventory = Inventory::default();
        inventory.record(key("a"), at(5), true);
        assert!(inventory.delete(&key("a"), at(7)));
        assert!(!inventory.is_news(&key("a"), &at(6)));
        assert!(inventory.is_news(&key("a"), &at(8)), "created again");
        inventory.record(key("a"), at(8), true);
        assert!(!inventory.delete(&key("a"), at(7)), "the same deletion again");
    }

    #[test]
    fn an_object_that_became_unreadable_is_still_removed_when_it_goes() {
        let mut inventory = Inventory::default();
        inventory.record(key("a"), at(1), true);
        inventory.record(key("a"), at(2), false);
        assert!(inventory.delete(&key("a"), at(3)));
    }
}
