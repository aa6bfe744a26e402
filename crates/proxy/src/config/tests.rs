//! From words and files to the effective configuration, as operators meet it.

mod decoding;
mod precedence;
mod validation;
mod writing;

use std::io::Write as _;

use super::*;
use crate::flags;

const HEADER: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

/// Completes a command line.
fn complete_line(line: &str) -> Result<Completed, ConfigError> {
    let words: Vec<_> = line
        .split_whitespace()
        .map(|word| if word == "''" { String::new() } else { word.to_owned() })
        .collect();
    complete(&flags::parse("kube-proxy", &words).unwrap_or_else(|exit| panic!("{line}: {}", exit.stderr)))
}

/// A configuration file of the given fields, complete but for the two header lines.
fn file_of(fields: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{HEADER}{fields}").unwrap();
    file
}

/// Completes a file of these fields, with more flags beside it.
fn complete_file(fields: &str, line: &str) -> Result<Completed, ConfigError> {
    let file = file_of(fields);
    complete_line(&format!("--config {} {line}", file.path().display()))
}

fn from_line(line: &str) -> Configuration {
    validate(&complete_line(line).unwrap()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn from_file(fields: &str, line: &str) -> Configuration {
    validate(&complete_file(fields, line).unwrap()).unwrap_or_else(|error| panic!("{fields}: {error}"))
}
