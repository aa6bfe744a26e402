//! Deletes a collection, object by object: each deletion is a write of its own.

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::Handlers;
use super::delete::{delete, is_gone};
use super::options::{DeleteOptions, ListOptions};
use super::update::Target;
use super::view;
use super::write::{ATTEMPTS, Answer, by_resource};
use crate::registry::Resource;
use crate::selectors::Selectors;
use crate::status::ApiError;

/// Deletions under way at a time: the store commits together what waits for it.
const AT_A_TIME: usize = 32;

impl Handlers {
    /// The list of the objects that were deleted, as they were.
    pub(super) async fn delete_collection(
        &self,
        resource: &dyn Resource,
        namespace: &str,
        selectors: &Selectors,
        list: &ListOptions<'_>,
        options: &DeleteOptions,
    ) -> Result<Value, ApiError> {
        let listed = self.list(resource, namespace, selectors, list).await?;
        let deletions = listed.items.into_iter().map(|cached| async move {
            let object = view::visible(resource, cached.object());
            let target =
                Target { resource, namespace: object.namespace(), name: object.name(), subresource: "" };
            let subject = by_resource(resource, object.name());
            let change = self
                .commit(subject, ATTEMPTS, options.dry_run, |context| delete(target, context, options))
                .await;
            match change {
                Ok(change) => Ok(Some(match change.answer {
                    Answer::Kept(object) | Answer::Created(object) | Answer::Gone(object) => object,
                    Answer::Other(_) => object,
                })),
                Err(error) if is_gone(&error) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let deleted: Vec<Option<_>> = stream::iter(deletions).buffered(AT_A_TIME).try_collect().await?;
        let items: Vec<Value> = deleted
            .into_iter()
            .flatten()
            .map(|mut object: crate::object::Object| {
                object.remove(&["kind"]);
                object.remove(&["apiVersion"]);
                object.0.into()
            })
            .collect();
        let names = resource.names();
        Ok(json!({
            "kind": format!("{}List", names.kind), "apiVersion": names.api_version(),
            "metadata": {"resourceVersion": listed.metadata.revision.to_string()}, "items": items,
        }))
    }
}
