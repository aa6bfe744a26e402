//! What is wrong with a field, in the words that kubectl shows.

use serde_json::Value;

/// What is wrong with one field. The texts are upstream's, since people and tools look for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// As in `spec.ports[0].nodePort`.
    pub path: String,
    pub reason: CauseReason,
    /// Without the path: `Invalid value: 0: must be between 1 and 65535, inclusive`.
    pub body: String,
}

/// The reason of a cause in a Status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CauseReason {
    Required,
    Invalid,
    Duplicate,
    NotSupported,
    NotFound,
    Forbidden,
    TooMany,
    TooLong,
    Internal,
}

impl CauseReason {
    pub fn as_str(self) -> &'static str {
        match self {
            CauseReason::Required => "FieldValueRequired",
            CauseReason::Invalid => "FieldValueInvalid",
            CauseReason::Duplicate => "FieldValueDuplicate",
            CauseReason::NotSupported => "FieldValueNotSupported",
            CauseReason::NotFound => "FieldValueNotFound",
            CauseReason::Forbidden => "FieldValueForbidden",
            CauseReason::TooMany => "FieldValueTooMany",
            CauseReason::TooLong => "FieldValueTooLong",
            CauseReason::Internal => "InternalError",
        }
    }
}

impl FieldError {
    pub fn required(path: impl Into<String>, detail: &str) -> FieldError {
        let body =
            if detail.is_empty() { "Required value".into() } else { format!("Required value: {detail}") };
        FieldError { path: path.into(), reason: CauseReason::Required, body }
    }

    pub fn invalid(path: impl Into<String>, value: impl Into<Value>, detail: &str) -> FieldError {
        let body = format!("Invalid value: {}: {detail}", value.into());
        FieldError { path: path.into(), reason: CauseReason::Invalid, body }
    }

    pub fn duplicate(path: impl Into<String>, value: impl Into<Value>) -> FieldError {
        let body = format!("Duplicate value: {}", value.into());
        FieldError { path: path.into(), reason: CauseReason::Duplicate, body }
    }

    /// `supported` in the order in which it is to be shown.
    pub fn not_supported(path: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> FieldError {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let body = format!("Unsupported value: {}: supported values: {}", value.into(), supported.join(", "));
        FieldError { path: path.into(), reason: CauseReason::NotSupported, body }
    }

    /// A name of something else in the object that is not there.
    pub fn not_found(path: impl Into<String>, value: impl Into<Value>) -> FieldError {
        let body = format!("Not found: {}", value.into());
        FieldError { path: path.into(), reason: CauseReason::NotFound, body }
    }

    pub fn forbidden(path: impl Into<String>, detail: &str) -> FieldError {
        FieldError { path: path.into(), reason: CauseReason::Forbidden, body: format!("Forbidden: {detail}") }
    }

    pub fn too_many(path: impl Into<String>, count: usize, most: usize) -> FieldError {
        let body = format!("Too many: {count}: must have at most {most} items");
        FieldError { path: path.into(), reason: CauseReason::TooMany, body }
    }

    pub fn too_long(path: impl Into<String>, most_bytes: usize) -> FieldError {
        let body = format!("Too long: may not be more than {most_bytes} bytes");
        FieldError { path: path.into(), reason: CauseReason::TooLong, body }
    }

    pub fn internal(path: impl Into<String>, detail: &str) -> FieldError {
        FieldError {
            path: path.into(),
            reason: CauseReason::Internal,
            body: format!("Internal error: {detail}"),
        }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.body)
    }
}
