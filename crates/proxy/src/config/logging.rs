//! How to log: what flags and file say, checked.

use std::time::Duration;

use super::error::{ConfigError, FieldError, FieldErrors};
use super::file::{LoggingFile, OutputFile};
use super::{Completed, KubeProxyConfiguration};
use crate::feature_gates::FeatureGates;
use crate::flags::VerbosityPattern;

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// klog's lines.
    Text,
    /// One JSON object a line.
    Json,
}

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The form of a line.
    pub format: LogFormat,
    /// Messages up to this level are written.
    pub verbosity: u32,
    /// Levels by source file; the first that matches counts.
    pub vmodule: Vec<VerbosityPattern>,
    /// The longest time between two flushes.
    pub flush_frequency: Duration,
    /// Whether info messages go to stdout, apart from errors.
    pub split_stream: bool,
}

impl Completed {
    /// How to log, or the `initialize logging: …` error.
    pub fn logging(&self) -> Result<Logging, ConfigError> {
        let errors = check(&self.file, &self.feature_gates);
        if !errors.is_empty() {
            return Err(ConfigError::Logging(FieldErrors(errors)));
        }
        let logging = &self.file.logging;
        let (format, output) = match logging.format.as_str() {
            "json" => (LogFormat::Json, &logging.options.json),
            _ => (LogFormat::Text, &logging.options.text),
        };
        let patterns = logging.vmodule.iter();
        Ok(Logging {
            format,
            verbosity: logging.verbosity,
            vmodule: patterns
                .map(|p| VerbosityPattern { pattern: p.file_pattern.clone(), verbosity: p.verbosity })
                .collect(),
            flush_frequency: logging.flush_frequency.to_std(),
            split_stream: output.split_stream,
        })
    }
}

const MAX_VERBOSITY: u32 = i32::MAX as u32;

fn check(file: &KubeProxyConfiguration, gates: &FeatureGates) -> Vec<FieldError> {
    let logging = &file.logging;
    let mut errors = Vec::new();
    match logging.format.as_str() {
        "text" => {}
        "json" => {
            if !gates.enabled("LoggingBetaOptions") {
                errors.push(FieldError::forbidden(
                    "logging.format",
                    "Log format json is BETA and disabled, see LoggingBetaOptions feature",
                ));
            }
            if !logging.vmodule.is_empty() {
                errors.push(FieldError::forbidden("logging.vmodule", "Only supported for text log format"));
            }
        }
        other => errors.push(FieldError::invalid(
            "logging.format",
            format_args!("{other:?}"),
            "Unsupported log format",
        )),
    }
    if logging.flush_frequency <= crate::flags::GoDuration::ZERO {
        let value = format!("\"{}\"", logging.flush_frequency);
        errors.push(FieldError::invalid("logging.flushFrequency", value, "Must be greater than zero"));
    }
    check_verbosity("logging.verbosity", logging.verbosity, &mut errors);
    check_patterns(logging, &mut errors);
    if !gates.enabled("LoggingAlphaOptions") {
        check_alpha("text", &logging.options.text, &mut errors);
        check_alpha("json", &logging.options.json, &mut errors);
    }
    errors
}

fn check_verbosity(path: &str, verbosity: u32, errors: &mut Vec<FieldError>) {
    if verbosity > MAX_VERBOSITY {
        let text = format!("Must be less than or equal to {MAX_VERBOSITY}");
        errors.push(FieldError::invalid(path, verbosity, &text));
    }
}

fn check_patterns(logging: &LoggingFile, errors: &mut Vec<FieldError>) {
    for (index, entry) in logging.vmodule.iter().enumerate() {
        let path = format!("logging.vmodule[{index}]");
        let pattern = &entry.file_pattern;
        if pattern.is_empty() {
            errors.push(FieldError::required(&path, "File pattern must not be empty"));
        } else if pattern.contains(['=', ',']) {
            let text = "File pattern must not contain equal sign or comma";
            errors.push(FieldError::invalid(&path, format_args!("{pattern:?}"), text));
        }
        check_verbosity(&path, entry.verbosity, errors);
    }
}

fn check_alpha(format: &str, output: &OutputFile, errors: &mut Vec<FieldError>) {
    let buffered = output.info_buffer_size.bytes().any(|b| matches!(b, b'1'..=b'9'));
    for (field, used) in [("splitStream", output.split_stream), ("infoBufferSize", buffered)] {
        if used {
            let path = format!("logging.options.{format}.{field}");
            errors.push(FieldError::forbidden(&path, "Feature LoggingAlphaOptions is disabled"));
        }
    }
}
