//! In which form an answer is wanted, and whether a body comes in one that is understood.

use http::StatusCode;
use serde_json::Map;

use crate::handlers::{Form, Include, Verb};
use crate::status::ApiError;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Json,
    /// Two spaces a level, for people.
    PrettyJson,
    Yaml,
}

impl Encoding {
    pub fn media_type(self) -> &'static str {
        match self {
            Encoding::Json | Encoding::PrettyJson => "application/json",
            Encoding::Yaml => "application/yaml",
        }
    }
}

/// What objects are made into before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Whole,
    /// `version` of `meta.k8s.io`.
    Table {
        version: &'static str,
    },
    Metadata {
        version: &'static str,
    },
    MetadataList {
        version: &'static str,
    },
}

/// One entry of an `Accept` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaRange<'a> {
    /// `application/json`, `*/*`.
    pub name: &'a str,
    parameters: &'a str,
}

impl<'a> MediaRange<'a> {
    pub fn parse(entry: &'a str) -> MediaRange<'a> {
        let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
        MediaRange { name: name.trim(), parameters }
    }

    /// All entries, in the order in which the client prefers them. Weights (`q`) count for nothing, as upstream.
    pub fn all(accept: &'a str) -> impl Iterator<Item = MediaRange<'a>> {
        accept.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(MediaRange::parse)
    }

    /// The value of a parameter; empty if there is none.
    pub fn parameter(&self, name: &str) -> &'a str {
        let pairs = self.parameters.split(';').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
        values.next().unwrap_or_default().trim_matches('"')
    }

    fn encoding(&self) -> Option<Encoding> {
        match self.name {
            "application/json" | "application/*" | "*/*" => Some(Encoding::Json),
            "application/yaml" => Some(Encoding::Yaml),
            _ => None,
        }
    }

    fn shape(&self) -> Option<Shape> {
        let kind = self.parameter("as");
        if kind.is_empty() {
            return Some(Shape::Whole);
        }
        let version = match (self.parameter("g"), self.parameter("v")) {
            ("meta.k8s.io", "v1") => "v1",
            ("meta.k8s.io", "v1beta1") => "v1beta1",
            _ => return None,
        };
        match kind {
            "Table" => Some(Shape::Table { version }),
            "PartialObjectMetadata" => Some(Shape::Metadata { version }),
            "PartialObjectMetadataList" => Some(Shape::MetadataList { version }),
            _ => None,
        }
    }
}

/// What was settled on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    pub encoding: Encoding,
    pub shape: Shape,
}

/// The first entry of an `Accept` header that can be answered; without any, whole objects as JSON.
///
/// # Errors
/// 406 if none can be.
pub fn negotiate(accept: &str, verb: Verb) -> Result<Negotiated, ApiError> {
    if accept.trim().is_empty() {
        return Ok(Negotiated { encoding: Encoding::Json, shape: Shape::Whole });
    }
    let is_watch = verb == Verb::Watch;
    MediaRange::all(accept)
        .find_map(|range| {
            let stream = range.parameter("stream");
            let streams = stream.is_empty() || (is_watch && stream == "watch");
            let encoding =
                range.encoding().filter(|encoding| streams && !(is_watch && *encoding == Encoding::Yaml))?;
            Some(Negotiated { encoding, shape: range.shape()? })
        })
        .ok_or_else(|| not_acceptable(is_watch))
}

/// For what has but one shape: discovery, reviews, errors.
///
/// # Errors
/// 406 if neither JSON nor YAML will do.
pub fn negotiate_plain(accept: &str) -> Result<Encoding, ApiError> {
    if accept.trim().is_empty() {
        return Ok(Encoding::Json);
    }
    let plain = MediaRange::all(accept).filter(|range| range.parameter("as").is_empty());
    plain.filter_map(|range| range.encoding()).next().ok_or_else(|| not_acceptable(false))
}

/// Whether JSON is to be indented: if the client says so, or is used by a person.
pub fn is_pretty(parameter: Option<&str>, user_agent: &str) -> bool {
    match parameter {
        Some("0" | "false" | "f" | "F" | "FALSE" | "False") => false,
        Some(_) => true,
        None => ["curl", "Wget", "Mozilla/5.0"].iter().any(|agent| user_agent.starts_with(agent)),
    }
}

impl Negotiated {
    /// What the handlers are asked for. `include` is the parameter `includeObject`; `kind` is for the errors.
    ///
    /// # Errors
    /// 406 where metadata of one object is asked for and it is a list, or the other way round; 400 for a bad `include`.
    pub fn form(self, verb: Verb, include: &str, kind: &str) -> Result<Form, ApiError> {
        let is_list = matches!(verb, Verb::List | Verb::DeleteCollection);
        match self.shape {
            Shape::Whole => Ok(Form::Whole),
            Shape::Table { version } => Ok(Form::Table { version, include: Include::parse(include)? }),
            Shape::Metadata { .. } if is_list => Err(wrong_shape(format!(
                "you requested PartialObjectMetadata, but the requested object is a list (*core.{kind}List)"
            ))),
            Shape::MetadataList { .. } if !is_list => Err(wrong_shape(format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list (*core.{kind})"
            ))),
            Shape::Metadata { version } | Shape::MetadataList { version } => Ok(Form::Metadata { version }),
        }
    }
}

