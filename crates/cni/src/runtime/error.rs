//! What can go wrong between a runtime and its plugins.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::types::{Command, Error as PluginError, NetConf, Version};

/// A call that failed.
#[derive(Debug, Error)]
pub enum RuntimeError {
    #[error("CNI plugin {plugin} is in none of {}; install it there", searched(path))]
    NotFound { plugin: String, path: Vec<PathBuf> },
    #[error("running {command} of CNI plugin {plugin} ({}): {source}", file.display())]
    Io { plugin: String, command: &'static str, file: PathBuf, source: io::Error },
    #[error("{command} of CNI plugin {plugin} did not end within {seconds} s and was ended")]
    TimedOut { plugin: String, command: &'static str, seconds: u64 },
    /// It failed and said why.
    #[error("{command} of CNI plugin {plugin}: {error}")]
    Failed { plugin: String, command: &'static str, error: PluginError },
    /// It failed in a way that plugins should not.
    #[error("{command} of CNI plugin {plugin} ended with {status} and no error of CNI; it printed: {output}")]
    Broken { plugin: String, command: &'static str, status: String, output: String },
    #[error("{command} of CNI plugin {plugin} printed what is no answer ({source}): {answer}")]
    Answer { plugin: String, command: &'static str, answer: String, source: serde_json::Error },
    #[error("CNI {version} has no {command}; give the network a newer cniVersion")]
    NotInVersion { command: &'static str, version: Version },
    #[error("nothing is known of an ADD of {interface} of container {container} to network {network}")]
    NotAdded { network: String, container: String, interface: String },
    #[error(
        "{interface} of container {container} is in network {network} already; delete it from there first"
    )]
    AlreadyAdded { network: String, container: String, interface: String },
    #[error("{doing} {}: {source}", path.display())]
    Cache { doing: &'static str, path: PathBuf, source: io::Error },
}

impl RuntimeError {
    pub(super) fn answer(
        plugin: &NetConf,
        command: Command,
        printed: &[u8],
        source: &serde_json::Error,
    ) -> RuntimeError {
        RuntimeError::Answer {
            plugin: plugin.plugin.clone(),
            command: command.as_str(),
            answer: String::from_utf8_lossy(printed).trim().to_owned(),
            source: serde::de::Error::custom(source),
        }
    }

    /// The plugin's own error, if it gave one.
    pub fn plugin_error(&self) -> Option<&PluginError> {
        match self {
            RuntimeError::Failed { error, .. } => Some(error),
            _ => None,
        }
    }
}

fn searched(path: &[PathBuf]) -> String {
    if path.is_empty() {
        return "no folders".to_owned();
    }
    path.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}
