//! Bodies of requests, whatever they are written in, as objects of a type.

use serde_json::{Map, Value as Json};

use super::check::{Findings, check};
use super::duplicates::duplicates;
use super::protobuf;
use super::types::{self, Type};
use crate::field::FieldError;
use crate::handlers::FieldValidation;
use crate::object::Object;
use crate::status::{ApiError, Subject};

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Reads a body as an object of `kind`; and warnings. `kind` and `apiVersion` may be missing in it: the URL says them.
pub fn decode(
    name: &'static str,
    api_version: &str,
    kind: &str,
    content_type: &str,
    body: &[u8],
    validation: FieldValidation,
) -> Result<(Object, Vec<String>), ApiError> {
    let of = found(name)?;
    let written = Written::of(content_type)?;
    let (mut fields, doubled) = match written {
        Written::Protobuf => (read_protobuf(body, of, kind)?, Vec::new()),
        Written::Json => read_json(body, kind, validation)?,
        Written::Yaml => (read_yaml(body, kind)?, Vec::new()),
    };
    check_identity(&fields, api_version, kind)?;
    let mut findings = Findings::default();
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let refused = |why: &str| {
        ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    };
    check(&mut fields, of, &mut findings).map_err(|why| refused(&why))?;
    fields.insert("apiVersion".to_owned(), api_version.into());
    fields.insert("kind".to_owned(), kind.into());
    let told = told(findings, doubled);
    match validation {
        FieldValidation::Strict if !told.is_empty() => {
            Err(refused(&format!("strict decoding error: {}", told.join(", "))))
        }
        FieldValidation::Ignore => Ok((Object(fields), Vec::new())),
        _ => Ok((Object(fields), told)),
    }
}

/// The body of a deletion.
pub fn decode_delete_options(content_type: &str, body: &[u8]) -> Result<Object, ApiError> {
    let of = found(DELETE_OPTIONS)?;
    let mut fields = match Written::of(content_type)? {
        Written::Protobuf => read_protobuf(body, of, "DeleteOptions")?,
        Written::Json => read_json(body, "DeleteOptions", FieldValidation::Ignore)?.0,
        Written::Yaml => read_yaml(body, "DeleteOptions")?,
    };
    check(&mut fields, of, &mut Findings::default()).map_err(ApiError::bad_request)?;
    Ok(Object(fields))
}

/// What came of a patch, as an object; and warnings.
pub fn check_patched(
    name: &'static str,
    patched: Json,
    validation: FieldValidation,
) -> Result<(Object, Vec<String>), ApiError> {
    let text = patched.to_string();
    let refused = |why: &str| {
        let error = FieldError::invalid("patch", text.as_str(), why);
        ApiError::invalid(Subject { group: "", kind: "", name: "" }, &[error])
    };
    let Json::Object(mut fields) = patched else { return Err(refused("it is no object")) };
    let mut findings = Findings::default();
    check(&mut fields, found(name)?, &mut findings).map_err(|why| refused(&why))?;
    let told = told(findings, Vec::new());
    match validation {
        FieldValidation::Strict if !told.is_empty() => {
            Err(refused(&format!("strict decoding error: {}", told.join(", "))))
        }
        FieldValidation::Ignore => Ok((Object(fields), Vec::new())),
        _ => Ok((Object(fields), told)),
    }
}

/// The name of the type of a kind, as descriptors and subresources name it; empty for one that is not there.
pub fn of_kind(group: &str, version: &str, kind: &str) -> &'static str {
    let package = match group.split('.').next().unwrap_or_default() {
        "" => "core",
        first => first,
    };
    let wanted = format!("io.k8s.api.{package}.{version}.{kind}");
    types::get(&wanted).map_or("", |of| &of.name)
}

fn found(name: &str) -> Result<&'static Type, ApiError> {
    types::get(name).ok_or_else(|| ApiError::internal(format!("there is no type {name:?}")))
}

fn told(findings: Findings, doubled: Vec<String>) -> Vec<String> {
    let unknown = findings.unknown.into_iter().map(|path| format!("unknown field {path:?}"));
    unknown.chain(doubled.into_iter().map(|path| format!("duplicate field {path:?}"))).collect()
}

/// What a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Json,
    Yaml,
    Protobuf,
}

impl Written {
    fn of(content_type: &str) -> Result<Written, ApiError> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "" | "application/json" => Ok(Written::Json),
            "application/yaml" => Ok(Written::Yaml),
            "application/vnd.kubernetes.protobuf" => Ok(Written::Protobuf),
            _ => Err(ApiError::new(
                http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: application/json, \
                 application/yaml, application/vnd.kubernetes.protobuf",
            )),
        }
    }
}

fn read_json(
    body: &[u8],
    kind: &str,
    validation: FieldValidation,
) -> Result<(Map<String, Json>, Vec<String>), ApiError> {
    let unrecognized = |why: String| {
        let shown = match body.is_empty() {
            true => "<empty>".to_owned(),
            false => String::from_utf8_lossy(&body[..body.len().min(64)]).into_owned(),
        };
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why} ({shown})"
        ))
    };
    if body.is_empty() {
        return Err(unrecognized("unexpected end of JSON input".to_owned()));
    }
    let value: Json = serde_json::from_slice(body).map_err(|error| unrecognized(error.to_string()))?;
    let Json::Object(fields) = value else { return Err(unrecognized("it is no object".to_owned())) };
    let doubled = if validation == FieldValidation::Ignore { Vec::new() } else { duplicates(body) };
    Ok((fields, doubled))
}

