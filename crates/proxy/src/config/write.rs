//! Writes the effective configuration out: as a file for `--write-config-to`, as JSON for `/configz`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::KubeProxyConfiguration;
use super::complete::reason;

/// The configuration could not be written; nothing half-written is left behind.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the configuration to {}: {}", path.display(), reason(source))]
pub struct WriteError {
    /// Where it should have gone.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

/// The configuration as YAML, keys in alphabetical order.
pub fn to_yaml(file: &KubeProxyConfiguration) -> String {
    // Writing plain structs to memory has no way to fail.
    serde_saphyr::to_string(file).unwrap_or_default()
}

/// The body of `/configz`.
pub fn configz(file: &KubeProxyConfiguration) -> Value {
    json!({ "kubeproxy.config.k8s.io": file })
}

/// Writes the configuration to `path`: whole, or not at all if the disk is full or the path not writable.
pub fn write_to(path: &Path, file: &KubeProxyConfiguration) -> Result<(), WriteError> {
    write_whole(path, to_yaml(file).as_bytes()).map_err(|source| WriteError { path: path.to_owned(), source })
}

fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    // Behind a link the file itself is replaced; a pipe or device such as /dev/stdout takes the text as it is.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
        return File::options().write(true).open(&target)?.write_all(content);
    }
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = target.with_file_name(name);
    let written = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, &target));
    if written.is_err() {
        // Best effort: the error that counts is the one above.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all() // some file systems report a full disk only here
}
