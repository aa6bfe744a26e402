//! The store of one machine: a file, one writer, and every acknowledged commit on the disk.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, mpsc as blocking};
use std::thread::JoinHandle;

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::{Batch, BoxFuture, CommitError, Committed, Entry, Feed, Key, Revision, Store, StoreError, Write};

const FILE: &str = "state.redb";
const LOCK: &str = "lock";
/// Raised when a new version of this program writes what an old one cannot read.
const FORMAT: u64 = 1;
/// Everything is in memory already; this is for the pages of the file's trees.
const CACHE_BYTES: usize = 4 << 20;
/// Batches that one commit to the disk carries at most: its cost is that of waiting for the disk, however many there are.
const MOST_BATCHES: usize = 256;
/// Commits that may wait for a follower; one that is further behind has to start anew.
const FOLLOWER_BUFFER: usize = 4096;

const OBJECTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("objects");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const REVISION: &str = "revision";
const CLOSED: &str = "the file could not be opened again";
const FORMAT_KEY: &str = "format";

/// A store in a folder, which nobody else may use meanwhile.
pub struct Embedded {
    shared: Arc<Shared>,
    /// Taken when this is dropped, which ends the writer.
    requests: Option<blocking::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    _lock: File,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.requests.take());
        // The file is closed when this returns, so that the folder can be opened again.
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

struct Request {
    batch: Batch,
    answer: oneshot::Sender<Result<Revision, CommitError>>,
}

struct Shared {
    path: PathBuf,
    /// Nothing while a file that could not be written is opened again. Taken after the state, where both are.
    database: RwLock<Option<Database>>,
    state: Mutex<State>,
}

/// What has been committed to the disk.
struct State {
    revision: Revision,
    /// Of the last change of each key: what expectations are held against.
    revisions: Revisions,
    followers: Vec<mpsc::Sender<Result<Committed, StoreError>>>,
    /// Set by a write that failed. What the file holds is not known from then on, until it is opened again.
    failure: Option<StoreError>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in a folder, which is made if it is not there.
    pub fn open(folder: &Path) -> Result<Embedded, StoreError> {
        fs::create_dir_all(folder).map_err(|cause| failed("making the folder", folder, cause))?;
        let lock = lock(folder)?;
        let path = folder.join(FILE);
        let (database, revision, revisions) = opened(&path)?;
        let database = RwLock::new(Some(database));
        let state = State { revision, revisions, followers: Vec::new(), failure: None };
        let shared = Arc::new(Shared { path, database, state: Mutex::new(state) });
        let (requests, received) = blocking::channel();
        let own = shared.clone();
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || own.write_all(&received))
            .map_err(|cause| failed("starting the writer of", &shared.path, cause))?;
        Ok(Embedded { shared, requests: Some(requests), writer: Some(writer), _lock: lock })
    }

    /// Writes a copy of everything into a new file, from which [`Embedded::restore`] makes a store.
    pub fn save(&self, to: &Path) -> Result<Revision, StoreError> {
        let feed =
            self.shared.read().map_err(|cause| StoreError { doing: reading(&self.shared.path), cause })?;
        if to.exists() {
            return Err(failed("writing the snapshot", to, "the file exists; give another name"));
        }
        write_copy(to, &feed).map_err(|cause| failed("writing the snapshot", to, cause))?;
        Ok(feed.revision)
    }

    /// Makes a store in an empty folder out of a snapshot.
    pub fn restore(snapshot: &Path, folder: &Path) -> Result<(), StoreError> {
        fs::create_dir_all(folder).map_err(|cause| failed("making the folder", folder, cause))?;
        let _lock = lock(folder)?;
        let path = folder.join(FILE);
        if path.exists() {
            return Err(failed("restoring into", folder, "it holds a store already; give an empty folder"));
        }
        let database =
            Database::open(snapshot).map_err(|cause| failed("opening the snapshot", snapshot, cause))?;
        prepare(&database).map_err(|cause| StoreError { doing: reading(snapshot), cause })?;
        drop(database);
        // A copy that was cut off must not be taken for a store.
        let unfinished = folder.join("restoring");
        let copied = fs::copy(snapshot, &unfinished).and_then(|_| File::open(&unfinished)?.sync_all());
        copied
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(|cause| failed("restoring into", folder, cause))
    }
}

