//! Updates: PUT and PATCH, of objects and of their status.

use http::StatusCode;

use super::create::create;
use super::options::bad_unsigned;
use super::view;
use super::write::{self, Answer, Change, by_kind, by_resource};
use crate::field::FieldError;
use crate::metadata;
use crate::object::Object;
use crate::registry::{Context, PutCreates, Resource, Transaction, Update};
use crate::status::ApiError;
use crate::store::{CachedObject, Key, Revision};

/// Which object is updated, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) resource: &'a dyn Resource,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// Empty for the object itself.
    pub(super) subresource: &'a str,
}

impl Target<'_> {
    pub(super) fn key(&self) -> Key {
        self.resource.key(self.namespace, self.name)
    }

    pub(super) fn not_found(&self) -> ApiError {
        ApiError::not_found(by_resource(self.resource, self.name))
    }
}

/// PUT. `body` is decoded, has its defaults, and is about the object of the path.
pub(super) fn put(target: Target<'_>, context: &Context<'_>, body: &Object) -> Result<Change, ApiError> {
    let resource = target.resource;
    let Some(cached) = context.snapshot.get(&target.key()) else {
        if resource.put_creates() == PutCreates::No || !target.subresource.is_empty() {
            return Err(target.not_found());
        }
        if !body.uid().is_empty() {
            return Err(uid_mismatch(target, body.uid(), ""));
        }
        let mut body = body.clone();
        body.remove(&["metadata", "resourceVersion"]);
        return create(resource, context, target.namespace, &body);
    };
    let old = view::visible(resource, cached.object());
    if !body.uid().is_empty() && body.uid() != old.uid() {
        return Err(uid_mismatch(target, body.uid(), old.uid()));
    }
    update(target, context, &cached, &old, body.clone())
}

fn uid_mismatch(target: Target<'_>, given: &str, actual: &str) -> ApiError {
    let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {actual}");
    ApiError::conflict(by_resource(target.resource, target.name), &why)
}

/// Brings an existing object from `old` to `new`, both in this version's form.
pub(super) fn update(
    target: Target<'_>,
    context: &Context<'_>,
    cached: &CachedObject,
    old: &Object,
    mut new: Object,
) -> Result<Change, ApiError> {
    let Target { resource, name, subresource, .. } = target;
    check_version(target, &new, cached.revision)?;
    metadata::prepare_update(&mut new, old);
    // The same on both sides from here on, so that only what the client changes makes a difference.
    new.set(&["metadata", "resourceVersion"], old.resource_version());
    resource.prepare_update(context, &mut new, old, subresource)?;
    let transaction = resource.allocate(context, Some(&mut new), Some(old))?;

    let mut errors = metadata::validate_update(&new, old);
    errors.extend(metadata::validate(resource, &new));
    errors.extend(resource.validate_update(context, Update { old, new: &new, subresource }));
    if !errors.is_empty() {
        return Err(ApiError::invalid(by_kind(resource, name), &errors));
    }
    let warnings = resource.warnings(&new, Some(old));
    if new == *old && transaction == Transaction::default() {
        return Ok(Change { batch: None, answer: Answer::Kept(new), warnings });
    }
    if is_done_for(resource, &new) {
        // Nothing holds it any longer: the write that let go is the one that removes it.
        let transaction = resource.allocate(context, None, Some(old))?;
        let batch = write::batch(&cached.key, Some(cached), None, transaction);
        return Ok(Change { batch: Some(batch), answer: Answer::Gone(new), warnings });
    }
    let batch = write::batch(&cached.key, Some(cached), Some(view::stored(resource, &new)), transaction);
    Ok(Change { batch: Some(batch), answer: Answer::Kept(new), warnings })
}

/// A write says which state it starts from, or that it does not care.
fn check_version(target: Target<'_>, new: &Object, revision: Revision) -> Result<(), ApiError> {
    let given = new.resource_version();
    let given = match given {
        "" => 0,
        text => text
            .parse::<Revision>()
            .map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "", bad_unsigned(text)))?,
    };
    if given == 0 && !target.resource.allows_unconditional_update() {
        let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
        return Err(ApiError::invalid(by_kind(target.resource, target.name), &[error]));
    }
    if given != 0 && given != revision {
        return Err(ApiError::modified(by_resource(target.resource, target.name)));
    }
    Ok(())
}

/// Whether an object that is being deleted has nothing left that keeps it.
pub(super) fn is_done_for(resource: &dyn Resource, object: &Object) -> bool {
    let grace = object.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(serde_json::Value::as_i64);
    object.is_being_deleted()
        && object.finalizers().next().is_none()
        && grace.is_none_or(|grace| grace <= 0)
        && !resource.is_kept(object)
}
