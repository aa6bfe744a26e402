//! Commands in containers, for `kubectl exec` and probes: children of the agent that live in the container's namespaces.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use switchyard_kernel::process::{Namespaces, ProcessHandle, Terminal, spawn_in};
use switchyard_kernel::wait::readable;

use super::super::{Process, RuntimeError, Streams};
use super::protocol::{self, Order, Surroundings};
use super::{OURSELVES, STAGE};
use crate::images::Program;

/// For everything up to the command itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waiting has no end; it is taken up again after this.
const A_WHILE: Duration = Duration::from_secs(3600);

/// A command that runs in a container.
#[derive(Debug)]
pub(super) struct Command {
    /// Waited for by whoever has the lock, and only when it has ended: its number is its own until then.
    child: Mutex<Child>,
    handle: ProcessHandle,
    terminal: Option<Terminal>,
    streams: Option<Streams>,
}

impl Command {
    /// Starts a command beside the first process of a container.
    pub(super) fn start(
        container: OwnedFd,
        program: Program,
        surroundings: Surroundings,
        tty: bool,
    ) -> Result<Command, RuntimeError> {
        let doing = "starting a command in the container, which has to be running";
        let (child, handle, socket) = spawn(&container).map_err(RuntimeError::doing(doing))?;
        let mut command = Command { child: Mutex::new(child), handle, terminal: None, streams: None };
        let mut files = vec![container];
        if !tty {
            let (ours, theirs) = pipes().map_err(RuntimeError::doing("making pipes"))?;
            command.streams = Some(ours);
            files.extend(theirs);
        }
        let order = Order::Command { program, surroundings, tty };
        // Dropped on failure, it takes what was started along.
        let terminal = protocol::command(&socket, &order, &protocol::borrow(&files))?;
        command.terminal = terminal.map(Terminal::from);
        if let Some(terminal) = &command.terminal {
            let clone = || terminal.try_clone().map_err(RuntimeError::doing("copying the terminal"));
            command.streams = Some(Streams { input: clone()?, output: clone()?, errors: None });
        }
        Ok(command)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process for Command {
    fn streams(&mut self) -> Option<Streams> {
        self.streams.take()
    }

    fn resize(&self, columns: u16, rows: u16) -> Result<(), RuntimeError> {
        let none = || RuntimeError::State { what: "the command has no terminal".to_owned() };
        let terminal = self.terminal.as_ref().ok_or_else(none)?;
        terminal.resize(columns, rows).map_err(RuntimeError::doing("setting the size of the terminal"))
    }

    fn wait(&self) -> Result<i32, RuntimeError> {
        let wait = || {
            // Not within the lock, which those need who want to end it.
            while !readable(&self.handle, Instant::now() + A_WHILE)? {}
            self.child().wait()
        };
        let status = wait().map_err(RuntimeError::doing("waiting for the command"))?;
        Ok(status.signal().map_or_else(|| status.code().unwrap_or(-1), |signal| 128 + signal))
    }

    fn end(&self) {
        let mut child = self.child();
        if let Ok(None) = child.try_wait()
            && let Ok(id) = i32::try_from(child.id())
        {
            // It leads a session, so its group has its number; before that it is alone.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
            let _ = child.kill();
        }
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.end();
        let _ = self.child().wait();
    }
}

/// A process that waits to be told what to become, in the process namespace of the container.
fn spawn(container: &OwnedFd) -> io::Result<(Child, ProcessHandle, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    ours.set_write_timeout(Some(PATIENCE))?;
    let mut command = process::Command::new(OURSELVES);
    command.arg0("switchyard").arg(STAGE).env_clear().current_dir("/");
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    let enter = [(container.as_fd(), Namespaces::CLONE_NEWPID)];
    let mut child = spawn_in(&mut command, &enter, Namespaces::empty())?;
    match ProcessHandle::open(child.id()) {
        Ok(Some(handle)) => Ok((child, handle, ours)),
        result => {
            let _ = child.kill();
            let _ = child.wait();
            Err(result.err().unwrap_or_else(|| io::ErrorKind::NotFound.into()))
        }
    }
}

/// Pipes: the caller's ends, and the command's.
fn pipes() -> io::Result<(Streams, [OwnedFd; 3])> {
    let (input, output, errors) = (io::pipe()?, io::pipe()?, io::pipe()?);
    let ours = Streams { input: input.1.into(), output: output.0.into(), errors: Some(errors.0.into()) };
    Ok((ours, [input.0.into(), output.1.into(), errors.1.into()]))
}
