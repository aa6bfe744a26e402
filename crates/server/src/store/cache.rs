//! Everything in memory: what reads are answered from and watches are fed by.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use imbl::OrdMap;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::history::{Event, History};
use super::{Batch, CommitError, Committed, Entry, Feed, Key, Revision, Store, StoreError, Write};
use crate::object::Object;

/// How long a commit may take to come back from the store.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries to follow a store that was lost.
const RETRY: Duration = Duration::from_millis(500);
/// How often a quiet watch learns up to where it has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// What selectors ask of an object, worked out once a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexed {
    pub labels: Vec<(Box<str>, Box<str>)>,
    pub fields: Vec<(&'static str, Box<str>)>,
}

pub type IndexFn = fn(&Key, &Object) -> Indexed;

#[derive(Debug, Clone, Copy)]
pub struct CacheSettings {
    /// Commits that watches can go back to.
    pub history: usize,
    /// Events that may wait for one watcher before it is cut off.
    pub watch_buffer: usize,
}

/// An object as it is stored, and what is known of it without reading it again.
#[derive(Debug)]
pub struct CachedObject {
    pub key: Key,
    /// Of its last change.
    pub revision: Revision,
    /// With `metadata.resourceVersion`.
    pub json: Bytes,
    pub indexed: Indexed,
}

impl CachedObject {
    /// The object, read anew each time: most are looked at far less often than they are copied.
    pub fn object(&self) -> Object {
        // It was read once already, when it came.
        serde_json::from_slice(&self.json).map(Object).unwrap_or_default()
    }
}

/// Everything at one revision. Cheap to copy, and never changes.
#[derive(Debug, Clone)]
pub struct Snapshot {
    revision: Revision,
    objects: OrdMap<Key, Arc<CachedObject>>,
}

impl Snapshot {
    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn get(&self, key: &Key) -> Option<Arc<CachedObject>> {
        self.objects.get(key).cloned()
    }

    /// Objects whose key begins with `prefix`, those after `after` only, in the order of their keys.
    pub fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a Key>,
    ) -> impl Iterator<Item = &'a Arc<CachedObject>> {
        let first = match after {
            Some(after) if after.as_str() > prefix => after.clone(),
            _ => Key::from_stored(prefix),
        };
        let from = self.objects.range(first..).map(|(_, object)| object);
        from.skip_while(move |object| Some(&object.key) == after)
            .take_while(move |object| object.key.as_str().starts_with(prefix))
    }

    pub fn count(&self, prefix: &str) -> usize {
        self.range(prefix, None).count()
    }
}

/// What a watch tells.
#[derive(Debug)]
pub enum WatchItem {
    Event(Arc<Event>),
    /// All events up to this revision have been delivered.
    Progress(Revision),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WatchError {
    #[error("revision is too old, the oldest is {oldest}")]
    TooOld { oldest: Revision },
    #[error("the watcher was too slow")]
    Slow,
    #[error("the store was lost")]
    Lost,
}

/// The events of one watcher.
#[derive(Debug)]
pub struct Watch {
    /// What had happened already when it began.
    backlog: std::vec::IntoIter<Arc<Event>>,
    events: mpsc::Receiver<Arc<Event>>,
    is_slow: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
    come_to: Revision,
    next_progress: Instant,
}

impl Watch {
    /// The next event. Can be dropped and called again without losing any.
    pub async fn next(&mut self) -> Result<WatchItem, WatchError> {
        if let Some(event) = self.backlog.next() {
            return Ok(self.take(event));
        }
        loop {
            // Read before the channel: events are sent before this is raised.
            let published = self.published.load(Ordering::Acquire);
            tokio::select! {
                biased;
                event = self.events.recv() => return match event {
                    Some(event) => Ok(self.take(event)),
                    None if self.is_slow.load(Ordering::Acquire) => Err(WatchError::Slow),
                    None => Err(WatchError::Lost),
                },
                () = tokio::time::sleep_until(self.next_progress) => {
                    self.next_progress = Instant::now() + PROGRESS_EVERY;
                    if published > self.come_to {
                        self.come_to = published;
                        return Ok(WatchItem::Progress(published));
                    }
                }
            }
        }
    }

