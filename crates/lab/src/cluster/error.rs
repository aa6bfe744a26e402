//! What can go wrong with a lab.

use std::error::Error;
use std::io;
use std::path::Path;

use switchyard_kernel::link::LinkError;
use switchyard_kernel::namespace::NamespaceError;
use thiserror::Error;

use super::collisions::Collision;
use super::kubeconfig::KubeconfigError;
use super::settings::SettingsError;
use crate::scene::SceneError;

/// Why a lab could not be brought up, looked at or taken away.
#[derive(Debug, Error)]
pub enum LabError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("network namespaces take root: run it with sudo")]
    NotRoot,
    #[error("another `switchyard up` or `down` of lab {name} is running; wait for it, or end it")]
    Busy { name: String },
    #[error(
        "lab {name} is up; see `switchyard status --name {name}`, take it away with `switchyard down --name {name}`, \
             or give the new one another --name"
    )]
    IsUp { name: String },
    #[error("there is no lab {name}; {}", others(known))]
    NoSuchLab { name: String, known: Vec<String> },
    #[error(transparent)]
    Collision(#[from] Collision),
    #[error("there are network namespaces {} that are not of a lab; remove them (ip netns delete NAME), or choose another \
             --name", names.join(", "))]
    ForeignNamespaces { names: Vec<String> },
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error("building the network")]
    Scene(#[from] SceneError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("looking at this machine's network")]
    Host(#[from] LinkError),
    #[error("{doing}")]
    Io { doing: String, source: io::Error },
    #[error("{doing}")]
    Api { doing: String, source: Box<kube::Error> },
    #[error("{part} ended {times} times, the last time with {end}; the end of its log:\n{tail}")]
    PartFails { part: String, times: u32, end: String, tail: String },
    #[error("{what} is not ready after {seconds} s: {why}; the end of the log of {part}:\n{tail}")]
    NotReady { what: String, seconds: u64, why: String, part: String, tail: String },
    #[error("lab {lab} has no place {place:?}; it has {}", places.join(", "))]
    NoSuchPlace { lab: String, place: String, places: Vec<String> },
    #[error("interrupted")]
    Interrupted,
    #[error(
        "not all of lab {name} could be taken away; `switchyard down --name {name}` tries again:{}",
        list(errors)
    )]
    Left { name: String, errors: Vec<LabError> },
    #[error("{0}")]
    Other(String),
}

/// An input or output error, with what was being done.
pub(super) fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
    move |source| LabError::Io { doing: what.into(), source }
}

/// The same, done to a file.
pub(super) fn doing_to(what: &str, path: &Path) -> impl FnOnce(io::Error) -> LabError {
    doing(format!("{what} {}", path.display()))
}

/// An error with its causes, each said once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn others(known: &[String]) -> String {
    if known.is_empty() {
        "`switchyard up` makes one".to_owned()
    } else {
        format!("there are {}: choose with --name", known.join(", "))
    }
}

fn list(errors: &[LabError]) -> String {
    errors.iter().map(|error| format!("\n  {}", chain(error))).collect()
}
