//! The last commits, as watches tell of them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{CachedObject, Key, Revision};

/// One object of one commit: as it was before and is after it.
#[derive(Debug)]
pub struct Event {
    pub revision: Revision,
    pub key: Key,
    /// `None`: it was not there.
    pub before: Option<Arc<CachedObject>>,
    /// `None`: it is gone.
    pub after: Option<Arc<CachedObject>>,
}

/// Commits that are remembered, oldest first. What is older can neither be watched from nor looked back at.
#[derive(Debug)]
pub(super) struct History {
    most: usize,
    commits: VecDeque<(Revision, Vec<Arc<Event>>)>,
    /// Everything after this revision is here.
    complete_after: Revision,
}

impl History {
    pub(super) fn new(most: usize, revision: Revision) -> History {
        History { most, commits: VecDeque::new(), complete_after: revision }
    }

    pub(super) fn add(&mut self, revision: Revision, events: Vec<Arc<Event>>) {
        self.commits.push_back((revision, events));
        while self.commits.len() > self.most {
            if let Some((oldest, _)) = self.commits.pop_front() {
                self.complete_after = oldest;
            }
        }
    }

    /// The revision from which on everything is remembered: the oldest one that a watch can go on from.
    pub(super) fn oldest(&self) -> Revision {
        self.complete_after
    }

    /// What happened after a revision, oldest first. `None` if some of that is forgotten.
    pub(super) fn after(&self, revision: Revision) -> Option<impl DoubleEndedIterator<Item = &Arc<Event>>> {
        if revision < self.complete_after {
            return None;
        }
        let first = self.commits.partition_point(|(commit, _)| *commit <= revision);
        Some(self.commits.range(first..).flat_map(|(_, events)| events))
    }
}
