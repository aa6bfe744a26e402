//! One call of one plugin.

use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use serde_json::{Map, Value};
use switchyard_kernel::child;

use super::error::RuntimeError;
use crate::types::{Command, Error as PluginError};

/// How plugins are found, and how long they are waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) path: &'a [PathBuf],
    pub(super) limit: Duration,
}

/// The container that a command is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) container: &'a str,
    pub(super) namespace: Option<&'a Path>,
    pub(super) interface: &'a str,
    pub(super) arguments: &'a [(String, String)],
}

const VARIABLES: [&str; 6] =
    ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];

impl Caller<'_> {
    /// The plugin's file, in the first folder that has one.
    pub(super) fn find(&self, plugin: &str) -> Result<PathBuf, RuntimeError> {
        let mut files = self.path.iter().map(|folder| folder.join(plugin));
        files
            .find(|file| file.is_file())
            .ok_or_else(|| RuntimeError::NotFound { plugin: plugin.to_owned(), path: self.path.to_vec() })
    }

    /// Runs a plugin and gives what it printed.
    pub(super) fn call(
        &self,
        plugin: &str,
        command: Command,
        subject: Option<&Subject<'_>>,
        conf: &Map<String, Value>,
    ) -> Result<Vec<u8>, RuntimeError> {
        let file = self.find(plugin)?;
        let failed = |source: io::Error| RuntimeError::Io {
            plugin: plugin.to_owned(),
            command: command.as_str(),
            file: file.clone(),
            source,
        };
        let mut process = process::Command::new(&file);
        // A runtime may itself be run with some of them.
        for name in VARIABLES {
            process.env_remove(name);
        }
        process.env("CNI_COMMAND", command.as_str());
        process.env(
            "CNI_PATH",
            std::env::join_paths(self.path).map_err(|error| failed(io::Error::other(error)))?,
        );
        if let Some(subject) = subject {
            process.env("CNI_CONTAINERID", subject.container).env("CNI_IFNAME", subject.interface);
            // Empty for a namespace that is gone, as DEL allows.
            process.env("CNI_NETNS", subject.namespace.unwrap_or_else(|| "".as_ref()));
            let pairs: Vec<String> =
                subject.arguments.iter().map(|(key, value)| format!("{key}={value}")).collect();
            if !pairs.is_empty() {
                process.env("CNI_ARGS", pairs.join(";"));
            }
        }
        let input = Value::Object(conf.clone()).to_string();
        let finished = child::run(&mut process, input.as_bytes(), self.limit).map_err(failed)?;
        let finished = finished.ok_or_else(|| RuntimeError::TimedOut {
            plugin: plugin.to_owned(),
            command: command.as_str(),
            seconds: self.limit.as_secs(),
        })?;
        if finished.status.success() {
            return Ok(finished.stdout);
        }
        Err(failure(plugin, command, &finished))
    }
}

fn failure(plugin: &str, command: Command, finished: &child::Finished) -> RuntimeError {
    let (plugin, command) = (plugin.to_owned(), command.as_str());
    match serde_json::from_slice::<PluginError>(&finished.stdout) {
        Ok(error) => RuntimeError::Failed { plugin, command, error },
        Err(_) => {
            let both = [finished.stdout.as_slice(), finished.stderr.as_slice()];
            let texts = both.map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
            let output = texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
            RuntimeError::Broken { plugin, command, status: finished.status.to_string(), output }
        }
    }
}
