//! Deletions: at once, after a time of grace, or when the last finalizer is gone.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::options::{DeleteOptions, Propagation};
use super::update::{Target, is_done_for};
use super::view;
use super::write::{self, Answer, Change, by_kind};
use crate::metadata::{self, FOREGROUND_DELETION, ORPHAN};
use crate::object::Object;
use crate::registry::{Context, Resource};
use crate::status::ApiError;
use crate::store::CachedObject;

const TIMESTAMP: [&str; 2] = ["metadata", "deletionTimestamp"];
const GRACE: [&str; 2] = ["metadata", "deletionGracePeriodSeconds"];

pub(super) fn delete(
    target: Target<'_>,
    context: &Context<'_>,
    options: &DeleteOptions,
) -> Result<Change, ApiError> {
    let resource = target.resource;
    let cached = context.snapshot.get(&target.key()).ok_or_else(|| target.not_found())?;
    let old = view::visible(resource, cached.object());
    check_preconditions(target, options, &old)?;

    let mut new = old.clone();
    set_finalizers(&mut new, options.propagation);
    let grace = resource.deletion_grace(&old, options.grace_seconds);
    if old.is_being_deleted() {
        shorten(&mut new, grace, context.now);
    } else {
        mark(&mut new, grace, context.now);
        resource.prepare_delete(context, &mut new)?;
    }
    if is_done_for(resource, &new) {
        let gone = if grace.is_none() { old.clone() } else { new };
        return remove(target, context, &cached, &old, gone);
    }
    let batch = (new != old).then(|| {
        write::batch(&cached.key, Some(&cached), Some(view::stored(resource, &new)), Default::default())
    });
    Ok(Change { batch, answer: Answer::Kept(new), warnings: Vec::new() })
}

fn remove(
    target: Target<'_>,
    context: &Context<'_>,
    cached: &CachedObject,
    old: &Object,
    gone: Object,
) -> Result<Change, ApiError> {
    let resource = target.resource;
    let transaction = resource.allocate(context, None, Some(old))?;
    let batch = write::batch(&cached.key, Some(cached), None, transaction);
    let answer = if resource.delete_returns_object() {
        Answer::Gone(gone)
    } else {
        Answer::Other(success(resource, old))
    };
    Ok(Change { batch: Some(batch), answer, warnings: Vec::new() })
}

/// The Status of a deletion that is complete.
fn success(resource: &dyn Resource, object: &Object) -> Value {
    let names = resource.names();
    let fields =
        [("name", object.name()), ("group", names.group), ("kind", names.plural), ("uid", object.uid())];
    let present = fields.into_iter().filter(|(_, value)| !value.is_empty());
    let details: Map<String, Value> =
        present.map(|(field, value)| (field.to_owned(), value.into())).collect();
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn check_preconditions(target: Target<'_>, options: &DeleteOptions, old: &Object) -> Result<(), ApiError> {
    let subject = by_kind(target.resource, target.name);
    let checks = [
        (&options.uid, old.uid(), "UID", "The object might have been deleted and then recreated"),
        (
            &options.resource_version,
            old.resource_version(),
            "ResourceVersion",
            "The object might have been modified",
        ),
    ];
    for (wanted, actual, what, why) in checks {
        if let Some(wanted) = wanted
            && wanted != actual
        {
            return Err(ApiError::conflict(
                subject,
                &format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({actual}). {why}"
                ),
            ));
        }
    }
    Ok(())
}

/// The garbage collector takes these away when it has seen to the dependents.
fn set_finalizers(object: &mut Object, propagation: Option<Propagation>) {
    if let Some(propagation) = propagation {
        metadata::set_finalizer(object, ORPHAN, propagation == Propagation::Orphan);
        metadata::set_finalizer(object, FOREGROUND_DELETION, propagation == Propagation::Foreground);
    }
}

fn mark(object: &mut Object, grace: Option<i64>, now: Timestamp) {
    let grace = grace.unwrap_or(0).max(0);
    object.set(&TIMESTAMP, metadata::time_text(after(now, grace)));
    object.set(&GRACE, grace);
    raise_generation(object);
}

/// A second deletion may only bring the end nearer.
fn shorten(object: &mut Object, grace: Option<i64>, now: Timestamp) {
    let wanted = grace.unwrap_or(0).max(0);
    let current = object.at(&GRACE).and_then(Value::as_i64).unwrap_or(0);
    if wanted < current {
        object.set(&TIMESTAMP, metadata::time_text(after(now, wanted)));
        object.set(&GRACE, wanted);
        raise_generation(object);
    }
}

fn after(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Kinds without a generation go on without one.
fn raise_generation(object: &mut Object) {
    if let Some(generation) = object.at(&["metadata", "generation"]).and_then(Value::as_i64) {
        object.set(&["metadata", "generation"], generation.saturating_add(1));
    }
}

/// Whether a failed deletion means that somebody else has done it.
pub(super) fn is_gone(error: &ApiError) -> bool {
    error.code == StatusCode::NOT_FOUND
}