/// Held until the file is closed, however the process ends.
fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(|cause| failed("making the lock", &path, cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(failed(
            "using the folder",
            folder,
            "another API server uses it; end that one, or give another --data-dir",
        )),
        Err(TryLockError::Error(cause)) => Err(failed("locking", &path, cause)),
    }
}

type Text = String;

fn text(error: impl fmt::Display) -> Text {
    error.to_string()
}

fn failed(doing: &str, path: &Path, cause: impl fmt::Display) -> StoreError {
    StoreError { doing: format!("{doing} {}", path.display()), cause: cause.to_string() }
}

fn reading(path: &Path) -> String {
    format!("reading the database {}", path.display())
}

/// Makes the tables of a new file, and reads what an old one holds.
fn prepare(database: &Database) -> Result<(Revision, BTreeMap<Key, Revision>), Text> {
    let transaction = database.begin_write().map_err(text)?;
    let revision = {
        let mut numbers = transaction.open_table(NUMBERS).map_err(text)?;
        let format = numbers.get(FORMAT_KEY).map_err(text)?.map(|format| format.value());
        match format {
            Some(FORMAT) => {}
            None => drop(numbers.insert(FORMAT_KEY, FORMAT).map_err(text)?),
            Some(other) => {
                return Err(format!("its format {other} is newer than this program; use a newer one"));
            }
        }
        let revision = numbers.get(REVISION).map_err(text)?;
        revision.map(|revision| revision.value()).unwrap_or_default()
    };
    let mut revisions = BTreeMap::new();
    {
        let objects = transaction.open_table(OBJECTS).map_err(text)?;
        for row in objects.iter().map_err(text)? {
            let (key, value) = row.map_err(text)?;
            revisions.insert(Key::from_stored(key.value()), value.value().0);
        }
    }
    transaction.commit().map_err(text)?;
    Ok((revision, revisions))
}

fn write_copy(to: &Path, feed: &Copy) -> Result<(), Text> {
    let database = Database::create(to).map_err(text)?;
    let transaction = database.begin_write().map_err(text)?;
    {
        let mut numbers = transaction.open_table(NUMBERS).map_err(text)?;
        numbers.insert(FORMAT_KEY, FORMAT).map_err(text)?;
        numbers.insert(REVISION, feed.revision).map_err(text)?;
        let mut objects = transaction.open_table(OBJECTS).map_err(text)?;
        for entry in &feed.entries {
            objects.insert(entry.key.as_str(), (entry.revision, &entry.value[..])).map_err(text)?;
        }
    }
    transaction.commit().map_err(text)
}

type Revisions = BTreeMap<Key, Revision>;

fn opened(path: &Path) -> Result<(Database, Revision, Revisions), StoreError> {
    let database = redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .map_err(|cause| failed("opening the database", path, cause))?;
    let (revision, revisions) =
        prepare(&database).map_err(|cause| StoreError { doing: reading(path), cause })?;
    Ok((database, revision, revisions))
}

