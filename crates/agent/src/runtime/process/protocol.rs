//! What the agent, a sandbox and the programs about to become containers say to each other, in JSON over Unix sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use switchyard_kernel::message;

use super::super::RuntimeError;
use crate::images::Program;

/// What the agent asks of a sandbox: one request a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Whether it is there.
    Ping,
    /// Starts a container. With the request come its mounts, detached, in the order of [`Launch::mounts`].
    Start(Launch),
    /// Answered when the container has ended.
    Stop { name: String, grace: Duration },
    /// For a command to be run beside the container's. With the answer comes a handle of the container's first process.
    Join { name: String },
}

/// The answer to a [`Request`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Done,
    Joined(Surroundings),
    Failed(Failure),
}

/// A container to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) restarts: u32,
    pub(super) program: Program,
    pub(super) surroundings: Surroundings,
    /// A pipe for input that never ends, instead of none.
    pub(super) stdin: bool,
    pub(super) tty: bool,
    /// Where inside the mounts are to be seen.
    pub(super) mounts: Vec<PathBuf>,
}

/// What a container and the commands in it have in common.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Surroundings {
    pub(super) env: Vec<(String, String)>,
    pub(super) working_dir: Option<String>,
}

/// What a new process of ours is told to become.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The first of a container. Files: its three streams unless it gets a terminal, then the mounts.
    Container { program: Program, surroundings: Surroundings, tty: bool, mounts: Vec<PathBuf> },
    /// A command in a container. Files: a handle of the container's first process, and the streams likewise.
    Command { program: Program, surroundings: Surroundings, tty: bool },
}

/// What a new process of ours tells of itself. The connection closes when it has become the other program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// With it comes its terminal.
    Terminal,
    /// Everything but the program itself is there.
    Ready,
    Failed(Failure),
}

/// A [`RuntimeError`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Command { program: String, source: Cause },
    State(String),
    Io { doing: String, source: Cause },
}

/// An [`io::Error`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Cause {
    code: Option<i32>,
    text: String,
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        Cause { code: error.raw_os_error(), text: error.to_string() }
    }
}

impl From<Cause> for io::Error {
    fn from(cause: Cause) -> io::Error {
        cause.code.map_or_else(|| io::Error::other(cause.text), io::Error::from_raw_os_error)
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Failure {
        match error {
            RuntimeError::Command { program, source } => Failure::Command { program, source: source.into() },
            RuntimeError::Io { doing, source } => Failure::Io { doing, source: source.into() },
            other => Failure::State(other.to_string()),
        }
    }
}

impl From<Failure> for RuntimeError {
    fn from(failure: Failure) -> RuntimeError {
        match failure {
            Failure::Command { program, source } => RuntimeError::Command { program, source: source.into() },
            Failure::Io { doing, source } => RuntimeError::Io { doing, source: source.into() },
            Failure::State(what) => RuntimeError::State { what },
        }
    }
}

/// Sends one of the above.
pub(super) fn send<T: Serialize>(socket: &UnixStream, value: &T, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    message::send(socket, &serde_json::to_vec(value)?, files)
}

/// Receives one of the above and the files that came with it; `None` once the other side has closed.
pub(super) fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let Some(message) = message::receive(socket)? else { return Ok(None) };
    Ok(Some((serde_json::from_slice(&message.bytes)?, message.files)))
}

/// Tells a new process of ours what to become, waits until it has, and gives its terminal if it was to have one.
pub(super) fn command(
    socket: &UnixStream,
    order: &Order,
    files: &[BorrowedFd<'_>],
) -> Result<Option<OwnedFd>, RuntimeError> {
    let what = "starting a program in the pod";
    send(socket, order, files).map_err(RuntimeError::doing(what))?;
    let (mut terminal, mut ready) = (None, false);
    // The kernel closes its end when it becomes the other program, or when it is ended.
    while let Some((report, files)) = receive(socket).map_err(RuntimeError::doing(what))? {
        match report {
            Report::Terminal => terminal = files.into_iter().next(),
            Report::Ready => ready = true,
            Report::Failed(failure) => return Err(failure.into()),
        }
    }
    if ready {
        return Ok(terminal);
    }
    Err(RuntimeError::State { what: format!("{what}: it was ended before it could begin") })
}

/// Borrows files, for a message.
pub(super) fn borrow(files: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    files.iter().map(AsFd::as_fd).collect()
}
