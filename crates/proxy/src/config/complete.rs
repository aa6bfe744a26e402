//! Puts flags and file together: which of them count, and what a blank means.

use std::io;
use std::path::PathBuf;

use super::decode::decode;
use super::defaults::{apply_file_defaults, apply_platform_defaults};
use super::error::ConfigError;
use super::file::KubeProxyConfiguration;
use super::from_flags::{from_flags, merge_logging};
use crate::feature_gates::FeatureGates;
use crate::flags::Parsed;

/// What was asked for, complete but not yet checked.
#[derive(Clone, Debug)]
pub struct Completed {
    /// The effective configuration in the file's form, as `--write-config-to` and `/configz` show it.
    pub file: KubeProxyConfiguration,
    /// The configuration file that was loaded, to be watched for changes.
    pub loaded_from: Option<PathBuf>,
    /// Whether the mode was left to the proxy; it then logs its choice.
    pub mode_was_blank: bool,
    /// `--master`, which wins over the kubeconfig's server.
    pub master: Option<String>,
    /// `--manifests`: the YAML file or folder to follow instead of an API server.
    pub manifests: Option<PathBuf>,
    /// What to do instead of running.
    pub actions: Actions,
    /// Feature gates.
    pub feature_gates: FeatureGates,
    /// What to log once logging works, in this order.
    pub notices: Vec<Notice>,
}

/// One-off jobs; the first that is set is done, in the order of the fields, and the process exits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Write the effective configuration here.
    pub write_config_to: Option<PathBuf>,
    /// Remove the rules of every mode.
    pub cleanup: bool,
    /// Do the privileged initialisation only.
    pub init_only: bool,
}

/// Something to log about the way the configuration came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How loud.
    pub severity: Severity,
    /// The message.
    pub message: String,
    /// The value of key `err`, if any.
    pub error: Option<String>,
}

/// The severity of a [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `I`
    Info,
    /// `W`
    Warning,
}

/// Loads the file, if there is one, and merges the flags that count besides it.
pub fn complete(parsed: &Parsed) -> Result<Completed, ConfigError> {
    let flags = &parsed.flags;
    let mut notices = Vec::new();
    let mut file = if flags.config.is_empty() {
        from_flags(flags)
    } else {
        let mut file = load(&flags.config, &mut notices)?;
        apply_file_defaults(&mut file);
        merge_logging(&mut file.logging, parsed);
        file
    };
    let mode_was_blank = file.mode.is_empty();
    apply_platform_defaults(&mut file);
    file.set_mode_bound(file.mode_bound());
    if !flags.hostname_override.is_empty() {
        file.hostname_override = flags.hostname_override.trim().to_lowercase();
        if file.hostname_override.is_empty() {
            return Err(ConfigError::BlankHostname);
        }
    }
    let feature_gates = FeatureGates::new(&file.feature_gates)?;
    notices.extend(feature_gates.warnings().into_iter().map(|message| Notice {
        severity: Severity::Warning,
        message,
        error: None,
    }));
    Ok(Completed {
        file,
        loaded_from: path_of(&flags.config),
        mode_was_blank,
        master: (!flags.master.is_empty()).then(|| flags.master.clone()),
        manifests: path_of(&flags.manifests),
        actions: Actions {
            write_config_to: path_of(&flags.write_config_to),
            cleanup: flags.cleanup,
            init_only: flags.init_only,
        },
        feature_gates,
        notices,
    })
}

fn load(path: &str, notices: &mut Vec<Notice>) -> Result<KubeProxyConfiguration, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Open { path: path.to_owned(), reason: reason(&error) })?;
    let (file, complaint) = decode(&text, path)?;
    if let Some(complaint) = complaint {
        notices.push(Notice {
            severity: Severity::Info,
            message: "Using lenient decoding as strict decoding failed".to_owned(),
            error: Some(complaint),
        });
    }
    Ok(file)
}

/// The system's words for an error as Go prints them: lower case, without the number.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn path_of(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}
