//! Asking a sandbox for something.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::super::RuntimeError;
use super::folder::{PodFolder, SOCKET};
use super::protocol::{self, Reply, Request};

/// For whatever a sandbox does at once, on a machine that is busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks, and waits for the answer.
pub(super) fn ask(
    pod: &PodFolder,
    request: &Request,
    files: &[OwnedFd],
    limit: Duration,
) -> Result<(Reply, Vec<OwnedFd>), RuntimeError> {
    let answer = (|| {
        let socket = connect(pod)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(limit))?;
        protocol::send(&socket, request, &protocol::borrow(files))?;
        protocol::receive(&socket)
    })();
    match answer {
        Ok(Some((Reply::Failed(failure), _))) => Err(failure.into()),
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(gone(pod)),
        Err(_) if !pod.is_alive() => Err(gone(pod)),
        Err(source) => {
            Err(RuntimeError::Io { doing: format!("asking the sandbox in {}", pod.path().display()), source })
        }
    }
}

fn connect(pod: &PodFolder) -> io::Result<UnixStream> {
    // Addresses of Unix sockets are at most 108 bytes long, and the folder may be deep: by way of a descriptor they are not.
    let folder = File::open(pod.path())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}

fn gone(pod: &PodFolder) -> RuntimeError {
    RuntimeError::State {
        what: format!(
            "the sandbox in {} has ended, and the pod with it: make a new one",
            pod.path().display()
        ),
    }
}
