//! Reads the configuration file: YAML or JSON, strictly first and leniently then, as kube-proxy does.

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::file::{API_VERSION, KIND, KubeProxyConfiguration};

/// Why a file is not a configuration of ours.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Neither YAML nor JSON.
    #[error("{path}: {reason}")]
    Syntax {
        /// The file.
        path: String,
        /// What the parser found, and where.
        reason: String,
    },
    /// `kind` or `apiVersion` is not there.
    #[error("Object '{field}' is missing in '{path}'")]
    Missing {
        /// The file.
        path: String,
        /// Which of the two, as kube-proxy spells it.
        field: &'static str,
    },
    /// Another kind of object, or a version that does not exist.
    #[error("no kind {kind:?} is registered for version {version:?}")]
    Unregistered {
        /// The file's kind.
        kind: String,
        /// The file's apiVersion.
        version: String,
    },
    /// A field holds something that it cannot hold.
    #[error("{path}: field {field}: {reason}")]
    Field {
        /// The file.
        path: String,
        /// The field, with dots.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Decodes the text of the file at `path` (for messages only).
///
/// Also returns what strict decoding had against it: fields that do not exist (or are spelled in another
/// case) and keys given twice. Those are dropped; of two keys the later holds.
pub fn decode(text: &str, path: &str) -> Result<(KubeProxyConfiguration, Option<String>), DecodeError> {
    let lenient = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true, // as Go's YAML: 010 is eight
    };
    let mut document: Value =
        serde_saphyr::from_str_with_options(text, lenient).map_err(|error| syntax_error(&error, path))?;
    check_kind(&document, path)?;
    drop_nulls(&mut document);

    let mut complaints = Vec::new();
    if let Some(duplicate) = duplicate_key(text) {
        complaints.push(format!("duplicate field {duplicate:?}"));
    }
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(document, &mut track);
    let decoded = serde_ignored::deserialize(tracked, |field| {
        complaints.push(format!("unknown field {:?}", field.to_string()));
    });
    let file = decoded.map_err(|error: serde_json::Error| DecodeError::Field {
        path: path.to_owned(),
        field: track.path().to_string(),
        reason: error.to_string(),
    })?;
    let complaint =
        (!complaints.is_empty()).then(|| format!("strict decoding error: {}", complaints.join(", ")));
    Ok((file, complaint))
}

fn check_kind(document: &Value, path: &str) -> Result<(), DecodeError> {
    let text = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or_default();
    let missing = |field| Err(DecodeError::Missing { path: path.to_owned(), field });
    match (text("apiVersion"), text("kind")) {
        _ if !document.is_object() && !document.is_null() => Err(DecodeError::Syntax {
            path: path.to_owned(),
            reason: "the document is not an object".to_owned(),
        }),
        (_, "") => missing("Kind"),
        ("", _) => missing("apiVersion"),
        (API_VERSION, KIND) => Ok(()),
        (version, kind) => {
            Err(DecodeError::Unregistered { kind: kind.to_owned(), version: version.to_owned() })
        }
    }
}

/// To Go's decoder a null is the same as a field that is not there.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The first key that an object has twice.
fn duplicate_key(text: &str) -> Option<String> {
    let error = serde_saphyr::from_str::<Value>(text).err()?;
    match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => Some(key.clone().unwrap_or_default()),
        _ => None,
    }
}

/// What the parser found, on one line.
fn syntax_error(error: &serde_saphyr::Error, path: &str) -> DecodeError {
    let reason = match error.without_snippet() {
        serde_saphyr::Error::MultipleDocuments { .. } => "more than one YAML document".to_owned(),
        error => error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    };
    DecodeError::Syntax { path: path.to_owned(), reason }
}
