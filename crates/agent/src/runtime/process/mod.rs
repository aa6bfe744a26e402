//! Containers as processes of this host: the runtime that needs no images and no daemon.
//!
//! Each pod has a *sandbox*, a process of this same program that is the first of the pod's process namespace and holds its other
//! namespaces. The sandbox starts the pod's containers on request, each the first process of a process namespace below, so
//! that the end of it is the end of all that it started, as the kernel sees to. Sandboxes are nobody's children for long: they
//! and their containers go on when the agent ends, even by SIGKILL, and an agent that starts again finds them in its [folder].
//!
//! ```text
//! agent ──socket──▶ sandbox (process 1 of the pod) ──▶ container (process 1 of its own) ──▶ whatever that starts
//!   └──────────────────────────────────────────────▶ exec: a command in the container's namespaces, the agent's own child
//! ```

mod client;
mod ends;
mod exec;
mod folder;
mod protocol;
mod sandbox;
mod sandboxes;
mod stage;
mod view;

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use switchyard_kernel::mounts;
use switchyard_kernel::namespace::{self, NamespaceFile};
use switchyard_kernel::process::keep_files_from_programs;

use super::{Container, ContainerSpec, ExecSpec, Process, Run, Runtime, RuntimeError, Sandbox, SandboxSpec};
use crate::images::{self, Program};
use ends::Ends;
use folder::{EndRecord, PodFolder, StateFolder};
use protocol::{Launch, Reply, Request, Surroundings};

/// This program, also when its file was replaced meanwhile. Containers cannot write to it: as long as they live, so does
/// their sandbox, and the kernel lets nobody write to a program that runs.
const OURSELVES: &str = "/proc/self/exe";
/// The hidden command that makes a process a sandbox.
const SANDBOX: &str = "agent-sandbox";
/// The hidden command that makes a process ready to become a container's.
const STAGE: &str = "agent-stage";

/// Runs a hidden command of the process runtime: how this program, started again by the runtime, does its part. `None` if the
/// arguments are no such command.
#[must_use]
pub fn hidden_command(arguments: &[String]) -> Option<ExitCode> {
    match arguments {
        [command, folder] if command == SANDBOX => Some(sandbox::main(Path::new(folder))),
        [command] if command == STAGE => Some(stage::main()),
        _ => None,
    }
}

/// What a runtime is set up with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder that it keeps its pods in, which no other agent uses meanwhile.
    pub folder: PathBuf,
    /// What names of network namespaces begin with, such as the name of the lab and the node. An underscore follows, which
    /// is in no name of Kubernetes.
    pub prefix: String,
    /// Paths of the host that containers do not get to see, beside the runtime's own folder: kubeconfigs, keys.
    pub hidden: Vec<PathBuf>,
}

/// Containers as processes of this host.
#[derive(Debug)]
pub struct ProcessRuntime {
    folder: StateFolder,
    prefix: String,
    hidden: Vec<PathBuf>,
    ends: Ends,
    /// The pods that a sandbox is being made or removed for.
    busy: Mutex<HashSet<String>>,
    idle: Condvar,
}

impl ProcessRuntime {
    /// Opens the folder, and removes what is left of sandboxes that somebody was killed over.
    ///
    /// # Errors
    /// If another agent uses the folder, or it cannot be written.
    pub fn open(settings: Settings) -> Result<ProcessRuntime, RuntimeError> {
        // What this process was started with is for it alone; a sandbox would hold it open after the agent's end.
        keep_files_from_programs().map_err(RuntimeError::doing("marking open files as the agent's own"))?;
        let folder = StateFolder::open(&settings.folder)?;
        let mut hidden = settings.hidden;
        hidden.push(folder.path().to_owned());
        let ends = Ends::watch(&folder.alive())?;
        let runtime = ProcessRuntime {
            folder,
            prefix: settings.prefix,
            hidden,
            ends,
            busy: Mutex::new(HashSet::new()),
            idle: Condvar::new(),
        };
        runtime.remove_leftovers()?;
        Ok(runtime)
    }

    /// Keeps others from making or removing the sandbox of this pod meanwhile.
    fn alone_with<T>(&self, uid: &str, work: impl FnOnce() -> T) -> T {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.idle.wait_while(busy, |busy| busy.contains(uid));
        taken.unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned());
        let result = work();
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.idle.notify_all();
        result
    }

    /// The folder of a pod that has a sandbox, dead or alive.
    fn existing(&self, uid: &str) -> Result<(PodFolder, folder::Record), RuntimeError> {
        let pod = self.folder.pod(uid)?;
        let record = pod.record()?;
        let none = || RuntimeError::State { what: format!("there is no sandbox of pod {uid}") };
        Ok((pod, record.ok_or_else(none)?))
    }
}

impl Runtime for ProcessRuntime {
    fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError> {
        self.alone_with(&spec.pod.uid, || self.create(spec))
    }

