//! Answers, and errors in the API's form.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::json;

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A request that cannot be carried out, with the words for who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: StatusCode,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal { code: StatusCode::BAD_REQUEST, reason: "BadRequest", message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Refusal {
        Refusal { code: StatusCode::NOT_FOUND, reason: "NotFound", message: message.into() }
    }

    pub(super) fn internal(message: impl Into<String>) -> Refusal {
        Refusal { code: StatusCode::INTERNAL_SERVER_ERROR, reason: "InternalError", message: message.into() }
    }

    pub(super) fn to_response(&self) -> Response<Body> {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        with_type(self.code, "application/json", status.to_string())
    }
}

pub(super) fn text(text: impl Into<Bytes>) -> Response<Body> {
    with_type(StatusCode::OK, "text/plain; charset=utf-8", text)
}

pub(super) fn json(text: impl Into<Bytes>) -> Response<Body> {
    with_type(StatusCode::OK, "application/json", text)
}

fn with_type(code: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