fn wrong_shape(message: String) -> ApiError {
    ApiError::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message).with_details(Map::new())
}

pub(super) fn not_acceptable(is_watch: bool) -> ApiError {
    let streams = match is_watch {
        true => ", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
        false => "",
    };
    wrong_shape(format!(
        "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
         application/vnd.kubernetes.protobuf{streams}"
    ))
}

/// Whether the body of a POST, PUT or DELETE is in a form that is understood; one that does not say is JSON.
///
/// # Errors
/// 415 if it is not.
pub fn check_content_type(content_type: &str) -> Result<(), ApiError> {
    match MediaRange::parse(content_type).name {
        "" | "*/*" | "application/json" | "application/yaml" | "application/vnd.kubernetes.protobuf" => Ok(()),
        _ => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf",
        )
        .with_details(Map::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

    fn settled(accept: &str, verb: Verb) -> (Encoding, Shape) {
        let negotiated = negotiate(accept, verb).unwrap();
        (negotiated.encoding, negotiated.shape)
    }

    #[test]
    fn the_first_form_that_can_be_had_is_taken() {
        use Encoding::{Json, Yaml};
        use Shape::{Metadata, Table, Whole};
        let table = [
            ("", (Json, Whole)),
            ("*/*", (Json, Whole)),
            ("application/*;q=0.1", (Json, Whole)),
            ("application/vnd.kubernetes.protobuf,application/json", (Json, Whole)),
            ("application/vnd.kubernetes.protobuf, */*", (Json, Whole)),
            ("application/yaml", (Yaml, Whole)),
            ("application/yaml, application/json", (Yaml, Whole)),
            (TABLE, (Json, Table { version: "v1" })),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", (Json, Table { version: "v1beta1" })),
            ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", (Json, Whole)),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                (Json, Metadata { version: "v1" }),
            ),
            ("application/json; charset=utf-8", (Json, Whole)),
        ];
        for (accept, expected) in table {
            assert_eq!(settled(accept, Verb::Get), expected, "{accept}");
        }
    }

    #[test]
    fn watches_are_json_only() {
        assert_eq!(settled("application/json;stream=watch", Verb::Watch), (Encoding::Json, Shape::Whole));
        assert_eq!(settled("application/yaml, application/json", Verb::Watch).0, Encoding::Json);
        let error = negotiate("application/yaml", Verb::Watch).unwrap_err();
        assert!(
            error.message.ends_with("application/vnd.kubernetes.protobuf;stream=watch"),
            "{}",
            error.message
        );
        assert!(negotiate("application/json;stream=watch", Verb::Get).is_err());
    }

    #[test]
    fn what_cannot_be_had_is_refused_in_the_known_words() {
        let error = negotiate("application/vnd.kubernetes.protobuf", Verb::List).unwrap_err();
        assert_eq!((error.code.as_u16(), error.reason), (406, "NotAcceptable"));
        assert_eq!(
            error.message,
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
        let error = check_content_type("text/plain; charset=utf-8").unwrap_err();
        assert_eq!(error.code.as_u16(), 415);
        assert_eq!(
            error.message,
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
        assert!(
            check_content_type("").is_ok() && check_content_type("application/json; charset=utf-8").is_ok()
        );
    }

    #[test]
    fn metadata_of_lists_and_of_objects_are_told_apart() {
        let list = Negotiated { encoding: Encoding::Json, shape: Shape::MetadataList { version: "v1" } };
        let one = Negotiated { encoding: Encoding::Json, shape: Shape::Metadata { version: "v1" } };
        let form = Form::Metadata { version: "v1" };
        assert_eq!(list.form(Verb::List, "", "ConfigMap"), Ok(form));
        assert_eq!(one.form(Verb::Watch, "", "ConfigMap"), Ok(form));
        assert_eq!(
            one.form(Verb::List, "", "ConfigMap").unwrap_err().message,
            "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)"
        );
        assert_eq!(
            list.form(Verb::Get, "", "ConfigMap").unwrap_err().message,
            "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)"
        );
    }

    #[test]
    fn people_get_indented_json() {
        assert!(is_pretty(None, "curl/8.0") && is_pretty(Some("true"), "kubectl") && is_pretty(Some(""), ""));
        assert!(!is_pretty(None, "kubectl/v1.36") && !is_pretty(Some("0"), "curl/8.0"));
    }
}