fn read_yaml(body: &[u8], kind: &str) -> Result<Map<String, Json>, ApiError> {
    let text = String::from_utf8_lossy(body);
    let read: Result<Json, _> = serde_saphyr::from_str(&text);
    match read {
        Ok(Json::Object(fields)) => Ok(fields),
        Ok(_) => Err(ApiError::bad_request(format!("the object provided is no {kind}: it is no object"))),
        Err(error) => Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): yaml parse error: {error}"
        ))),
    }
}

fn read_protobuf(body: &[u8], of: &Type, kind: &str) -> Result<Map<String, Json>, ApiError> {
    let refused = |why: String| {
        ApiError::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why}"))
    };
    let envelope = protobuf::envelope(body).map_err(refused)?;
    let mut fields = protobuf::decode(envelope.raw, of).map_err(refused)?;
    if !envelope.kind.is_empty() {
        fields.insert("kind".to_owned(), envelope.kind.into());
    }
    if !envelope.api_version.is_empty() {
        fields.insert("apiVersion".to_owned(), envelope.api_version.into());
    }
    Ok(fields)
}

/// What the body says it is has to be what the URL says.
fn check_identity(fields: &Map<String, Json>, api_version: &str, kind: &str) -> Result<(), ApiError> {
    let text = |name: &str| fields.get(name).and_then(Json::as_str).unwrap_or_default();
    let (said_kind, said_version) = (text("kind"), text("apiVersion"));
    let short = |version: &str| version.rsplit('/').next().unwrap_or_default().to_owned();
    if !said_kind.is_empty() && said_kind != kind {
        let version = if said_version.is_empty() { short(api_version) } else { short(said_version) };
        let group = api_version
            .split_once('/')
            .map_or("core", |(group, _)| group.split('.').next().unwrap_or_default());
        return Err(ApiError::bad_request(format!(
            "{said_kind} in version {version:?} cannot be handled as a {kind}: converting ({version}.{said_kind}) to ({group}.{kind}): unknown conversion"
        )));
    }
    if !said_version.is_empty() && said_version != api_version {
        let version = short(said_version);
        return Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: no kind {kind:?} is registered for version {said_version:?} in scheme"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MAP: &str = "io.k8s.api.core.v1.ConfigMap";

    fn read(body: &str, validation: FieldValidation) -> Result<(Object, Vec<String>), String> {
        decode(MAP, "v1", "ConfigMap", "application/json", body.as_bytes(), validation)
            .map_err(|error| error.message)
    }

    #[test]
    fn strictness_decides_what_becomes_of_unknown_and_doubled_fields() {
        let body = r#"{"foo": 1, "data": {"a": "1", "a": "2"}}"#;
        let told = ["unknown field \"foo\"".to_owned(), "duplicate field \"data.a\"".to_owned()];
        assert_eq!(read(body, FieldValidation::Ignore).unwrap().1, [""; 0]);
        assert_eq!(read(body, FieldValidation::Warn).unwrap().1, told);
        assert_eq!(
            read(body, FieldValidation::Strict).unwrap_err(),
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\", duplicate field \"data.a\""
        );
    }

    #[test]
    fn what_is_no_such_object_is_refused_as_upstream_refuses_it() {
        let refused = |body| read(body, FieldValidation::Warn).unwrap_err();
        assert_eq!(
            refused(""),
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"
        );
        assert_eq!(
            refused(r#"{"kind": "Service", "apiVersion": "v1"}"#),
            "Service in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Service) to (core.ConfigMap): unknown conversion"
        );
        assert!(
            refused(r#"{"apiVersion": "v2"}"#)
                .starts_with("ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind")
        );
        assert!(refused(r#"{"data": []}"#).ends_with("of type map[string]string"));
    }

    #[test]
    fn yaml_is_read_too_and_other_types_are_not() {
        let yaml =
            decode(MAP, "v1", "ConfigMap", "application/yaml", b"data: {a: '1'}", FieldValidation::Warn)
                .unwrap();
        assert_eq!(yaml.0.at(&["data"]), Some(&json!({"a": "1"})));
        let error = decode(MAP, "v1", "ConfigMap", "text/plain", b"", FieldValidation::Warn).unwrap_err();
        assert_eq!(error.code.as_u16(), 415);
    }

    #[test]
    fn kinds_lead_to_types() {
        assert_eq!(of_kind("", "v1", "Binding"), "io.k8s.api.core.v1.Binding");
        assert_eq!(
            of_kind("discovery.k8s.io", "v1", "EndpointSlice"),
            "io.k8s.api.discovery.v1.EndpointSlice"
        );
        assert_eq!(of_kind("autoscaling", "v1", "Scale"), "io.k8s.api.autoscaling.v1.Scale");
        assert_eq!(of_kind("x", "v1", "Y"), "");
    }
}
