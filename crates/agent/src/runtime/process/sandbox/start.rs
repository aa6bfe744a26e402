//! Starting a container in this sandbox.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use switchyard_kernel::process::{Namespaces, ProcessHandle, spawn_in};

use super::super::super::RuntimeError;
use super::super::folder::{ContainerRecord, file_name};
use super::super::protocol::{self, Launch, Order};
use super::super::{OURSELVES, STAGE};
use super::container::{Container, Parts};
use super::log::{Log, Stream};

/// For everything up to the program itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a container; it runs when this returns.
pub(super) fn start(
    launch: Launch,
    mounts: Vec<OwnedFd>,
) -> Result<(Container, ContainerRecord), RuntimeError> {
    file_name(&launch.name)?;
    let doing = RuntimeError::doing("starting a process for the container");
    let (socket, mut child) = spawn().map_err(doing)?;
    let container = command(&launch, mounts, &socket, &child);
    let (handle, streams) = match container {
        Ok(container) => container,
        Err(error) => {
            // It may have ended by itself; either way nothing of it stays.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    let log = match Log::begin(&launch.name) {
        Ok(log) => log,
        Err(source) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(RuntimeError::Io { doing: format!("beginning the log of {}", launch.name), source });
        }
    };
    let record = ContainerRecord {
        name: launch.name.clone(),
        image: launch.image,
        restarts: launch.restarts,
        started: Timestamp::now(),
        end: None,
    };
    let container = Container::new(Parts {
        name: launch.name,
        child,
        handle,
        surroundings: launch.surroundings,
        outputs: streams.outputs,
        input: streams.input,
        log,
    });
    Ok((container, record))
}

/// A process that waits to be told what to become, the first of a process namespace.
fn spawn() -> io::Result<(UnixStream, Child)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    ours.set_write_timeout(Some(PATIENCE))?;
    let mut command = Command::new(OURSELVES);
    command.arg0("switchyard").arg(STAGE).stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    let child = spawn_in(&mut command, &[], Namespaces::CLONE_NEWPID)?;
    Ok((ours, child))
}

/// The sandbox's ends of a container's streams.
struct Streams {
    input: Option<OwnedFd>,
    outputs: Vec<(Stream, OwnedFd)>,
}

fn command(
    launch: &Launch,
    mounts: Vec<OwnedFd>,
    socket: &UnixStream,
    child: &Child,
) -> Result<(ProcessHandle, Streams), RuntimeError> {
    let doing = "holding on to the container's process";
    let handle = ProcessHandle::open(child.id()).map_err(RuntimeError::doing(doing))?;
    let gone = || RuntimeError::State { what: "the container's process ended at once".to_owned() };
    let handle = handle.ok_or_else(gone)?;
    let (mut streams, mut files) = if launch.tty {
        (Streams { input: None, outputs: Vec::new() }, Vec::new())
    } else {
        pipes(launch.stdin).map_err(RuntimeError::doing("making pipes"))?
    };
    files.extend(mounts);
    let order = Order::Container {
        program: launch.program.clone(),
        surroundings: launch.surroundings.clone(),
        tty: launch.tty,
        mounts: launch.mounts.clone(),
    };
    let terminal = protocol::command(socket, &order, &protocol::borrow(&files))?;
    streams.outputs.extend(terminal.map(|terminal| (Stream::Output, terminal)));
    Ok((handle, streams))
}

/// Pipes: the sandbox's ends, and the container's.
fn pipes(stdin: bool) -> io::Result<(Streams, Vec<OwnedFd>)> {
    let (input, output, errors) = (io::pipe()?, io::pipe()?, io::pipe()?);
    let streams = Streams {
        input: stdin.then(|| input.1.into()),
        outputs: vec![(Stream::Output, output.0.into()), (Stream::Errors, errors.0.into())],
    };
    Ok((streams, vec![input.0.into(), output.1.into(), errors.1.into()]))
}
