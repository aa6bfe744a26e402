//! From the command line to the exit code.

mod cleanup;
mod config_watch;
mod conntrack_settings;
mod families;
mod kernel_settings;
mod privileges;
mod servers;
mod start;

pub(crate) use kernel_settings::conntrack_is_liberal;
pub(crate) use start::live_facts;

use std::io::{self, Write};
use std::process::ExitCode;

use thiserror::Error;

use crate::config::{self, Completed, ConfigError, Configuration, LogFormat, Severity, WriteError};
use crate::flags::{Parsed, parse};
use crate::logging::{FilePattern, Format, Options};
use crate::{klog_error, klog_info, klog_warning, logging};

/// Why the proxy ended with exit code 1.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Unprivileged(#[from] privileges::Unprivileged),
    #[error(transparent)]
    Cleanup(#[from] cleanup::CleanupError),
    #[error(transparent)]
    Start(#[from] start::StartError),
}

/// Runs the proxy, or does the one-off job that its flags ask for. `program` is what the user typed, for messages.
pub fn main(program: &str, arguments: &[String]) -> ExitCode {
    let parsed = match parse(program, arguments) {
        Ok(parsed) => parsed,
        Err(exit) => {
            print(&exit.stderr, &exit.stdout);
            return ExitCode::from(exit.code);
        }
    };
    for notice in &parsed.notices {
        print(&format!("{notice}\n"), "");
    }
    match run(&parsed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            klog_error!("command failed", err = logging::error(&error));
            ExitCode::FAILURE
        }
    }
}

/// Nothing can be done about a closed stream, and it is no reason to stop.
fn print(stderr: &str, stdout: &str) {
    let _ = io::stderr().write_all(stderr.as_bytes());
    let _ = io::stdout().write_all(stdout.as_bytes());
}

fn run(parsed: &Parsed) -> Result<(), RunError> {
    let completed = config::complete(parsed)?;
    initialize_logging(&completed)?;
    for line in parsed.dump() {
        klog_info!(v = 1, line);
    }
    let config = config::validate(&completed)?;
    if let Some(path) = &config.actions.write_config_to {
        config::write_to(path, &config.file)?;
        klog_info!("Wrote configuration", file = path.display().to_string());
        return Ok(());
    }
    privileges::check()?;
    if config.actions.cleanup {
        return Ok(cleanup::cleanup()?);
    }
    serve(&config, parsed)
}

fn serve(config: &Configuration, parsed: &Parsed) -> Result<(), RunError> {
    start::run(config, parsed).map_err(|error| {
        klog_error!("Error running ProxyServer", err = logging::error(&error));
        error.into()
    })
}

fn initialize_logging(completed: &Completed) -> Result<(), ConfigError> {
    let wanted = completed.logging()?;
    let patterns = wanted.vmodule.into_iter();
    logging::install(Options {
        format: match wanted.format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
        verbosity: wanted.verbosity,
        patterns: patterns.map(|p| FilePattern { pattern: p.pattern, verbosity: p.verbosity }).collect(),
    });
    for notice in &completed.notices {
        let error = notice.error.as_deref().unwrap_or_default();
        match notice.severity {
            Severity::Warning => klog_warning!(&notice.message),
            _ if error.is_empty() => klog_info!(&notice.message),
            _ => klog_info!(&notice.message, err = error),
        }
    }
    Ok(())
}
