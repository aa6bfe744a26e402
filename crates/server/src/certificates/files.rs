//! Files that nobody else may read, written whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{CertificateError, Pair};

pub(super) fn make_directory(path: &Path) -> Result<(), CertificateError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| CertificateError::file("making the directory", path, error))
}

/// `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, CertificateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CertificateError::file("reading", path, error)),
    }
}

/// `None` unless both are there.
pub(super) fn read_pair(certificate: &Path, key: &Path) -> Result<Option<Pair>, CertificateError> {
    let (found, found_key) = (read(certificate)?, read(key)?);
    Ok(found.zip(found_key).map(|(certificate, key)| Pair { certificate, key }))
}

/// The key first: a certificate without its key is made anew, but what has both is taken to belong together.
pub(super) fn write_pair(certificate: &Path, key: &Path, pair: &Pair) -> Result<(), CertificateError> {
    if let Err(error) = fs::remove_file(certificate)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(CertificateError::file("replacing", certificate, error));
    }
    write_private(key, pair.key.as_bytes())?;
    write_private(certificate, pair.certificate.as_bytes())
}

/// Writes a file with mode 0600; readers see the old one or the new one.
///
/// # Errors
/// When it cannot be written; the old one is untouched then.
pub fn write_private(path: &Path, contents: &[u8]) -> Result<(), CertificateError> {
    replace(path, contents).map_err(|error| CertificateError::file("writing", path, error))
}

fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = beside(path);
    let result = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // The name is only safe when the directory is.
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(directory)?.sync_all()
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:08x}.new", rand::random::<u32>()));
    path.with_file_name(name)
}
