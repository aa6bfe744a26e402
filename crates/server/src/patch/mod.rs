//! The three kinds of patches.

mod strategic;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use crate::schema::types;
use crate::status::ApiError;

/// What a PATCH carries, by its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own: lists merge by keys.
    Strategic,
}

/// Operations in one JSON patch.
const MOST_OPERATIONS: usize = 10_000;

impl Kind {
    /// # Errors
    /// 415 for what is no patch, and for server-side apply, which this server does not do.
    pub fn of(content_type: &str) -> Result<Kind, ApiError> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Kind::Json),
            "application/merge-patch+json" => Ok(Kind::Merge),
            "application/strategic-merge-patch+json" => Ok(Kind::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => Err(unsupported(
                "415: Unsupported Media Type: this server does not do server-side apply; use client-side apply \
                 (kubectl apply without --server-side), or a JSON, merge or strategic merge patch",
            )),
            _ => Err(unsupported("415: Unsupported Media Type")),
        }
    }
}

fn unsupported(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
}

/// What an object of the type `schema` becomes by a patch.
pub fn apply(kind: Kind, schema: &str, current: &Value, body: &Bytes) -> Result<Value, ApiError> {
    match kind {
        Kind::Json => json_patch(current, body),
        Kind::Merge => {
            let patch: Value = parse(body)?;
            let mut patched = current.clone();
            json_patch::merge(&mut patched, &patch);
            Ok(patched)
        }
        Kind::Strategic => {
            let patch: Value = parse(body)?;
            let Value::Object(patch) = patch else {
                return Err(ApiError::bad_request("error decoding patch: it is no object"));
            };
            let mut patched = current.clone();
            if let Value::Object(object) = &mut patched {
                strategic::merge(object, patch, types::get(schema))
                    .map_err(|why| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "", why))?;
            }
            Ok(patched)
        }
    }
}

fn parse(body: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
}

fn json_patch(current: &Value, body: &Bytes) -> Result<Value, ApiError> {
    let value = parse(body)?;
    let Value::Array(operations) = &value else {
        let what = if value.is_object() { "object" } else { "value" };
        return Err(ApiError::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {what} into Go value of type []handlers.jsonPatchOp"
        )));
    };
    if operations.len() > MOST_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
            operations.len()
        );
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message));
    }
    let rejected = || {
        let message = "the server rejected our request due to an error in our request";
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
            .with_details(serde_json::Map::new())
    };
    let patch: json_patch::Patch = serde_json::from_value(value.clone()).map_err(|_| rejected())?;
    let mut patched = current.clone();
    json_patch::patch(&mut patched, &patch).map_err(|_| rejected())?;
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SERVICE: &str = "io.k8s.api.core.v1.Service";

    fn apply_to(kind: Kind, current: &Value, patch: &Value) -> Result<Value, ApiError> {
        apply(kind, SERVICE, current, &Bytes::from(patch.to_string()))
    }

    #[test]
    fn json_patches_do_all_or_nothing() {
        let current = json!({"a": [1, 2]});
        let patched = apply_to(Kind::Json, &current, &json!([{"op": "add", "path": "/a/-", "value": 3}]));
        assert_eq!(patched, Ok(json!({"a": [1, 2, 3]})));
        let failing = json!([{"op": "test", "path": "/a/0", "value": 9}]);
        let error = apply_to(Kind::Json, &current, &failing).unwrap_err();
        assert_eq!(
            (error.code.as_u16(), error.message.as_str()),
            (422, "the server rejected our request due to an error in our request")
        );
        let error = apply_to(Kind::Json, &current, &json!({})).unwrap_err();
        assert_eq!(
            error.message,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
        );
    }

    #[test]
    fn merge_patches_delete_by_null_and_replace_lists() {
        let current = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
        let patched = apply_to(Kind::Merge, &current, &json!({"a": {"b": null}, "l": [3]}));
        assert_eq!(patched, Ok(json!({"a": {"c": 2}, "l": [3]})));
    }

    #[test]
    fn apply_is_refused_with_the_way_out() {
        let error = Kind::of("application/apply-patch+yaml").unwrap_err();
        assert_eq!(error.code.as_u16(), 415);
        assert!(error.message.contains("server-side apply"), "{}", error.message);
        assert_eq!(Kind::of("text/plain").unwrap_err().message, "415: Unsupported Media Type");
    }
}