/// Everything at one revision.
struct Copy {
    revision: Revision,
    entries: Vec<Entry>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// redb refuses everything after a write that failed, until the file is opened again; and only that tells whether the write
    /// is in it.
    fn open_again(&self, state: &mut State) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        let (new, revision, revisions) = opened(&self.path)?;
        *database = Some(new);
        (state.revision, state.revisions, state.failure) = (revision, revisions, None);
        Ok(())
    }

    fn read(&self) -> Result<Copy, Text> {
        let database = self.database();
        let transaction = database.as_ref().ok_or(CLOSED)?.begin_read().map_err(text)?;
        let numbers = transaction.open_table(NUMBERS).map_err(text)?;
        let revision =
            numbers.get(REVISION).map_err(text)?.map(|revision| revision.value()).unwrap_or_default();
        let objects = transaction.open_table(OBJECTS).map_err(text)?;
        let mut entries = Vec::new();
        for row in objects.iter().map_err(text)? {
            let (key, value) = row.map_err(text)?;
            let (revision, value) = value.value();
            let (key, value) = (Key::from_stored(key.value()), Bytes::copy_from_slice(value));
            entries.push(Entry { key, value, revision });
        }
        Ok(Copy { revision, entries })
    }

    /// The only one who writes: takes what waits, commits it at once, and answers.
    fn write_all(&self, received: &blocking::Receiver<Request>) {
        while let Ok(first) = received.recv() {
            let waiting = received.try_iter().take(MOST_BATCHES - 1);
            let requests: Vec<Request> = std::iter::once(first).chain(waiting).collect();
            self.write_group(requests);
        }
    }

    fn write_group(&self, requests: Vec<Request>) {
        let (failure, mut revision, mut ahead) = {
            let state = self.state();
            (state.failure.clone(), state.revision, BTreeMap::new())
        };
        if let Some(failure) = failure {
            return requests
                .into_iter()
                .for_each(|request| answer(request.answer, Err(failure.clone().into())));
        }
        let mut accepted = Vec::new();
        for Request { batch, answer: sender } in requests {
            match self.unexpected(&batch, &ahead) {
                Some(key) => answer(sender, Err(CommitError::Unexpected { key })),
                None => {
                    revision += 1;
                    for write in &batch.writes {
                        ahead.insert(write.key.clone(), write.value.is_some().then_some(revision));
                    }
                    accepted.push((Committed { revision, writes: batch.writes }, sender));
                }
            }
        }
        if accepted.is_empty() {
            return;
        }
        let written = self.write(accepted.iter().map(|(committed, _)| committed), revision);
        let mut state = self.state();
        if let Err(cause) = written {
            let doing = format!("writing {}", self.path.display());
            let cause = format!("{cause}; if its disk is full, free some of it");
            let failure = StoreError { doing, cause };
            let is_open = self.open_again(&mut state).is_ok();
            if !is_open {
                state.failure = Some(failure.clone());
                // Nobody may take what comes after for a continuation of what was before.
                state.followers.clear();
            }
            // Some writes reach the disk before they fail: those have taken place.
            if !is_open || state.revision != revision {
                for (_, sender) in accepted {
                    answer(sender, Err(failure.clone().into()));
                }
                return;
            }
        }
        state.revision = revision;
        for (key, revision) in ahead {
            match revision {
                Some(revision) => drop(state.revisions.insert(key, revision)),
                None => drop(state.revisions.remove(&key)),
            }
        }
        for (committed, sender) in accepted {
            let revision = committed.revision;
            state.followers.retain(|follower| follower.try_send(Ok(committed.clone())).is_ok());
            answer(sender, Ok(revision));
        }
    }

    /// The first key that is not as expected, counting what the group has accepted so far.
    fn unexpected(&self, batch: &Batch, ahead: &BTreeMap<Key, Option<Revision>>) -> Option<Key> {
        let state = self.state();
        let now = |key: &Key| ahead.get(key).copied().unwrap_or_else(|| state.revisions.get(key).copied());
        let wrong =
            batch.expectations.iter().find(|expectation| now(&expectation.key) != expectation.revision);
        wrong.map(|expectation| expectation.key.clone())
    }

    fn write<'a>(&self, commits: impl Iterator<Item = &'a Committed>, last: Revision) -> Result<(), Text> {
        let database = self.database();
        let mut transaction = database.as_ref().ok_or(CLOSED)?.begin_write().map_err(text)?;
        transaction.set_durability(Durability::Immediate).map_err(text)?;
        {
            let mut objects = transaction.open_table(OBJECTS).map_err(text)?;
            for committed in commits {
                for Write { key, value } in &committed.writes {
                    match value {
                        Some(value) => {
                            drop(
                                objects
                                    .insert(key.as_str(), (committed.revision, &value[..]))
                                    .map_err(text)?,
                            );
                        }
                        None => drop(objects.remove(key.as_str()).map_err(text)?),
                    }
                }
            }
            let mut numbers = transaction.open_table(NUMBERS).map_err(text)?;
            numbers.insert(REVISION, last).map_err(text)?;
        }
        transaction.commit().map_err(text)
    }
}

