//! Where objects are kept: a durable store behind a small trait, and everything in memory in front of it.
//!
//! A store is a sorted map from keys to bytes with one revision for all of it, which each commit raises by one. It knows
//! nothing of Kubernetes. [`Cache`] follows it, answers every read, and feeds every watch.

mod cache;
mod embedded;
mod etcd;
#[cfg(test)]
pub mod fake;
mod history;
mod key;
#[cfg(test)]
mod suite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;

pub use cache::{
    Cache, CacheSettings, CachedObject, IndexFn, Indexed, Snapshot, Watch, WatchError, WatchItem,
};
pub use embedded::Embedded;
pub use etcd::{Etcd, EtcdSettings};
pub use history::Event;
pub use key::Key;

/// The number of a commit. Objects carry that of their last change as `resourceVersion`.
pub type Revision = u64;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A durable map that several API servers may share.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Everything as it is now, and every commit after it, in order and without a gap.
    fn follow(&self) -> BoxFuture<'_, Result<Feed, StoreError>>;

    /// Carries out all writes of a batch, or none. When this succeeds, they survive a power failure.
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Revision, CommitError>>;

    /// The revision of the last commit of anybody, for reads that must not be stale.
    fn latest(&self) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// Whether it can do its work.
    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { self.latest().await.map(drop) })
    }

    /// Gives up the history up to a revision. A store that keeps none does nothing.
    fn compact(&self, up_to: Revision) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A state and what follows it.
#[derive(Debug)]
pub struct Feed {
    pub revision: Revision,
    pub entries: Vec<Entry>,
    /// Ends with an error when the store is lost; follow it anew then.
    pub commits: mpsc::Receiver<Result<Committed, StoreError>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub value: Bytes,
    /// Of its last change.
    pub revision: Revision,
}

/// What one commit changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub revision: Revision,
    pub writes: Vec<Write>,
}

/// What is to be written at once, and what must be so for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub expectations: Vec<Expectation>,
    pub writes: Vec<Write>,
}

/// What must be so when the batch is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    pub key: Key,
    /// The revision of its last change; `None` if there must be nothing.
    pub revision: Option<Revision>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub key: Key,
    /// `None` removes it.
    pub value: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitError {
    /// Something is not as expected; nothing was written.
    #[error("{key} is not as expected")]
    Unexpected { key: Key },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store is broken or cannot be reached. Whether a commit took place is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{doing}: {cause}")]
pub struct StoreError {
    /// `opening the database DIR/state.redb`.
    pub doing: String,
    pub cause: String,
}
