//! What the agent asks of whatever runs containers.
//!
//! A sandbox is what the containers of one pod share: its network, host name and process tree. The sandbox and its containers
//! outlive the agent: an agent that starts again finds them with [`Runtime::sandboxes`], whatever ended the one before.
//!
//! Every call blocks until it is done, and may be made from any thread.

mod error;
pub mod fake;
pub mod process;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

pub use error::RuntimeError;

/// Runs containers. Sandboxes are named by their pod's UID, containers by their name in the pod.
pub trait Runtime: Send + Sync + 'static {
    /// Makes the namespaces of a pod, without any link but a loopback that is up. Twice for one pod gives what is there already.
    ///
    /// # Errors
    /// If a namespace cannot be made; nothing of it stays then.
    fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError>;

    /// Every sandbox there is, also those of an agent that ran before; in no order.
    ///
    /// # Errors
    /// If the records of them cannot be read.
    fn sandboxes(&self) -> Result<Vec<Sandbox>, RuntimeError>;

    /// Ends what still runs in it and removes all of it, its logs included. One that is not there is no error.
    ///
    /// # Errors
    /// If something stays. Calling again goes on.
    fn remove_sandbox(&self, uid: &str) -> Result<(), RuntimeError>;

    /// Starts a container. One of that name which ended before makes room for it; its log stays until the one after.
    ///
    /// # Errors
    /// If the image is unknown and no command is given, if the command cannot be run, if one of that name is running.
    fn start_container(&self, uid: &str, spec: &ContainerSpec) -> Result<(), RuntimeError>;

    /// The newest container of each name, running or ended.
    ///
    /// # Errors
    /// If there is no such sandbox, or it does not answer.
    fn containers(&self, uid: &str) -> Result<Vec<Container>, RuntimeError>;

    /// Asks a container to end (SIGTERM), and makes it end (SIGKILL) after `grace`. Returns when it has ended; at once if it had.
    ///
    /// # Errors
    /// If there is no such container, or it does not end.
    fn stop_container(&self, uid: &str, name: &str, grace: Duration) -> Result<(), RuntimeError>;

    /// Waits until a container of any sandbox ended, or for `limit`. Ends that nobody was waiting for count for the next call.
    ///
    /// # Errors
    /// If ends cannot be watched at all.
    fn wait_for_ends(&self, limit: Duration) -> Result<(), RuntimeError>;

    /// Runs a command in a running container.
    ///
    /// # Errors
    /// If the container does not run, or the command cannot be started.
    fn exec(&self, uid: &str, name: &str, spec: &ExecSpec) -> Result<Box<dyn Process>, RuntimeError>;

    /// Connects to a port of the pod's own loopback, as port-forward does.
    ///
    /// # Errors
    /// If there is no such sandbox, or nobody listens.
    fn connect(&self, uid: &str, port: u16) -> Result<TcpStream, RuntimeError>;

    /// Where a container's output is, in the format of the container runtime interface: a line is
    /// `2026-01-02T03:04:05.678901234Z stdout F text`, with `P` for `F` where the line goes on in the next one.
    fn log(&self, uid: &str, name: &str, run: Run) -> PathBuf;
}

/// Which of a container's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    Newest,
    Previous,
}

/// What a sandbox is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    pub pod: PodName,
    /// The host name inside.
    pub hostname: String,
    /// The network namespace of the node itself, in place of one of its own.
    pub host_network: bool,
    /// Kept for whoever finds the sandbox later: the agent's own notes.
    pub annotations: BTreeMap<String, String>,
}

/// The pod a sandbox belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// A pod's namespaces, made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    pub pod: PodName,
    /// The network namespace, as a path to enter it by: CNI's `CNI_NETNS`. `None` with the node's own network.
    pub network: Option<PathBuf>,
    pub annotations: BTreeMap<String, String>,
    pub created: Timestamp,
    /// Whether it can still run containers; one whose processes were killed from outside cannot.
    pub alive: bool,
}

/// What a container is started from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    pub name: String,
    pub image: String,
    /// In place of the image's program; empty for that one.
    pub command: Vec<String>,
    /// In place of the image's arguments, if there are any or a command.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    /// How often this container was started before, as `restartCount` tells.
    pub restarts: u32,
    /// Files of the agent that the container sees, read-only: path inside, path outside.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    pub tty: bool,
    pub stdin: bool,
}

/// A container and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub restarts: u32,
    pub started: Timestamp,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Running,
    Ended(End),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Of the process; 128 and the signal's number if a signal ended it, as every runtime tells it.
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub at: Timestamp,
}

/// A command to run in a container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    pub command: Vec<String>,
    /// One terminal for input, output and errors.
    pub tty: bool,
}

/// A command that [`Runtime::exec`] started. Dropping it ends the command.
pub trait Process: Send + Sync {
    /// Its streams, once; with a terminal `output` is the terminal itself and `errors` is `None`.
    fn streams(&mut self) -> Option<Streams>;

    /// The size of its terminal, in characters.
    ///
    /// # Errors
    /// If it has none.
    fn resize(&self, columns: u16, rows: u16) -> Result<(), RuntimeError>;

    /// Waits until it ends; its exit code as in [`End`].
    ///
    /// # Errors
    /// If it cannot be known.
    fn wait(&self) -> Result<i32, RuntimeError>;

    /// Ends it, by SIGKILL, with what it started. It may have ended before.
    fn end(&self);
}

/// The ends of a command's streams that its caller holds.
#[derive(Debug)]
pub struct Streams {
    pub input: OwnedFd,
    pub output: OwnedFd,
    pub errors: Option<OwnedFd>,
}
