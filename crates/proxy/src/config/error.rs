//! What can be wrong with a configuration, in the words that operators know from kube-proxy.

use std::fmt;

use super::decode::DecodeError;
use crate::feature_gates::FeatureGateError;

/// Why the proxy cannot start as configured; one line that names the option.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("failed complete: open {path}: {reason}")]
    Open {
        /// The file.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// The configuration file is not a configuration.
    #[error("failed complete: failed to decode: {0}")]
    Decode(#[from] DecodeError),
    /// `--hostname-override` is blank.
    #[error("failed complete: empty hostname-override is invalid")]
    BlankHostname,
    /// A feature gate is unknown or locked.
    #[error("failed complete: {0}")]
    FeatureGate(#[from] FeatureGateError),
    /// The logging options contradict each other.
    #[error("initialize logging: {0}")]
    Logging(FieldErrors),
    /// Fields with values that cannot be.
    #[error("failed validate: {0}")]
    Validate(FieldErrors),
}

/// One field with a bad value: `<path>: <problem>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    path: String,
    problem: String,
}

impl FieldError {
    /// `value` must be written as JSON writes it, so strings in quotes.
    pub(super) fn invalid(path: &str, value: impl fmt::Display, text: &str) -> FieldError {
        FieldError { path: path.into(), problem: format!("Invalid value: {value}: {text}") }
    }

    pub(super) fn forbidden(path: &str, text: &str) -> FieldError {
        FieldError { path: path.into(), problem: format!("Forbidden: {text}") }
    }

    pub(super) fn required(path: &str, text: &str) -> FieldError {
        FieldError { path: path.into(), problem: format!("Required value: {text}") }
    }

    pub(super) fn unsupported(path: &str, value: &str, supported: &[&str]) -> FieldError {
        let supported: Vec<_> = supported.iter().map(|value| format!("{value:?}")).collect();
        let supported = supported.join(", ");
        FieldError {
            path: path.into(),
            problem: format!("Unsupported value: {value:?}: supported values: {supported}"),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// One or more field errors; several are written as `[e1, e2]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [error] = self.0.as_slice() {
            return write!(f, "{error}");
        }
        let errors: Vec<_> = self.0.iter().map(FieldError::to_string).collect();
        write!(f, "[{}]", errors.join(", "))
    }
}
