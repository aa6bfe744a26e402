//! The sandbox of a pod: the first process of its namespaces, which starts its containers and outlives the agent.
//!
//! It is one thread that waits for requests, output and ends, and keeps next to nothing in memory, since there is one a pod.
//! If it ends, by whatever means, the kernel ends every process of the pod.

mod container;
mod log;
mod start;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{dup2_stdout, sethostname};
use switchyard_kernel::process::ProcessHandle;
use switchyard_kernel::wait::timeout_until;

use super::super::RuntimeError;
use super::folder::{self, ContainerRecord, ProcessId, Record};
use super::protocol::{self, Failure, Reply, Report, Request};
use super::view;
use container::{Container, Happened};

/// An agent that connects says at once what it wants, and reads the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The hidden command `agent-sandbox FOLDER`. Its standard input is the locked file that it lives by, its standard output a
/// socket on which it tells once how its start went.
pub(super) fn main(folder: &Path) -> ExitCode {
    let Ok(starter) = io::stdout().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitCode::FAILURE;
    };
    let (report, code, sandbox) = match Sandbox::new(folder) {
        Ok(sandbox) => (Report::Ready, ExitCode::SUCCESS, Some(sandbox)),
        Err(error) => (Report::Failed(Failure::from(error)), ExitCode::FAILURE, None),
    };
    // An agent that was killed meanwhile finds the sandbox when it starts again.
    let _ = protocol::send(&starter, &report, &[]);
    drop(starter);
    if let Some(mut sandbox) = sandbox {
        let error = sandbox.run();
        let _ = writeln!(io::stderr(), "the sandbox ends, and with it the pod: {error}");
        return ExitCode::FAILURE;
    }
    code
}

struct Sandbox {
    listener: UnixListener,
    /// Those that run, and those whose end nobody wrote down yet.
    running: Vec<Container>,
    /// The newest of each name.
    records: Vec<ContainerRecord>,
    /// The locked file: written to when a container ended, which the agent watches.
    alive: File,
}

impl Sandbox {
    /// Becomes the sandbox of the pod whose folder this is.
    fn new(folder: &Path) -> Result<Sandbox, RuntimeError> {
        let doing = |what: &'static str| RuntimeError::doing(what);
        write_identity(folder).map_err(doing("writing down the sandbox's process"))?;
        let alive =
            io::stdin().as_fd().try_clone_to_owned().map_err(doing("holding on to the sandbox's lock"))?;
        let record: Option<Record> =
            folder::read(&folder.join(folder::RECORD)).map_err(doing("reading the record"))?;
        let Some(record) = record else {
            return Err(RuntimeError::State { what: format!("{} holds no pod", folder.display()) });
        };
        let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
        unshare(own).map_err(io::Error::from).map_err(doing("making the pod's namespaces"))?;
        sethostname(&record.hostname)
            .map_err(io::Error::from)
            .map_err(doing("setting the pod's host name"))?;
        view::enter_pod_root(folder, &record.hidden)?;
        // By a relative path: what may be bound is at most 108 bytes long.
        let listener = UnixListener::bind(folder::SOCKET).map_err(doing("listening for the agent"))?;
        let nothing = File::options().write(true).open("/dev/null").map_err(doing("opening /dev/null"))?;
        dup2_stdout(&nothing).map_err(io::Error::from).map_err(doing("letting go of the agent"))?;
        Ok(Sandbox { listener, running: Vec::new(), records: Vec::new(), alive: File::from(alive) })
    }

    /// Serves the pod for as long as it lives; an error ends it.
    fn run(&mut self) -> io::Error {
        loop {
            let happened = match self.wait() {
                Ok(happened) => happened,
                Err(error) => return error,
            };
            for (index, event) in happened.containers {
                self.running[index].take(event);
            }
            self.put_down_ends();
            if happened.request
                && let Ok((connection, _)) = self.listener.accept()
            {
                // Whoever goes away or says nonsense in between does no harm.
                let _ = self.serve(connection);
            }
        }
    }

