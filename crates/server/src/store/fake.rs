//! A store in memory, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Batch, BoxFuture, CommitError, Committed, Entry, Feed, Key, Revision, Store, StoreError, Write};

/// Everything that was ever committed is gone with it.
#[derive(Debug, Default)]
pub struct Fake {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    revision: Revision,
    entries: BTreeMap<Key, (Bytes, Revision)>,
    followers: Vec<mpsc::Sender<Result<Committed, StoreError>>>,
    /// Carried out before the next commit, as if somebody else had been faster.
    interfering: Vec<Vec<Write>>,
}

/// More commits than a test makes at once.
const BUFFER: usize = 10_000;

impl Fake {
    /// Lets somebody else commit just before each of the next commits, one of these at a time.
    pub fn interfere(&self, commits: Vec<Vec<Write>>) {
        self.lock().interfering.extend(commits.into_iter().rev());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, writes: Vec<Write>) -> Revision {
        self.revision += 1;
        for Write { key, value } in &writes {
            match value {
                Some(value) => drop(self.entries.insert(key.clone(), (value.clone(), self.revision))),
                None => drop(self.entries.remove(key)),
            }
        }
        let committed = Committed { revision: self.revision, writes };
        self.followers.retain(|follower| follower.try_send(Ok(committed.clone())).is_ok());
        self.revision
    }
}

impl Store for Fake {
    fn follow(&self) -> BoxFuture<'_, Result<Feed, StoreError>> {
        let mut state = self.lock();
        let (sender, commits) = mpsc::channel(BUFFER);
        state.followers.push(sender);
        let entries = state.entries.iter().map(|(key, (value, revision))| Entry {
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        });
        let feed = Feed { revision: state.revision, entries: entries.collect(), commits };
        Box::pin(async move { Ok(feed) })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Revision, CommitError>> {
        let mut state = self.lock();
        if let Some(writes) = state.interfering.pop() {
            state.write(writes);
        }
        let wrong = batch.expectations.into_iter().find(|expectation| {
            state.entries.get(&expectation.key).map(|(_, revision)| *revision) != expectation.revision
        });
        let outcome = match wrong {
            Some(expectation) => Err(CommitError::Unexpected { key: expectation.key }),
            None => Ok(state.write(batch.writes)),
        };
        Box::pin(async move { outcome })
    }

    fn latest(&self) -> BoxFuture<'_, Result<Revision, StoreError>> {
        let revision = self.lock().revision;
        Box::pin(async move { Ok(revision) })
    }

    fn compact(&self, _up_to: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}