fn answer(sender: oneshot::Sender<Result<Revision, CommitError>>, result: Result<Revision, CommitError>) {
    // Whoever asked may have gone away; the commit took place all the same.
    let _ = sender.send(result);
}

impl Store for Embedded {
    fn follow(&self) -> BoxFuture<'_, Result<Feed, StoreError>> {
        Box::pin(async move {
            let (sender, commits) = mpsc::channel(FOLLOWER_BUFFER);
            // Held over both, so that no commit falls between what is read and what is told.
            let mut state = self.shared.state();
            if state.failure.is_some() {
                self.shared.open_again(&mut state)?;
            }
            let Copy { revision, entries } = self
                .shared
                .read()
                .map_err(|cause| StoreError { doing: reading(&self.shared.path), cause })?;
            if revision == state.revision {
                state.followers.push(sender);
            }
            // Otherwise a commit is on the disk and not told of yet: the feed ends at once, and is asked for anew.
            Ok(Feed { revision, entries, commits })
        })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            let stopped = || StoreError {
                doing: format!("writing {}", self.shared.path.display()),
                cause: "its writer has ended; start the API server again".to_owned(),
            };
            let (answer, answered) = oneshot::channel();
            let requests = self.requests.as_ref().ok_or_else(stopped)?;
            requests.send(Request { batch, answer }).map_err(|_| stopped())?;
            answered.await.map_err(|_| stopped())?
        })
    }

    fn latest(&self) -> BoxFuture<'_, Result<Revision, StoreError>> {
        // Nobody else writes, and what is acknowledged is in here.
        let revision = self.shared.state().revision;
        Box::pin(async move { Ok(revision) })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        let failure = self.shared.state().failure.clone();
        Box::pin(async move { failure.map_or(Ok(()), Err) })
    }

    fn compact(&self, _up_to: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        // The file holds the present only.
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Expectation;
    use super::*;

    fn key(name: &str) -> Key {
        Key::object("", "services", "n", name)
    }

    fn batch(name: &str, expected: Option<Option<Revision>>, value: Option<&str>) -> Batch {
        let expectations = expected.map(|revision| Expectation { key: key(name), revision });
        let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        Batch {
            expectations: expectations.into_iter().collect(),
            writes: vec![Write { key: key(name), value }],
        }
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).unwrap();
        assert_eq!(store.commit(batch("a", Some(None), Some("1"))).await, Ok(1));
        assert_eq!(store.commit(batch("b", None, Some("2"))).await, Ok(2));
        assert_eq!(store.commit(batch("a", Some(Some(1)), None)).await, Ok(3));
        drop(store);
        let store = Embedded::open(folder.path()).unwrap();
        let feed = store.follow().await.unwrap();
        let entry = Entry { key: key("b"), value: Bytes::from_static(b"2"), revision: 2 };
        assert_eq!((feed.revision, feed.entries), (3, vec![entry]));
    }

    #[test]
    fn a_folder_belongs_to_one_server() {
        let folder = tempfile::tempdir().unwrap();
        let _store = Embedded::open(folder.path()).unwrap();
        let error = Embedded::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another API server uses it"), "{error}");
    }

    #[tokio::test]
    async fn a_snapshot_becomes_a_store_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(&folder.path().join("a")).unwrap();
        store.commit(batch("a", None, Some("1"))).await.unwrap();
        let file = folder.path().join("snapshot");
        assert_eq!(store.save(&file), Ok(1));
        Embedded::restore(&file, &folder.path().join("b")).unwrap();
        let feed = Embedded::open(&folder.path().join("b")).unwrap().follow().await.unwrap();
        assert_eq!((feed.revision, feed.entries.len()), (1, 1));
        let again = Embedded::restore(&file, &folder.path().join("b")).unwrap_err().to_string();
        assert!(again.contains("give an empty folder"), "{again}");
    }

    #[test]
    fn a_file_that_is_no_database_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "nonsense").unwrap();
        let error = Embedded::open(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("opening the database "), "{error}");
    }
}
