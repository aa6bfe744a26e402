//! Reads: of one object, and of lists, whole or in pages at one revision.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, json};

use super::Handlers;
use super::options::{ListOptions, Wanted};
use super::token::Token;
use super::view::ListMeta;
use super::write::unavailable;
use crate::registry::Resource;
use crate::selectors::Selectors;
use crate::status::ApiError;
use crate::store::{CachedObject, Revision, Snapshot};

/// How long a read waits for a revision that has not come yet.
const REVISION_LIMIT: Duration = Duration::from_secs(3);

const PAGE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can \
    start a new list without the continue parameter, or use the continue token in this response to retrieve the \
    remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
    created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// A list, or a page of one.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) items: Vec<Arc<CachedObject>>,
    pub(super) metadata: ListMeta,
}

impl Handlers {
    /// The state that a read asks for.
    pub(super) async fn snapshot(&self, wanted: Wanted) -> Result<Snapshot, ApiError> {
        match wanted {
            Wanted::Latest => self.cache.fresh_snapshot().await.map_err(unavailable),
            Wanted::Any => Ok(self.cache.snapshot()),
            Wanted::AtLeast(revision) => self.snapshot_at_least(revision).await,
            Wanted::Exactly(revision) => {
                self.snapshot_at_least(revision).await?;
                self.cache
                    .snapshot_at(revision)
                    .ok_or_else(|| ApiError::expired("The resourceVersion for the provided list is too old."))
            }
        }
    }

    async fn snapshot_at_least(&self, revision: Revision) -> Result<Snapshot, ApiError> {
        let found = self.cache.snapshot_at_least(revision, REVISION_LIMIT).await;
        found.ok_or_else(|| too_large(revision, self.cache.snapshot().revision()))
    }

    pub(super) async fn list(
        &self,
        resource: &dyn Resource,
        namespace: &str,
        selectors: &Selectors,
        options: &ListOptions<'_>,
    ) -> Result<Listed, ApiError> {
        let all = resource.key_prefix("");
        let token = match options.continue_token {
            "" => None,
            token => Some(Token::decode(token, &all)?),
        };
        let snapshot = match &token {
            None => self.snapshot(options.wanted).await?,
            Some(Token { revision: None, .. }) => self.snapshot(Wanted::Latest).await?,
            Some(Token { revision: Some(revision), after }) => {
                // Another server may have handed the token out.
                self.snapshot_at_least(*revision).await?;
                self.cache.snapshot_at(*revision).ok_or_else(|| {
                    let mut error = ApiError::expired(PAGE_EXPIRED);
                    let inconsistent = Token { revision: None, after: after.clone() };
                    error.continue_token = Some(inconsistent.encode(&all));
                    error
                })?
            }
        };
        let prefix = resource.key_prefix(namespace);
        let after = token.as_ref().map(|token| &token.after);
        let mut found = snapshot.range(&prefix, after).filter(|object| selectors.matches(object));
        let items: Vec<Arc<CachedObject>> =
            found.by_ref().take(options.limit.unwrap_or(usize::MAX)).cloned().collect();
        let mut metadata = ListMeta { revision: snapshot.revision(), ..ListMeta::default() };
        if let (Some(last), Some(_)) = (items.last(), found.next()) {
            let token = Token { revision: Some(snapshot.revision()), after: last.key.clone() };
            metadata.continue_token = token.encode(&all);
            // One is taken already. With selectors the rest would have to be looked at; upstream does not tell either.
            metadata.remaining = selectors.is_empty().then(|| found.count().saturating_add(1));
        }
        Ok(Listed { items, metadata })
    }
}

/// Clients know this by its cause, and ask for the latest state in place of it.
fn too_large(revision: Revision, current: Revision) -> ApiError {
    let message = format!("Timeout: Too large resource version: {revision}, current: {current}");
    let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
    let details = Map::from_iter([("causes".to_owned(), causes), ("retryAfterSeconds".to_owned(), 1.into())]);
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message).with_details(details)
}