    fn sandboxes(&self) -> Result<Vec<Sandbox>, RuntimeError> {
        let mut sandboxes = Vec::new();
        for uid in self.folder.uids()? {
            let pod = self.folder.pod(&uid)?;
            // One without a record is only just being made or removed.
            sandboxes.extend(pod.record()?.map(|record| record.sandbox(pod.is_alive())));
        }
        Ok(sandboxes)
    }

    fn remove_sandbox(&self, uid: &str) -> Result<(), RuntimeError> {
        self.alone_with(uid, || self.remove(&self.folder.pod(uid)?))
    }

    fn start_container(&self, uid: &str, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        folder::file_name(&spec.name)?;
        let (pod, _) = self.existing(uid)?;
        let program = images::program(&spec.image, &spec.command, &spec.args)?;
        let mut mounts = spec.mounts.clone();
        let hostname = PathBuf::from("/etc/hostname");
        // Only over what the host has: nothing can be added to its folders.
        if hostname.exists() && !mounts.iter().any(|(inside, _)| *inside == hostname) {
            mounts.push((hostname, pod.file(folder::HOSTNAME)));
        }
        let mut detached = Vec::with_capacity(mounts.len());
        for (_, outside) in &mounts {
            let doing = RuntimeError::doing(format!("taking {} to mount it", outside.display()));
            detached.push(mounts::detached(outside).map_err(doing)?);
        }
        let launch = Launch {
            name: spec.name.clone(),
            image: spec.image.clone(),
            restarts: spec.restarts,
            program,
            surroundings: Surroundings { env: spec.env.clone(), working_dir: spec.working_dir.clone() },
            stdin: spec.stdin,
            tty: spec.tty,
            mounts: mounts.into_iter().map(|(inside, _)| inside).collect(),
        };
        client::ask(&pod, &Request::Start(launch), &detached, client::PATIENCE).map(drop)
    }

    fn containers(&self, uid: &str) -> Result<Vec<Container>, RuntimeError> {
        let (pod, _) = self.existing(uid)?;
        // Looked at first: a sandbox that lives now has written down every end that it knows of when it is read after.
        let alive = pod.is_alive();
        let mut records = pod.containers()?;
        if !alive && records.iter().any(|record| record.end.is_none()) {
            // The kernel ended them with their sandbox, and there was nobody to see when.
            let end = EndRecord { exit_code: 128 + 9, signal: Some(9), at: jiff::Timestamp::now() };
            for record in &mut records {
                record.end.get_or_insert(end);
            }
            pod.write_containers(&records)?;
        }
        Ok(records.into_iter().map(Container::from).collect())
    }

    fn stop_container(&self, uid: &str, name: &str, grace: Duration) -> Result<(), RuntimeError> {
        let (pod, _) = self.existing(uid)?;
        let request = Request::Stop { name: name.to_owned(), grace };
        match client::ask(&pod, &request, &[], grace.saturating_add(client::PATIENCE)) {
            // What ended it ended its containers.
            Err(_) if !pod.is_alive() => self.known(uid, name),
            result => result.map(drop),
        }
    }

    fn wait_for_ends(&self, limit: Duration) -> Result<(), RuntimeError> {
        self.ends.wait(limit)
    }

    fn exec(&self, uid: &str, name: &str, spec: &ExecSpec) -> Result<Box<dyn Process>, RuntimeError> {
        let (pod, _) = self.existing(uid)?;
        let (reply, files) =
            client::ask(&pod, &Request::Join { name: name.to_owned() }, &[], client::PATIENCE)?;
        match (reply, files.into_iter().next()) {
            (Reply::Joined(surroundings), Some(container)) => {
                let program = Program::Host(spec.command.clone());
                Ok(Box::new(exec::Command::start(container, program, surroundings, spec.tty)?))
            }
            _ => Err(RuntimeError::State { what: format!("the sandbox of pod {uid} gave a wrong answer") }),
        }
    }

    fn connect(&self, uid: &str, port: u16) -> Result<TcpStream, RuntimeError> {
        let (_, record) = self.existing(uid)?;
        let connect = || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .or_else(|error| TcpStream::connect((Ipv6Addr::LOCALHOST, port)).map_err(|_| error))
        };
        let doing = RuntimeError::doing(format!(
            "connecting to port {port} in pod {}/{}",
            record.namespace, record.name
        ));
        let Some(network) = record.network else { return connect().map_err(doing) };
        let entered =
            NamespaceFile::open(&namespace::path(&network)).and_then(|network| network.run(connect));
        entered.map_err(in_network)?.map_err(doing)
    }

    fn log(&self, uid: &str, name: &str, run: Run) -> PathBuf {
        self.folder.path().join("pods").join(uid).join(folder::log_name(name, run))
    }
}

impl ProcessRuntime {
    fn known(&self, uid: &str, name: &str) -> Result<(), RuntimeError> {
        if self.containers(uid)?.iter().any(|container| container.name == name) {
            return Ok(());
        }
        Err(RuntimeError::State { what: format!("pod {uid} has no container {name:?}") })
    }
}

fn in_network(error: namespace::NamespaceError) -> RuntimeError {
    RuntimeError::Io {
        doing: "using the pod's network namespace".to_owned(),
        source: std::io::Error::other(error),
    }
}
