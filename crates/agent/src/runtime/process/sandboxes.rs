//! Making and removing sandboxes, so that whoever is killed in between leaves nothing that is not found again.
//!
//! The record is written before anything else is made, and removed after everything else is gone. The process is given the lock
//! that says that it lives by whoever starts it, so that there is no moment at which it runs without.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use switchyard_kernel::link::{LinkError, Links};
use switchyard_kernel::namespace::{self, Namespace, NamespaceError, NamespaceFile};
use switchyard_kernel::process::{Namespaces, ProcessHandle, spawn_in};

use super::super::{PodName, RuntimeError, Sandbox, SandboxSpec};
use super::folder::{COMPLAINTS, HOSTNAME, PodFolder, Record};
use super::protocol::{self, Report, Request};
use super::{OURSELVES, ProcessRuntime, SANDBOX, client, in_network};

/// For a sandbox to be made, and for one that is killed to be gone with all that runs in it.
const PATIENCE: Duration = Duration::from_secs(20);

impl ProcessRuntime {
    /// The sandbox that is there and lives, or a new one.
    pub(super) fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError> {
        let pod = self.folder.pod(&spec.pod.uid)?;
        if pod.is_alive()
            && let Some(record) = pod.record()?
            && client::ask(&pod, &Request::Ping, &[], PATIENCE).is_ok()
        {
            return Ok(record.sandbox(true));
        }
        // What is left of one, or one that was started by an agent that was killed and did not get far.
        self.remove(&pod)?;
        let network = (!spec.host_network).then(|| network_name(&self.prefix, &spec.pod));
        let record = Record::new(spec, network, self.hidden.clone());
        self.make(&pod, &record).inspect_err(|_| {
            if let Err(error) = self.remove(&pod) {
                tracing::warn!("after a sandbox could not be made, {error}");
            }
        })?;
        Ok(record.sandbox(true))
    }

    fn make(&self, pod: &PodFolder, record: &Record) -> Result<(), RuntimeError> {
        pod.write_record(record)?;
        let doing = RuntimeError::doing("writing the pod's host name");
        fs::write(pod.file(HOSTNAME), format!("{}\n", record.hostname)).map_err(doing)?;
        let network = record.network.as_deref().map(make_network).transpose()?;
        let lock = pod.lock_as_alive()?;
        let lock = lock.ok_or_else(|| RuntimeError::State { what: "the pod has a sandbox".to_owned() })?;
        start(pod, lock, network.as_ref())
    }

    /// Ends a sandbox and removes all of it; what is not there is no error.
    pub(super) fn remove(&self, pod: &PodFolder) -> Result<(), RuntimeError> {
        end(pod)?;
        if let Some(network) = pod.record()?.and_then(|record| record.network) {
            namespace::remove(&network).map_err(in_network)?;
        }
        pod.remove().map_err(RuntimeError::doing(format!("removing {}", pod.path().display())))
    }

    /// Removes what an agent that was killed has left half made or half removed.
    pub(super) fn remove_leftovers(&self) -> Result<(), RuntimeError> {
        for uid in self.folder.uids()? {
            let pod = self.folder.pod(&uid)?;
            if pod.record()?.is_none() {
                self.remove(&pod)?;
            }
        }
        Ok(())
    }
}

/// For people who list namespaces: which pod, and enough of the UID to tell it from the next of that name.
fn network_name(prefix: &str, pod: &PodName) -> String {
    let uid: String = pod.uid.chars().take(8).collect();
    // A file's name has at most 255 bytes, a pod's name up to 253.
    let name: String = format!("{prefix}_{}_{}", pod.namespace, pod.name).chars().take(240).collect();
    format!("{name}_{uid}")
}

fn make_network(name: &str) -> Result<NamespaceFile, RuntimeError> {
    let make = || -> Result<NamespaceFile, NetworkError> {
        // Left by an agent whose folder somebody deleted: the UID in the name says that it is this pod's.
        namespace::remove(name)?;
        let network = Namespace::create(name)?;
        Links::open(&network)?.set_up("lo")?;
        Ok(network.keep()?)
    };
    make().map_err(|error| RuntimeError::Io {
        doing: "making the pod's network namespace".to_owned(),
        source: std::io::Error::other(error),
    })
}

#[derive(Debug, thiserror::Error)]
enum NetworkError {
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Starts the sandbox's process and waits until it is ready.
fn start(pod: &PodFolder, lock: File, network: Option<&NamespaceFile>) -> Result<(), RuntimeError> {
    let doing = || format!("starting the sandbox in {}", pod.path().display());
    let (mut child, socket) = spawn(pod, lock, network).map_err(RuntimeError::doing(doing()))?;
    let report = protocol::receive(&socket).map_err(RuntimeError::doing(doing()));
    let error = match report {
        Ok(Some((Report::Ready, _))) => return Ok(()),
        Ok(Some((Report::Failed(failure), _))) => failure.into(),
        Ok(_) => {
            let said = fs::read_to_string(pod.file(COMPLAINTS)).unwrap_or_default();
            RuntimeError::State { what: format!("{}: it ended at once: {}", doing(), said.trim()) }
        }
        Err(error) => error,
    };
    let _ = child.kill();
    let _ = child.wait();
    Err(error)
}

fn spawn(
    pod: &PodFolder,
    lock: File,
    network: Option<&NamespaceFile>,
) -> std::io::Result<(Child, UnixStream)> {
    let (socket, theirs) = UnixStream::pair()?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let complaints = File::options().create(true).append(true).open(pod.file(COMPLAINTS))?;
    let mut command = Command::new(OURSELVES);
    command.arg0("switchyard").arg(SANDBOX).arg(pod.path());
    // What the terminal or the service manager sends to the agent's group is not meant for pods.
    command.process_group(0);
    // Nothing of the agent's environment is a sandbox's business.
    command.env_clear().current_dir("/");
    command.stdin(lock).stdout(OwnedFd::from(theirs)).stderr(complaints);
    let enter: Vec<_> =
        network.iter().map(|network| (network.file().as_fd(), Namespaces::CLONE_NEWNET)).collect();
    let child = spawn_in(&mut command, &enter, Namespaces::CLONE_NEWPID)?;
    Ok((child, socket))
}

/// Ends the sandbox's process, if it lives, and with it every process of the pod; waits until they are gone.
fn end(pod: &PodFolder) -> Result<(), RuntimeError> {
    let doing = || format!("ending the sandbox in {}", pod.path().display());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let alive = pod.is_alive();
        let process = pod.process().map_err(RuntimeError::doing(doing()))?;
        let same =
            process.filter(|process| ProcessHandle::start_time(process.id) == Some(process.start_time));
        let handle = match same {
            Some(process) => ProcessHandle::open(process.id).map_err(RuntimeError::doing(doing()))?,
            None => None,
        };
        if let Some(handle) = handle {
            handle.kill().map_err(RuntimeError::doing(doing()))?;
            if handle.wait(PATIENCE).map_err(RuntimeError::doing(doing()))? {
                return Ok(());
            }
        } else if !alive {
            return Ok(());
        }
        // One that has only just been started has not written down yet which process it is.
        if Instant::now() > deadline {
            let what = format!("{}: it lives on after {PATIENCE:?}; look for it with ps and end it", doing());
            return Err(RuntimeError::State { what });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
