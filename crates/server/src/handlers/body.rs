//! Bodies of requests, as objects.

use bytes::Bytes;
use serde_json::Value;

use super::Request;
use super::options::FieldValidation;
use crate::object::Object;
use crate::patch;
use crate::registry::{Resource, Subresource};
use crate::schema;
use crate::status::ApiError;

/// The body as an object of the resource, with its defaults; and warnings.
pub(super) fn decode(
    resource: &dyn Resource,
    request: &Request,
    validation: FieldValidation,
) -> Result<(Object, Vec<String>), ApiError> {
    let names = resource.names();
    let (mut object, warnings) = schema::decode(
        resource.schema(),
        &names.api_version(),
        names.kind,
        &request.content_type,
        &request.body,
        validation,
    )?;
    resource.default(&mut object);
    Ok((object, warnings))
}

/// The body of a subresource that is a view of its own.
pub(super) fn decode_subresource(
    resource: &dyn Resource,
    subresource: &Subresource,
    request: &Request,
    validation: FieldValidation,
) -> Result<(Object, Vec<String>), ApiError> {
    let (schema, api_version) = of_subresource(resource, subresource);
    schema::decode(schema, &api_version, subresource.kind, &request.content_type, &request.body, validation)
}

/// The options in the body of a deletion; `None` without a body.
pub(super) fn delete_options(request: &Request) -> Result<Option<Object>, ApiError> {
    if request.body.is_empty() {
        return Ok(None);
    }
    schema::decode_delete_options(&request.content_type, &request.body).map(Some)
}

fn of_subresource(resource: &dyn Resource, subresource: &Subresource) -> (&'static str, String) {
    let names = resource.names();
    if subresource.version.is_empty() {
        return (schema::of_kind(names.group, names.version, subresource.kind), names.api_version());
    }
    let api_version = match subresource.group {
        "" => subresource.version.to_owned(),
        group => format!("{group}/{}", subresource.version),
    };
    (schema::of_kind(subresource.group, subresource.version, subresource.kind), api_version)
}

/// The body of a PATCH.
#[derive(Debug)]
pub(super) struct Patch {
    kind: patch::Kind,
    body: Bytes,
}

impl Patch {
    /// # Errors
    /// 415 for kinds of patches that are not known, and for server-side apply.
    pub(super) fn parse(request: &Request) -> Result<Patch, ApiError> {
        let kind = patch::Kind::of(&request.content_type)?;
        Ok(Patch { kind, body: request.body.clone() })
    }

    /// The object as the patch makes it, with its defaults; and warnings.
    pub(super) fn apply(
        &self,
        resource: &dyn Resource,
        old: &Object,
        validation: FieldValidation,
    ) -> Result<(Object, Vec<String>), ApiError> {
        let patched = patch::apply(self.kind, resource.schema(), &Value::Object(old.0.clone()), &self.body)?;
        let (mut object, warnings) = schema::check_patched(resource.schema(), patched, validation)?;
        keep_kind(&mut object, old);
        resource.default(&mut object);
        Ok((object, warnings))
    }

    pub(super) fn apply_to_view(
        &self,
        resource: &dyn Resource,
        subresource: &Subresource,
        old: &Object,
        validation: FieldValidation,
    ) -> Result<(Object, Vec<String>), ApiError> {
        let (schema, _) = of_subresource(resource, subresource);
        let patched = patch::apply(self.kind, schema, &Value::Object(old.0.clone()), &self.body)?;
        let (mut object, warnings) = schema::check_patched(schema, patched, validation)?;
        keep_kind(&mut object, old);
        Ok((object, warnings))
    }
}

/// A patch makes nothing of another kind; the path says which it is.
fn keep_kind(new: &mut Object, old: &Object) {
    new.copy(old, &["apiVersion"]);
    new.copy(old, &["kind"]);
}
