//! `--version`: which Kubernetes release this proxy stands in for, and how it says so.

use super::number::parse_bool;

/// The version that the proxy reports: the Kubernetes release it replaces, and its own after the `+`.
pub const KUBERNETES_VERSION: &str = concat!("v1.36.2+switchyard.", env!("CARGO_PKG_VERSION"));

/// What `--version` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VersionRequest {
    /// Run.
    None,
    /// `--version`: one line, then exit.
    Print,
    /// `--version=raw`: the structure in Go syntax, then exit.
    Raw,
    /// `--version=v1.36.2-x`: report this instead, and run.
    Override(String),
}

/// Reads the flag's value; the error is the flag error's reason.
pub(crate) fn parse_request(text: &str) -> Result<VersionRequest, String> {
    if text == "raw" {
        return Ok(VersionRequest::Raw);
    }
    if text.starts_with('v') {
        if release(text) == release(KUBERNETES_VERSION) {
            return Ok(VersionRequest::Override(text.to_owned()));
        }
        return Err(format!(
            "requested version {text:?} must match major/minor/patch of default version {KUBERNETES_VERSION:?}"
        ));
    }
    Ok(if parse_bool(text)? { VersionRequest::Print } else { VersionRequest::None })
}

/// `major.minor.patch` of a version, without what follows.
fn release(version: &str) -> &str {
    version.split(['-', '+']).next().unwrap_or(version)
}

/// The full version structure in Go syntax, as `--version=raw` prints it.
pub fn raw_version() -> String {
    let platform = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        _ => "linux/unknown",
    };
    format!(
        "version.Info{{Major:\"1\", Minor:\"36\", EmulationMajor:\"\", EmulationMinor:\"\", \
         MinCompatibilityMajor:\"\", MinCompatibilityMinor:\"\", GitVersion:\"{KUBERNETES_VERSION}\", \
         GitCommit:\"\", GitTreeState:\"\", BuildDate:\"\", GoVersion:\"\", Compiler:\"rustc\", \
         Platform:\"{platform}\"}}"
    )
}
