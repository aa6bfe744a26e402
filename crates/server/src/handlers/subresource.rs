//! Subresources that are another view of their object, or an action on it: scale, binding, eviction, finalize.

use serde_json::Value;

use super::update::{Target, is_done_for};
use super::view;
use super::write::{self, Answer, Change};
use crate::object::Object;
use crate::registry::Context;
use crate::status::ApiError;

/// What the view shows of the object as it is now.
pub(super) fn read(target: Target<'_>, context: &Context<'_>) -> Result<Value, ApiError> {
    let cached = context.snapshot.get(&target.key()).ok_or_else(|| target.not_found())?;
    let object = view::visible(target.resource, cached.object());
    let (_, shown) = target.resource.subresource(context, target.subresource, "get", &object, None)?;
    Ok(shown)
}

/// Carries out a write to the view. The descriptor checks the body and makes the changed object; a change of it that
/// lets go of an object that is being deleted removes it, like any other write.
pub(super) fn write(
    target: Target<'_>,
    context: &Context<'_>,
    verb: &str,
    body: &Object,
) -> Result<Change, ApiError> {
    let resource = target.resource;
    let cached = context.snapshot.get(&target.key()).ok_or_else(|| target.not_found())?;
    let old = view::visible(resource, cached.object());
    let (changed, shown) = resource.subresource(context, target.subresource, verb, &old, Some(body))?;
    let batch = match changed.filter(|new| *new != old) {
        None => None,
        Some(new) if is_done_for(resource, &new) => {
            let transaction = resource.allocate(context, None, Some(&old))?;
            Some(write::batch(&cached.key, Some(&cached), None, transaction))
        }
        Some(mut new) => {
            let transaction = resource.allocate(context, Some(&mut new), Some(&old))?;
            Some(write::batch(&cached.key, Some(&cached), Some(view::stored(resource, &new)), transaction))
        }
    };
    Ok(Change { batch, answer: answer(shown), warnings: Vec::new() })
}

/// A view of the object carries the resourceVersion of the object, so that of the commit; a Status carries none.
fn answer(shown: Value) -> Answer {
    match shown {
        Value::Object(map)
            if map.contains_key("metadata") && map.get("kind").is_none_or(|kind| kind != "Status") =>
        {
            Answer::Kept(Object(map))
        }
        other => Answer::Other(other),
    }
}
