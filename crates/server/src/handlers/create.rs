//! Creates: POST, and PUT to a name that is free.

use serde_json::{Map, Value, json};

use super::view;
use super::write::{self, Answer, Change, by_kind, by_resource};
use crate::metadata;
use crate::object::Object;
use crate::registry::{Context, Resource, Scope};
use crate::status::{ApiError, Subject};
use crate::store::{Expectation, Key};

/// How often a generated name may be taken.
const NAME_ATTEMPTS: usize = 8;

/// `body` is decoded and has its defaults; `namespace` is that of the path.
pub(super) fn create(
    resource: &dyn Resource,
    context: &Context<'_>,
    namespace: &str,
    body: &Object,
) -> Result<Change, ApiError> {
    let namespace_expectation = admit(resource, context, namespace, body.name())?;
    let is_name_generated = body.name().is_empty() && !body.text(&["metadata", "generateName"]).is_empty();
    let attempts = if is_name_generated { NAME_ATTEMPTS } else { 1 };
    let mut outcome = create_once(resource, context, namespace, body);
    for _ in 1..attempts {
        match &outcome {
            Err(error) if error.reason == "AlreadyExists" => {
                outcome = create_once(resource, context, namespace, body);
            }
            _ => break,
        }
    }
    if let Err(error) = &mut outcome
        && is_name_generated
        && error.reason == "AlreadyExists"
    {
        error.message.push_str(", the server was not able to generate a unique name for the object");
        error.details.get_or_insert_with(Map::new).insert("retryAfterSeconds".to_owned(), 1.into());
    }
    let mut change = outcome?;
    if let Some(batch) = &mut change.batch {
        batch.expectations.extend(namespace_expectation);
    }
    Ok(change)
}

fn create_once(
    resource: &dyn Resource,
    context: &Context<'_>,
    namespace: &str,
    body: &Object,
) -> Result<Change, ApiError> {
    let mut object = body.clone();
    metadata::prepare_create(&mut object, context.now)?;
    resource.prepare_create(context, &mut object)?;
    let transaction = resource.allocate(context, Some(&mut object), None)?;

    let mut errors = metadata::validate(resource, &object);
    errors.extend(resource.validate_create(context, &object));
    if !errors.is_empty() {
        return Err(ApiError::invalid(by_kind(resource, object.name()), &errors));
    }
    let key = resource.key(namespace, object.name());
    if let Some(existing) = context.snapshot.get(&key) {
        let is_being_deleted = existing.object().is_being_deleted();
        return Err(ApiError::already_exists(by_resource(resource, object.name()), is_being_deleted));
    }
    let warnings = resource.warnings(&object, None);
    let stored = view::stored(resource, &object);
    let batch = write::batch(&key, None, Some(stored), transaction);
    Ok(Change { batch: Some(batch), answer: Answer::Created(object), warnings })
}

/// The namespace has to be there, and to stay: what the commit may rely on.
fn admit(
    resource: &dyn Resource,
    context: &Context<'_>,
    namespace: &str,
    name: &str,
) -> Result<Option<Expectation>, ApiError> {
    if resource.names().scope == Scope::Cluster {
        return Ok(None);
    }
    let key = Key::object("", "namespaces", "", namespace);
    let Some(found) = context.snapshot.get(&key) else {
        return Err(ApiError::not_found(Subject { group: "", kind: "namespaces", name: namespace }));
    };
    if found.object().is_being_deleted() {
        return Err(terminating(by_resource(resource, name), namespace));
    }
    Ok(Some(Expectation { key, revision: Some(found.revision) }))
}

/// Controllers look for the cause, so as not to try again.
fn terminating(subject: Subject<'_>, namespace: &str) -> ApiError {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut error = ApiError::forbidden(subject, &why);
    let causes: Value = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    }]);
    error.details.get_or_insert_with(Map::new).insert("causes".to_owned(), causes);
    error
}
