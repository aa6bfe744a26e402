//! Answers as they go out.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use super::negotiation::Encoding;
use crate::status::ApiError;

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// All warnings of one answer together, in bytes: clients limit what headers may hold.
const MOST_WARNINGS: usize = 4096;

/// An answer that is all there.
pub fn whole(code: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub fn text(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    whole(code, "text/plain; charset=utf-8", body)
}

/// For paths that mean nothing.
pub fn page_not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Compact JSON in the form that was settled on.
pub fn json(code: StatusCode, json: Bytes, encoding: Encoding) -> Response<Body> {
    let encoded = match encoding {
        Encoding::Json => Ok(json),
        Encoding::PrettyJson => pretty(&json),
        Encoding::Yaml => yaml(&json),
    };
    match encoded {
        Ok(body) => whole(code, encoding.media_type(), body),
        Err(cause) => error(&ApiError::internal(cause), Encoding::Json),
    }
}

pub fn value(code: StatusCode, value: &Value, encoding: Encoding) -> Response<Body> {
    json(code, value.to_string().into(), encoding)
}

fn pretty(json: &[u8]) -> Result<Bytes, String> {
    let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut text = serde_json::to_vec_pretty(&value).map_err(|error| error.to_string())?;
    text.push(b'\n');
    Ok(text.into())
}

fn yaml(json: &[u8]) -> Result<Bytes, String> {
    let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    serde_saphyr::to_string(&value).map(Bytes::from).map_err(|error| error.to_string())
}

/// An error as a Status, with `Retry-After` where the client is told to come back.
pub fn error(error: &ApiError, encoding: Encoding) -> Response<Body> {
    let mut response = value(error.code, &error.to_json(), encoding);
    let seconds =
        error.details.as_ref().and_then(|details| details.get("retryAfterSeconds")).and_then(Value::as_u64);
    let seconds = seconds.or((error.code == StatusCode::TOO_MANY_REQUESTS).then_some(1));
    if let Some(seconds) = seconds {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Events as they happen.
pub fn stream(events: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let frames = events.map(|line| Ok(Frame::data(line)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Adds a header for each text.
pub fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    let mut room = MOST_WARNINGS;
    for text in warnings {
        let mut value = String::from("299 - \"");
        for character in text.chars() {
            match character {
                '"' | '\\' => value.extend(['\\', character]),
                character if character.is_control() => value.push(' '),
                character => value.push(character),
            }
        }
        value.push('"');
        let Some(left) = room.checked_sub(value.len()) else { return };
        room = left;
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(response: Response<Body>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn objects_are_written_as_wanted() {
        let object = Bytes::from(r#"{"kind":"A","items":[1]}"#);
        let write = |encoding| body(json(StatusCode::OK, object.clone(), encoding));
        assert_eq!(write(Encoding::Json).await, r#"{"kind":"A","items":[1]}"#);
        assert!(write(Encoding::PrettyJson).await.starts_with("{\n  \"items\": ["));
        assert_eq!(write(Encoding::Yaml).await, "items:\n- 1\nkind: A\n");
    }

    /// As readers of the older YAML take them.
    #[tokio::test]
    async fn texts_that_look_like_something_else_are_quoted() {
        for text in ["yes", "on", "No", "0644", "1_000", "1e3", "null", "~", "true", "2026-01-01", "1:30"] {
            let json = serde_json::json!({"a": text}).to_string();
            let yaml = body(super::json(StatusCode::OK, json.into(), Encoding::Yaml)).await;
            assert!(yaml.contains('"') || yaml.contains('\''), "{yaml}");
        }
    }

    #[test]
    fn errors_say_when_to_come_back() {
        let details = serde_json::Map::from_iter([("retryAfterSeconds".to_owned(), 7.into())]);
        let timeout = ApiError::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", "x").with_details(details);
        assert_eq!(error(&timeout, Encoding::Json).headers()[RETRY_AFTER], "7");
        assert!(!error(&ApiError::bad_request("x"), Encoding::Json).headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn warnings_are_quoted() {
        let mut headers = HeaderMap::new();
        warn(&mut headers, &["unknown field \"spec.foo\"".to_owned(), "a\nb\\".to_owned(), "x".repeat(5000)]);
        let values: Vec<_> = headers.get_all(WARNING).iter().collect();
        assert_eq!(values, [r#"299 - "unknown field \"spec.foo\"""#, r#"299 - "a b\\""#]);
    }
}
