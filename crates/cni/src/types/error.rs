//! The error that a plugin prints.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Codes of the spec. From 100 on a plugin chooses its own.
pub mod code {
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container does not exist; the runtime has nothing to clean up.
    pub const CONTAINER_UNKNOWN: u32 = 3;
    pub const INVALID_ENVIRONMENT: u32 = 4;
    pub const IO: u32 = 5;
    pub const DECODING: u32 = 6;
    pub const INVALID_CONFIGURATION: u32 = 7;
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// ADD would fail.
    pub const NOT_AVAILABLE: u32 = 50;
    /// ADD would fail, and containers that have been added may not reach what they should.
    pub const LIMITED_CONNECTIVITY: u32 = 51;
    /// Ours: something that we cannot put better than with the words of the error. The reference plugins say 999.
    pub const FAILED: u32 = 100;
    /// Ours: CHECK found something other than ADD had left.
    pub const CHECK_FAILED: u32 = 101;
}

/// What a plugin says on standard output when it fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Error {
    #[serde(rename = "cniVersion", default)]
    pub cni_version: String,
    pub code: u32,
    #[serde(default)]
    pub msg: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Error {
    /// The version is filled in when the error is printed.
    pub fn new(code: u32, msg: impl Into<String>) -> Error {
        Error { cni_version: String::new(), code, msg: msg.into(), details: String::new() }
    }

    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Error {
        self.details = details.into();
        self
    }

    /// An error from elsewhere with all that caused it.
    pub fn because(code: u32, error: &dyn std::error::Error) -> Error {
        let mut msg = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            let text = source.to_string();
            // Some errors print their cause themselves.
            if !msg.contains(&text) {
                msg.push_str(": ");
                msg.push_str(&text);
            }
            cause = source.source();
        }
        Error::new(code, msg)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        write!(f, " (code {})", self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_with_its_causes_once_each() {
        let cause = std::io::Error::other("disk full");
        let error = crate::types::ConfError::Read { path: "/etc/cni".into(), source: cause };
        let error = Error::because(code::IO, &error);
        assert_eq!(error.to_string(), "reading /etc/cni: disk full (code 5)");
        let json = serde_json::to_string(&error.with_details("free some")).unwrap();
        let back: Error = serde_json::from_str(&json).unwrap();
        assert_eq!(back.to_string(), "reading /etc/cni: disk full; free some (code 5)");
    }
}
