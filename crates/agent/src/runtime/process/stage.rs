//! A new process of ours on its way to become the program of a container, or a command in one.
//!
//! It is told what to become over a socket on its standard input, moves where that belongs, gives up its privileges, and
//! tells over the socket how it went. The kernel closes the socket when the other program takes over.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, gethostname, setgroups, setsid};
use switchyard_kernel::process::{
    Capabilities, Namespaces, ProcessHandle, Terminal, give_up_privileges, reset_signals,
};

use super::super::RuntimeError;
use super::protocol::{self, Failure, Order, Report, Surroundings};
use super::{OURSELVES, view};
use crate::images::Program;

/// How programs are found where a container's own environment says nothing else, as in container images.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is left of the superuser's privileges. Fewer than container runtimes leave: no making of devices, no change of root,
/// and no reading of files that belong to others, since the files are the host's.
const CAPABILITIES: Capabilities = Capabilities::CHOWN
    .union(Capabilities::FOWNER)
    .union(Capabilities::FSETID)
    .union(Capabilities::KILL)
    .union(Capabilities::NET_BIND_SERVICE)
    .union(Capabilities::NET_RAW)
    .union(Capabilities::SETGID)
    .union(Capabilities::SETUID);

/// Whoever started this process tells it at once what to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// The hidden command `agent-stage`.
pub(super) fn main() -> ExitCode {
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitCode::FAILURE;
    };
    let error = match become_another(&socket) {
        Ok(()) => return ExitCode::FAILURE,
        Err(error) => error,
    };
    // If nobody listens any more there is nobody to tell.
    let _ = protocol::send(&socket, &Report::Failed(Failure::from(error)), &[]);
    ExitCode::FAILURE
}

/// Returns only if there is nothing to become, or it failed.
fn become_another(socket: &UnixStream) -> Result<(), RuntimeError> {
    let hearing = "hearing what to run";
    socket.set_read_timeout(Some(PATIENCE)).map_err(RuntimeError::doing(hearing))?;
    let Some((order, files)) = protocol::receive(socket).map_err(RuntimeError::doing(hearing))? else {
        return Ok(());
    };
    let (program, surroundings, tty, streams) = match order {
        Order::Container { program, surroundings, tty, mounts } => {
            let streams = if tty { 0 } else { 3 };
            let (streams, mounted) = split(files, streams)?;
            view::enter_container(&mounts, &mounted)?;
            (program, surroundings, tty, streams)
        }
        Order::Command { program, surroundings, tty } => {
            let (container, streams) = split(files, 1)?;
            for container in container {
                join(&ProcessHandle::from(container))?;
            }
            (program, surroundings, tty, streams)
        }
    };
    settle(&surroundings)?;
    if tty {
        take_terminal(socket)?;
    } else {
        take_streams(&streams)?;
    }
    give_up_privileges(CAPABILITIES).map_err(RuntimeError::doing("giving up privileges"))?;
    let doing = "telling that everything is ready";
    protocol::send(socket, &Report::Ready, &[]).map_err(RuntimeError::doing(doing))?;
    Err(execute(program, &surroundings, tty))
}

/// Into the namespaces of a container; it is in the process namespace already.
fn join(container: &ProcessHandle) -> Result<(), RuntimeError> {
    let kinds = Namespaces::CLONE_NEWNS
        | Namespaces::CLONE_NEWNET
        | Namespaces::CLONE_NEWUTS
        | Namespaces::CLONE_NEWIPC;
    container.enter(kinds).map_err(RuntimeError::doing("joining the container, which has to be running"))
}

fn settle(surroundings: &Surroundings) -> Result<(), RuntimeError> {
    umask(Mode::from_bits_truncate(0o022));
    reset_signals().map_err(RuntimeError::doing("setting signals to what they do by default"))?;
    setgroups(&[]).map_err(io::Error::from).map_err(RuntimeError::doing("leaving the agent's groups"))?;
    let folder = surroundings.working_dir.as_deref().filter(|folder| !folder.is_empty()).unwrap_or("/");
    chdir(Path::new(folder))
        .map_err(io::Error::from)
        .map_err(RuntimeError::doing(format!("changing to the working directory {folder}")))
}

fn take_terminal(socket: &UnixStream) -> Result<(), RuntimeError> {
    let doing = "making a terminal";
    let terminal = Terminal::become_terminal().map_err(RuntimeError::doing(doing))?;
    protocol::send(socket, &Report::Terminal, &[terminal.as_fd()]).map_err(RuntimeError::doing(doing))
}

fn take_streams(streams: &[OwnedFd]) -> Result<(), RuntimeError> {
    let take = || {
        let [input, output, errors] = streams else { return Err(nix::Error::EBADMSG) };
        dup2_stdin(input)?;
        dup2_stdout(output)?;
        dup2_stderr(errors)?;
        // Signals that are typed where the agent runs are not meant for it.
        setsid().map(drop)
    };
    take().map_err(io::Error::from).map_err(RuntimeError::doing("connecting the program's streams"))
}

/// Becomes the program; returns only if that fails.
fn execute(program: Program, surroundings: &Surroundings, tty: bool) -> RuntimeError {
    let (name, mut command) = match &program {
        Program::BuiltIn(words) => {
            let mut command = Command::new(OURSELVES);
            command.arg0("switchyard").arg(crate::images::COMMAND).args(words);
            (words.first(), command)
        }
        Program::Host(words) => {
            let name = words.first();
            let mut command = Command::new(name.map_or("", String::as_str));
            command.args(words.iter().skip(1));
            (name, command)
        }
    };
    command.env_clear().env("PATH", SEARCH_PATH).env("HOME", "/root");
    if let Ok(hostname) = gethostname() {
        command.env("HOSTNAME", hostname);
    }
    if tty {
        command.env("TERM", "xterm");
    }
    command.envs(surroundings.env.iter().map(|(name, value)| (name, value)));
    let source = command.exec();
    RuntimeError::Command { program: name.cloned().unwrap_or_default(), source }
}

fn split(mut files: Vec<OwnedFd>, at: usize) -> Result<(Vec<OwnedFd>, Vec<OwnedFd>), RuntimeError> {
    if files.len() < at {
        return Err(RuntimeError::State { what: "files are missing in what was to be run".to_owned() });
    }
    let rest = files.split_off(at);
    Ok((files, rest))
}
