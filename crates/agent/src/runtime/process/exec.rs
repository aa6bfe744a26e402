//! Commands in containers, for `kubectl exec` and probes: children of the agent that live in the container's namespaces.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use switchyard_kernel::process::{Namespaces, Terminal, spawn_in};

use super::super::{Process, RuntimeError, Streams};
use super::protocol::{self, Order, Surroundings};
use super::{OURSELVES, STAGE};
use crate::images::Program;

/// For everything up to the command itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// A command that runs in a container.
#[derive(Debug)]
pub(super) struct Command {
    child: Child,
    terminal: Option<Terminal>,
    streams: Option<Streams>,
    ended: bool,
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
        let (child, socket) = spawn(&container).map_err(RuntimeError::doing(doing))?;
        let mut command = Command { child, terminal: None, streams: None, ended: false };
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
}

impl Process for Command {
    fn streams(&mut self) -> Option<Streams> {
        self.streams.take()
    }

    fn resize(&mut self, columns: u16, rows: u16) -> Result<(), RuntimeError> {
        let none = || RuntimeError::State { what: "the command has no terminal".to_owned() };
        let terminal = self.terminal.as_ref().ok_or_else(none)?;
        terminal.resize(columns, rows).map_err(RuntimeError::doing("setting the size of the terminal"))
    }

    fn wait(&mut self) -> Result<i32, RuntimeError> {
        let status = self.child.wait().map_err(RuntimeError::doing("waiting for the command"))?;
        self.ended = true;
        Ok(status.signal().map_or_else(|| status.code().unwrap_or(-1), |signal| 128 + signal))
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // It leads a session, so its group has its number; before that it is alone.
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that waits to be told what to become, in the process namespace of the container.
fn spawn(container: &OwnedFd) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    ours.set_write_timeout(Some(PATIENCE))?;
    let mut command = process::Command::new(OURSELVES);
    command.arg0("switchyard").arg(STAGE).env_clear().current_dir("/");
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    let enter = [(container.as_fd(), Namespaces::CLONE_NEWPID)];
    Ok((spawn_in(&mut command, &enter, Namespaces::empty())?, ours))
}

/// Pipes: the caller's ends, and the command's.
fn pipes() -> io::Result<(Streams, [OwnedFd; 3])> {
    let (input, output, errors) = (io::pipe()?, io::pipe()?, io::pipe()?);
    let ours = Streams { input: input.1.into(), output: output.0.into(), errors: Some(errors.0.into()) };
    Ok((ours, [input.0.into(), output.1.into(), errors.1.into()]))
}
