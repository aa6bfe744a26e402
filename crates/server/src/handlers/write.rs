//! Commits a change that was worked out on a snapshot, and works it out anew when somebody else was faster.

use jiff::Timestamp;
use serde_json::Value;

use super::Handlers;
use crate::object::Object;
use crate::registry::{Context, Resource, Transaction};
use crate::status::{ApiError, Subject};
use crate::store::{Batch, CachedObject, CommitError, Expectation, Key, Revision, StoreError, Write};

/// How often a change is worked out before the server gives up: others have won as often by then.
pub(super) const ATTEMPTS: usize = 20;
/// The same for patches: upstream tries five times again.
pub(super) const PATCH_ATTEMPTS: usize = 6;

/// What a request comes to, on one snapshot.
#[derive(Debug)]
pub(super) struct Change {
    /// `None` if there is nothing to write.
    pub(super) batch: Option<Batch>,
    pub(super) answer: Answer,
    pub(super) warnings: Vec<String>,
}

/// What the client is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Created(Object),
    /// An object that was written, or needed not be.
    Kept(Object),
    /// An object as it was before it went.
    Gone(Object),
    /// Anything else: a Status, the body of a subresource.
    Other(Value),
}

impl Answer {
    fn set_revision(&mut self, revision: Revision) {
        if let Answer::Created(object) | Answer::Kept(object) = self {
            object.set(&["metadata", "resourceVersion"], revision.to_string());
        }
    }
}

impl Handlers {
    /// Carries out what `attempt` makes of the current state. A refusal counts only if nothing newer than the snapshot
    /// it was made on had been committed when the request came; so does "nothing to write". `subject` is for the conflict
    /// when it is given up.
    pub(super) async fn commit(
        &self,
        subject: Subject<'_>,
        attempts: usize,
        dry_run: bool,
        attempt: impl Fn(&Context<'_>) -> Result<Change, ApiError>,
    ) -> Result<Change, ApiError> {
        let now = Timestamp::now();
        let mut snapshot = self.cache.snapshot();
        let mut is_fresh = false;
        let mut lost = 0;
        loop {
            let context = Context { snapshot: &snapshot, now, cluster: &self.cluster, dry_run };
            let mut outcome = attempt(&context);
            let batch = outcome.as_mut().ok().and_then(|change| change.batch.take()).filter(|_| !dry_run);
            let Some(batch) = batch else {
                if is_fresh {
                    return outcome;
                }
                let fresh = self.cache.fresh_snapshot().await.map_err(unavailable)?;
                if fresh.revision() == snapshot.revision() {
                    return outcome;
                }
                (snapshot, is_fresh) = (fresh, true);
                continue;
            };
            match self.cache.commit(batch).await {
                Ok(revision) => {
                    if let Ok(change) = &mut outcome {
                        change.answer.set_revision(revision);
                    }
                    return outcome;
                }
                Err(CommitError::Store(error)) => return Err(uncertain(error)),
                Err(CommitError::Unexpected { key }) => {
                    lost += 1;
                    if lost == attempts {
                        tracing::warn!(%key, attempts, "gave a write up: others were faster each time");
                        return Err(ApiError::modified(subject));
                    }
                    snapshot = self.cache.fresh_snapshot().await.map_err(unavailable)?;
                    is_fresh = true;
                }
            }
        }
    }
}

/// Nothing was done, and the same may be asked again.
pub(super) fn unavailable(error: StoreError) -> ApiError {
    tracing::error!(%error, "the store does not answer");
    ApiError::unavailable(format!("the store is not available: {error}"))
}

/// Whether a write took place is unknown, and the client has to look. Not 503: clients take that for "nothing was done", and
/// send a create again, which then exists already.
fn uncertain(error: StoreError) -> ApiError {
    tracing::error!(%error, "the store has not confirmed a write");
    ApiError::internal(format!("the store has not confirmed the write: {error}"))
}

/// A batch that writes or removes one object, with what else the descriptor wants done.
pub(super) fn batch(
    key: &Key,
    before: Option<&CachedObject>,
    value: Option<bytes::Bytes>,
    more: Transaction,
) -> Batch {
    let own = Expectation { key: key.clone(), revision: before.map(|object| object.revision) };
    let others = more.expectations.into_iter().map(|(key, revision)| Expectation { key, revision });
    let expectations =
        std::iter::once(own).chain(others.filter(|expectation| expectation.key != *key)).collect();
    let writes = std::iter::once(Write { key: key.clone(), value }).chain(more.writes).collect();
    Batch { expectations, writes }
}

/// With the plural, for 403, 404 and 409.
pub(super) fn by_resource<'a>(resource: &'a dyn Resource, name: &'a str) -> Subject<'a> {
    Subject { group: resource.names().group, kind: resource.names().plural, name }
}

/// With the kind, for 422 and failed preconditions.
pub(super) fn by_kind<'a>(resource: &'a dyn Resource, name: &'a str) -> Subject<'a> {
    Subject { group: resource.names().group, kind: resource.names().kind, name }
}