    fn take(&mut self, event: Arc<Event>) -> WatchItem {
        self.come_to = self.come_to.max(event.revision);
        WatchItem::Event(event)
    }
}

/// The store, with everything in memory in front of it.
#[derive(Debug)]
pub struct Cache {
    store: Arc<dyn Store>,
    index: IndexFn,
    settings: CacheSettings,
    state: Mutex<State>,
    published: Arc<AtomicU64>,
    /// Raised after every commit, for those who wait for one.
    revision: watch::Sender<Revision>,
}

#[derive(Debug)]
struct State {
    snapshot: Snapshot,
    history: History,
    /// By the prefix that they watch.
    watchers: HashMap<String, Vec<Watcher>>,
}

#[derive(Debug)]
struct Watcher {
    events: mpsc::Sender<Arc<Event>>,
    is_slow: Arc<AtomicBool>,
}

impl Cache {
    /// Reads everything, and follows the store from there for as long as the cache is in use.
    pub async fn start(
        store: Arc<dyn Store>,
        index: IndexFn,
        settings: CacheSettings,
    ) -> Result<Arc<Cache>, StoreError> {
        let feed = store.follow().await?;
        let objects = feed.entries.iter().filter_map(|entry| read(entry, index)).map(|object| {
            let object = Arc::new(object);
            (object.key.clone(), object)
        });
        let snapshot = Snapshot { revision: feed.revision, objects: objects.collect() };
        let cache = Arc::new(Cache {
            store,
            index,
            settings,
            published: Arc::new(AtomicU64::new(feed.revision)),
            revision: watch::Sender::new(feed.revision),
            state: Mutex::new(State {
                history: History::new(settings.history, feed.revision),
                snapshot,
                watchers: HashMap::new(),
            }),
        });
        tokio::spawn(follow(Arc::downgrade(&cache), feed.commits));
        Ok(cache)
    }

    pub fn snapshot(&self) -> Snapshot {
        self.state().snapshot.clone()
    }

    /// Not older than what anybody has committed before this was called.
    pub async fn fresh_snapshot(&self) -> Result<Snapshot, StoreError> {
        let latest = self.store.latest().await?;
        self.snapshot_at_least(latest, COMMIT_LIMIT).await.ok_or_else(|| StoreError {
            doing: "waiting for the store".to_owned(),
            cause: format!("revision {latest} has not come within {} s", COMMIT_LIMIT.as_secs()),
        })
    }

    /// Whether the store works and is followed.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await?;
        self.fresh_snapshot().await.map(drop)
    }

    /// `None` if it has not come by then.
    pub async fn snapshot_at_least(&self, revision: Revision, limit: Duration) -> Option<Snapshot> {
        let mut revisions = self.revision.subscribe();
        let come = revisions.wait_for(|come| *come >= revision);
        match tokio::time::timeout(limit, come).await {
            Ok(Ok(_)) => Some(self.snapshot()),
            _ => None,
        }
    }

    /// The state exactly at an old revision, while everything since then is remembered.
    pub fn snapshot_at(&self, revision: Revision) -> Option<Snapshot> {
        let state = self.state();
        if revision > state.snapshot.revision {
            return None;
        }
        let mut snapshot = state.snapshot.clone();
        // What happened since is taken back, the latest first.
        for event in state.history.after(revision)?.rev() {
            match &event.before {
                Some(before) => drop(snapshot.objects.insert(event.key.clone(), before.clone())),
                None => drop(snapshot.objects.remove(&event.key)),
            }
        }
        snapshot.revision = revision;
        Some(snapshot)
    }

    /// Events after `after` of one key, or of all keys that begin with `prefix` where that ends with a slash.
    pub fn watch(&self, prefix: String, after: Revision) -> Result<Watch, WatchError> {
        let mut state = self.state();
        let oldest = state.history.oldest();
        let missed = state.history.after(after).ok_or(WatchError::TooOld { oldest })?;
        let is_watched = |key: &str| key == prefix || (prefix.ends_with('/') && key.starts_with(&prefix));
        let backlog: Vec<Arc<Event>> =
            missed.filter(|event| is_watched(event.key.as_str())).cloned().collect();
        let (sender, events) = mpsc::channel(self.settings.watch_buffer.max(1));
        let is_slow = Arc::new(AtomicBool::new(false));
        let watcher = Watcher { events: sender, is_slow: is_slow.clone() };
        let of_prefix = state.watchers.entry(prefix).or_default();
        of_prefix.retain(|watcher| !watcher.events.is_closed());
        of_prefix.push(watcher);
        Ok(Watch {
            backlog: backlog.into_iter(),
            events,
            is_slow,
            published: self.published.clone(),
            come_to: after,
            next_progress: Instant::now() + PROGRESS_EVERY,
        })
    }

    /// Commits, and waits until the cache shows it.
    pub async fn commit(&self, batch: Batch) -> Result<Revision, CommitError> {
        let revision = self.store.commit(batch).await?;
        match self.snapshot_at_least(revision, COMMIT_LIMIT).await {
            Some(_) => Ok(revision),
            None => Err(CommitError::Store(StoreError {
                doing: "waiting for the store to tell of a commit".to_owned(),
                cause: format!("revision {revision} has not come within {} s", COMMIT_LIMIT.as_secs()),
            })),
        }
    }

