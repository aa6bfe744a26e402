//! Which form of `/flagz` and `/statusz` a client asks for.

use http::header::{ACCEPT, HeaderMap, HeaderValue};
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};

use crate::http_server::{Reply, json as json_reply, plain, reply};

const GROUP: &str = "config.k8s.io";
const VERSION: &str = "v1beta1";
const OLD_VERSION: &str = "v1alpha1";

/// A form that can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json { version: &'static str },
    Yaml { version: &'static str },
}

/// The first acceptable form of the `Accept` header, text without one. `None` if there is no such form: plain JSON
/// is refused on purpose, a client must name the group, version and kind it understands.
pub(super) fn form(headers: &HeaderMap, kind: &str) -> Option<Form> {
    let Some(accept) = headers.get(ACCEPT) else { return Some(Form::Text) };
    accept.to_str().ok()?.split(',').find_map(|range| form_of_range(range, kind))
}

fn form_of_range(range: &str, kind: &str) -> Option<Form> {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next()?;
    if matches!(media_type, "*/*" | "text/*" | "text/plain" | "") {
        return Some(Form::Text);
    }
    let parameters: Vec<&str> = parts.collect();
    let parameter =
        |name: &str| parameters.iter().find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    if parameter("g") != Some(GROUP) || parameter("as") != Some(kind) {
        return None;
    }
    let version = [VERSION, OLD_VERSION].into_iter().find(|version| parameter("v") == Some(version))?;
    match media_type {
        "application/json" => Some(Form::Json { version }),
        "application/yaml" => Some(Form::Yaml { version }),
        _ => None,
    }
}

/// Answers with the object in the form asked for. `fields` is the object without its kind, version and name.
pub(super) fn answer(form: Option<Form>, kind: &str, fields: Value, text: impl FnOnce() -> String) -> Reply {
    match form {
        None => not_acceptable(kind),
        Some(Form::Text) => plain(StatusCode::OK, text()),
        Some(Form::Json { version }) => {
            warn_if_old(json_reply(StatusCode::OK, object(kind, version, fields).to_string()), kind, version)
        }
        Some(Form::Yaml { version }) => match serde_saphyr::to_string(&object(kind, version, fields)) {
            Ok(yaml) => warn_if_old(reply(StatusCode::OK, "application/yaml", yaml), kind, version),
            Err(error) => {
                plain(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write {kind} as YAML: {error}\n"))
            }
        },
    }
}

fn object(kind: &str, version: &str, fields: Value) -> Value {
    let mut object = json!({
        "kind": kind,
        "apiVersion": format!("{GROUP}/{version}"),
        "metadata": { "name": super::zpages::COMPONENT },
    });
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    object
}

fn warn_if_old(mut reply: Reply, kind: &str, version: &str) -> Reply {
    if version == OLD_VERSION {
        let text =
            format!("299 - \"{GROUP}/{OLD_VERSION} {kind} is deprecated, use {GROUP}/{VERSION} {kind}\"");
        if let Ok(value) = HeaderValue::from_str(&text) {
            reply.headers_mut().insert(HeaderName::from_static("warning"), value);
        }
    }
    reply
}

fn not_acceptable(kind: &str) -> Reply {
    let parameters = format!("v={VERSION};g={GROUP};as={kind}");
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": format!(
            "only the following media types are accepted: text/plain, application/json;{parameters}, \
             application/yaml;{parameters}"
        ),
        "reason": "NotAcceptable",
        "code": 406,
    });
    json_reply(StatusCode::NOT_ACCEPTABLE, status.to_string())
}