    /// Waits for something to do. Containers whose time is up are ended here.
    fn wait(&mut self) -> io::Result<Ready> {
        let now = Instant::now();
        for container in &mut self.running {
            container.act_if_due(now);
        }
        let mut files = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let mut sources = Vec::new();
        for (index, container) in self.running.iter().enumerate() {
            for (file, event) in container.sources() {
                files.push(PollFd::new(file, PollFlags::POLLIN));
                sources.push((index, event));
            }
        }
        let due = self.running.iter().filter_map(Container::due).min();
        let timeout = due.map_or(PollTimeout::NONE, timeout_until);
        match poll(&mut files, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = files.iter().map(|file| file.any().unwrap_or(false));
        let request = ready.next().unwrap_or(false);
        let containers = sources.into_iter().zip(ready).filter_map(|(source, ready)| ready.then_some(source));
        Ok(Ready { request, containers: containers.collect() })
    }

    /// Writes down which containers ended, tells the agent, and answers those who asked for it; in this order, so that whoever
    /// hears of an end can read about it.
    fn put_down_ends(&mut self) {
        let (ended, running) = std::mem::take(&mut self.running).into_iter().partition(Container::has_ended);
        self.running = running;
        let ended: Vec<Container> = ended;
        if ended.is_empty() {
            return;
        }
        for container in &ended {
            let record = self.records.iter_mut().find(|record| record.name == container.name());
            if let Some(record) = record {
                record.end = container.end();
            }
        }
        self.write_records();
        // Cut to the length that it has, which watchers are told of like any other change.
        let _ = self.alive.set_len(0);
        for container in ended {
            container.answer_those_who_wait();
        }
    }

    fn write_records(&self) {
        if let Err(error) = folder::replace(Path::new(folder::CONTAINERS), &self.records) {
            // The agent goes on believing what it read last; there is no other way to it.
            let _ = writeln!(io::stderr(), "{}: {error}", folder::CONTAINERS);
        }
    }

    /// Carries out one request.
    fn serve(&mut self, connection: UnixStream) -> io::Result<()> {
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        // A process that this process namespace does not know has number 0 here: it is not one of the pod's.
        let peer = getsockopt(&connection, PeerCredentials)?;
        if peer.uid() != 0 || peer.pid() != 0 {
            return Ok(());
        }
        let Some((request, files)) = protocol::receive(&connection)? else { return Ok(()) };
        let answer = match request {
            Request::Ping => Ok((Reply::Done, None)),
            Request::Start(launch) => self.start(launch, files).map(|()| (Reply::Done, None)),
            Request::Join { name } => self.join(&name),
            Request::Stop { name, grace } => match self.find(&name) {
                Some(container) => {
                    container.ask_to_end(Instant::now() + grace, connection);
                    return Ok(());
                }
                None => self.known(&name).map(|()| (Reply::Done, None)),
            },
        };
        let (reply, file) = answer.unwrap_or_else(|error| (Reply::Failed(Failure::from(error)), None));
        protocol::send(&connection, &reply, &file.iter().map(AsFd::as_fd).collect::<Vec<_>>())
    }

    fn start(&mut self, launch: protocol::Launch, mounts: Vec<OwnedFd>) -> Result<(), RuntimeError> {
        if self.find(&launch.name).is_some() {
            return Err(RuntimeError::State {
                what: format!("container {:?} is running already", launch.name),
            });
        }
        let (container, record) = start::start(launch, mounts)?;
        self.records.retain(|older| older.name != record.name);
        self.records.push(record);
        self.running.push(container);
        self.write_records();
        Ok(())
    }

    fn join(&mut self, name: &str) -> Result<(Reply, Option<OwnedFd>), RuntimeError> {
        let Some(container) = self.find(name) else {
            self.known(name)?;
            return Err(RuntimeError::State { what: format!("container {name:?} is not running") });
        };
        let handle = container.handle().map_err(RuntimeError::doing("copying the container's handle"))?;
        Ok((Reply::Joined(container.surroundings().clone()), Some(handle)))
    }

    fn find(&mut self, name: &str) -> Option<&mut Container> {
        self.running.iter_mut().find(|container| container.name() == name)
    }

    fn known(&self, name: &str) -> Result<(), RuntimeError> {
        if self.records.iter().any(|record| record.name == name) {
            return Ok(());
        }
        Err(RuntimeError::State { what: format!("the pod has no container {name:?}") })
    }
}

/// What there is to do.
struct Ready {
    request: bool,
    /// Which container, and what of it.
    containers: Vec<(usize, Happened)>,
}

/// Writes down which process this is, for whoever will have to end it. Read from the agent's `/proc`, whose numbers those are.
fn write_identity(folder: &Path) -> io::Result<()> {
    let own: PathBuf = std::fs::read_link("/proc/self")?;
    let id = own.to_string_lossy().parse().map_err(io::Error::other)?;
    let Some(start_time) = ProcessHandle::start_time(id) else { return Err(io::ErrorKind::NotFound.into()) };
    folder::replace(&folder.join(folder::PROCESS), &ProcessId { id, start_time })
}
