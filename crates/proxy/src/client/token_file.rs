//! A bearer token in a file, which the kubelet replaces before it expires.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io};

use http::HeaderValue;

use crate::klog_warning;
use crate::logging::error;

/// How long a token is used before its file is read again.
const FRESH: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    cached: Mutex<Cached>,
}

#[derive(Debug)]
struct Cached {
    header: HeaderValue,
    read: Instant,
}

impl TokenFile {
    pub(super) fn open(path: &Path) -> io::Result<TokenFile> {
        let cached = Cached { header: read(path)?, read: Instant::now() };
        Ok(TokenFile { path: path.to_owned(), cached: Mutex::new(cached) })
    }

    /// The value of the `Authorization` header. If the file cannot be read any more, the last token stays in use.
    pub(super) fn authorization(&self) -> HeaderValue {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.read.elapsed() >= FRESH {
            cached.read = Instant::now();
            match read(&self.path) {
                Ok(header) => cached.header = header,
                Err(reason) => {
                    let path = self.path.display().to_string();
                    klog_warning!("Cannot read the API token again", err = error(&reason), path = path);
                }
            }
        }
        cached.header.clone()
    }
}

/// Editors and `echo` leave a line end behind the token, which is no part of it.
fn read(path: &Path) -> io::Result<HeaderValue> {
    let token = fs::read_to_string(path)?;
    let mut header = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| io::Error::other("it holds characters that no token has"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_token_is_used_after_a_while_and_a_lost_one_stays_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let token = TokenFile::open(&path).unwrap();
        let age = |by: Duration| {
            let mut cached = token.cached.lock().unwrap();
            cached.read = cached.read.checked_sub(by).expect("the machine has been up for a minute");
        };
        fs::write(&path, "two\n").unwrap();
        assert_eq!(token.authorization(), "Bearer one");
        age(FRESH);
        assert_eq!(token.authorization(), "Bearer two");
        fs::remove_file(&path).unwrap();
        age(FRESH);
        assert_eq!(token.authorization(), "Bearer two");
    }

    #[test]
    fn a_token_of_several_lines_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "one\ntwo\n").unwrap();
        assert!(TokenFile::open(file.path()).is_err());
    }
}