    /// Gives up the store's own history up to what this cache remembers.
    pub async fn compact(&self) -> Result<(), StoreError> {
        let oldest = self.state().history.oldest();
        self.store.compact(oldest).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, committed: Committed) {
        let revision = committed.revision;
        let mut state = self.state();
        if revision <= state.snapshot.revision {
            return;
        }
        let events =
            committed.writes.into_iter().map(|write| state.snapshot.write(write, revision, self.index));
        // Removing what was not there is nothing to tell of.
        let events: Vec<Arc<Event>> =
            events.filter(|event| event.before.is_some() || event.after.is_some()).map(Arc::new).collect();
        state.snapshot.revision = revision;
        for event in &events {
            state.publish(event);
        }
        state.history.add(revision, events);
        drop(state);
        self.published.store(revision, Ordering::Release);
        self.revision.send_replace(revision);
    }

    /// Takes a whole state up after the store was lost: what differs is told as one commit.
    fn catch_up(&self, feed: &Feed) {
        let current = self.snapshot();
        if feed.revision <= current.revision {
            return;
        }
        let mut gone: Vec<Key> = Vec::new();
        let there: HashMap<&Key, &Entry> = feed.entries.iter().map(|entry| (&entry.key, entry)).collect();
        for key in current.objects.keys().filter(|key| !there.contains_key(key)) {
            gone.push(key.clone());
        }
        let changed = feed.entries.iter().filter(|entry| {
            current.objects.get(&entry.key).is_none_or(|known| known.revision != entry.revision)
        });
        // Each at the revision of its last change, which expectations name; when the others went is not known.
        let mut commits: BTreeMap<Revision, Vec<Write>> = BTreeMap::new();
        for entry in changed {
            let write = Write { key: entry.key.clone(), value: Some(entry.value.clone()) };
            commits.entry(entry.revision).or_default().push(write);
        }
        let last = commits.entry(feed.revision).or_default();
        last.extend(gone.into_iter().map(|key| Write { key, value: None }));
        for (revision, writes) in commits {
            self.take(Committed { revision, writes });
        }
    }
}

impl Snapshot {
    fn write(&mut self, write: Write, revision: Revision, index: IndexFn) -> Event {
        let Write { key, value } = write;
        let entry = value.map(|value| Entry { key: key.clone(), value, revision });
        let after = entry.and_then(|entry| read(&entry, index)).map(Arc::new);
        let before = match &after {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(&key),
        };
        Event { revision, key, before, after }
    }
}

impl State {
    /// Looks watchers up by every prefix that a key can have: those that end with a slash.
    fn publish(&mut self, event: &Arc<Event>) {
        let key = event.key.as_str();
        let folders = key.match_indices('/').filter_map(|(slash, _)| key.get(..=slash));
        for watched in folders.chain([key]) {
            let Some(watchers) = self.watchers.get_mut(watched) else { continue };
            watchers.retain(|watcher| match watcher.events.try_send(event.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    watcher.is_slow.store(true, Ordering::Release);
                    false
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            });
            if watchers.is_empty() {
                self.watchers.remove(watched);
            }
        }
    }
}

/// What is stored, with its revision put in. A value that is no object is left out: it must not take the others down.
fn read(entry: &Entry, index: IndexFn) -> Option<CachedObject> {
    let mut object = match serde_json::from_slice(&entry.value) {
        Ok(fields) => Object(fields),
        Err(error) => {
            tracing::error!(key = %entry.key, %error, "skipping a stored value that cannot be read");
            return None;
        }
    };
    object.set(&["metadata", "resourceVersion"], entry.revision.to_string());
    let json = serde_json::to_vec(&object.0).ok()?;
    Some(CachedObject {
        indexed: index(&entry.key, &object),
        key: entry.key.clone(),
        revision: entry.revision,
        json: json.into(),
    })
}

async fn follow(cache: std::sync::Weak<Cache>, mut commits: mpsc::Receiver<Result<Committed, StoreError>>) {
    loop {
        match commits.recv().await {
            Some(Ok(committed)) => match cache.upgrade() {
                Some(cache) => cache.take(committed),
                None => return,
            },
            lost => {
                if let Some(Err(error)) = lost {
                    tracing::error!(%error, "lost the store; following it anew");
                }
                loop {
                    let Some(cache) = cache.upgrade() else { return };
                    match cache.store.follow().await {
                        Ok(feed) => {
                            cache.catch_up(&feed);
                            commits = feed.commits;
                            break;
                        }
                        Err(error) => tracing::error!(%error, "cannot follow the store"),
                    }
                    drop(cache);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
