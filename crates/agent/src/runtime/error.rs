//! What a runtime cannot do, in the words that end up in a pod's status and events.

use std::io;

use thiserror::Error;

/// Why a runtime did not do what it was asked for.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// Nothing is built in by that name, and the container says no command of its own.
    #[error(
        "there is no built-in image {image:?}, and the container has no command: give it one, or use one of {known}"
    )]
    UnknownImage {
        image: String,
        /// The built-in ones.
        known: String,
    },
    /// The program does not exist or may not be run.
    #[error("cannot run {program:?}")]
    Command { program: String, source: io::Error },
    /// A sandbox, container or command is not there, or not in the state that the call needs.
    #[error("{what}")]
    State { what: String },
    /// The kernel or the disk refused a step.
    #[error("{doing}")]
    Io {
        /// What was being done, to what.
        doing: String,
        source: io::Error,
    },
}

impl RuntimeError {
    /// For `map_err`: what was being done when it happened.
    pub(crate) fn doing(doing: impl Into<String>) -> impl FnOnce(io::Error) -> RuntimeError {
        |source| RuntimeError::Io { doing: doing.into(), source }
    }
}
