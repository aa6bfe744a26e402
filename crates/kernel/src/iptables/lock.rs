//! The xtables lock, for versions of iptables-restore that do not take it themselves.
//!
//! Newer versions lock the file, older ones (before 1.4.21) an abstract socket; holding both keeps out either.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::IptablesError;

const PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(200);
const SOCKET: &[u8] = b"xtables";
pub(super) const FILE: &str = "/run/xtables.lock";

/// Held until dropped.
#[derive(Debug)]
pub(super) struct XtablesLock {
    _file: Flock<File>,
    _socket: UnixListener,
}

impl XtablesLock {
    /// Waits up to two seconds for each of the two locks.
    pub(super) fn take(path: &Path) -> Result<XtablesLock, IptablesError> {
        let name = path.display().to_string();
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let mut file =
            open.map_err(|source| IptablesError::Io { command: format!("opening {name}"), source })?;
        let deadline = Instant::now() + PATIENCE;
        let file = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => break locked,
                Err((returned, Errno::EWOULDBLOCK)) => file = returned,
                Err((_, errno)) => {
                    return Err(IptablesError::Io {
                        command: format!("locking {name}"),
                        source: errno.into(),
                    });
                }
            }
            wait_until(deadline, &name)?;
        };
        let deadline = Instant::now() + PATIENCE;
        let socket = loop {
            match SocketAddr::from_abstract_name(SOCKET).and_then(|address| UnixListener::bind_addr(&address))
            {
                Ok(bound) => break bound,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => wait_until(deadline, "@xtables")?,
                Err(source) => {
                    return Err(IptablesError::Io { command: "binding @xtables".to_owned(), source });
                }
            }
        };
        Ok(XtablesLock { _file: file, _socket: socket })
    }
}

fn wait_until(deadline: Instant, lock: &str) -> Result<(), IptablesError> {
    if Instant::now() >= deadline {
        return Err(IptablesError::LockBusy { lock: lock.to_owned(), seconds: PATIENCE.as_secs() });
    }
    std::thread::sleep(RETRY);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_reported_as_busy_and_free_again_once_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = XtablesLock::take(&path).unwrap();
        assert!(XtablesLock::take(&path).unwrap_err().is_lock_busy());
        drop(held);
        XtablesLock::take(&path).unwrap();
    }
}
