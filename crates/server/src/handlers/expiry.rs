//! Takes away objects that are only of interest for a while: events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::registry::{Registry, Resource};
use crate::store::{Batch, Cache, CachedObject, CommitError, Expectation, Key, Revision, WatchItem, Write};

/// Removals committed at once.
const BATCH: usize = 100;
/// How long to wait before following the cache again, once it could not be followed.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is dropped, for all resources whose objects live so long after their last change.
pub async fn run(registry: Arc<Registry>, cache: Arc<Cache>, life: Duration) {
    let mut prefixes: Vec<String> = Vec::new();
    let expiring = registry.all().filter(|resource| resource.expires()).filter_map(|resource| {
        let prefix = resource.key_prefix("");
        // Two views of the same objects are one.
        (!prefixes.contains(&prefix)).then(|| {
            prefixes.push(prefix.clone());
            Expiry { cache: cache.clone(), resource: resource.clone(), prefix, life }
        })
    });
    let tasks: Vec<_> = expiring.map(Expiry::run).collect();
    futures_util::future::join_all(tasks).await;
}

struct Expiry {
    cache: Arc<Cache>,
    resource: Arc<dyn Resource>,
    prefix: String,
    life: Duration,
}

/// When an object is due, if it has not changed since the revision.
type Due = Reverse<(Instant, Revision, Key)>;

impl Expiry {
    async fn run(self) {
        loop {
            if let Err(error) = self.follow().await {
                tracing::debug!(prefix = self.prefix, error, "following objects that expire begins anew");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&self) -> Result<(), String> {
        let snapshot = self.cache.snapshot();
        let mut due: BinaryHeap<Due> = snapshot
            .range(&self.prefix, None)
            .map(|object| Reverse((self.due_from_creation(object), object.revision, object.key.clone())))
            .collect();
        let mut watch =
            self.cache.watch(self.prefix.clone(), snapshot.revision()).map_err(|error| error.to_string())?;
        loop {
            // Without anything due there is nothing to wake up for but events.
            let next = due.peek().map_or_else(|| Instant::now() + self.life, |Reverse((at, ..))| *at);
            tokio::select! {
                item = watch.next() => {
                    if let WatchItem::Event(event) = item.map_err(|error| error.to_string())?
                        && let Some(object) = &event.after
                    {
                        due.push(Reverse((Instant::now() + self.life, object.revision, object.key.clone())));
                    }
                }
                () = tokio::time::sleep_until(next) => self.remove_due(&mut due).await?,
            }
        }
    }

    /// After a restart it is not known when an object was last changed, but when it was made.
    fn due_from_creation(&self, cached: &CachedObject) -> Instant {
        let created = cached.object().text(&["metadata", "creationTimestamp"]).parse::<Timestamp>();
        let age =
            created.map_or(0, |created| Timestamp::now().as_second().saturating_sub(created.as_second()));
        Instant::now() + self.life.saturating_sub(Duration::from_secs(u64::try_from(age).unwrap_or(0)))
    }

    async fn remove_due(&self, due: &mut BinaryHeap<Due>) -> Result<(), String> {
        let now = Instant::now();
        let snapshot = self.cache.snapshot();
        let mut batch = Batch::default();
        let mut taken = Vec::new();
        while batch.writes.len() < BATCH && due.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, revision, key))) = due.pop() else { break };
            if snapshot.get(&key).is_some_and(|object| object.revision == revision) {
                batch.expectations.push(Expectation { key: key.clone(), revision: Some(revision) });
                batch.writes.push(Write { key: key.clone(), value: None });
                taken.push((revision, key));
            }
        }
        if batch.writes.is_empty() {
            return Ok(());
        }
        match self.cache.commit(batch).await {
            Ok(_) => {
                let resource = self.resource.names().plural;
                tracing::debug!(resource, removed = taken.len(), "took expired objects away");
            }
            // Somebody wrote one of them, or removed it, as another server does: the others are tried again.
            Err(CommitError::Unexpected { .. }) => {
                let soon = now + PAUSE;
                due.extend(taken.into_iter().map(|(revision, key)| Reverse((soon, revision, key))));
            }
            Err(CommitError::Store(error)) => return Err(error.to_string()),
        }
        Ok(())
    }
}
