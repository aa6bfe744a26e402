//! What the runtime keeps on disk, so that an agent that starts again knows what there is.
//!
//! A folder holds one agent's pods:
//!
//! | file | what it is | written by |
//! |---|---|---|
//! | `lock` | locked while an agent uses the folder | agent |
//! | `alive/UID` | locked while the sandbox lives; written to when a container of it ended | agent, sandbox |
//! | `pods/UID/sandbox.json` | what the sandbox was made from; first to come and last to go | agent |
//! | `pods/UID/process.json` | the sandbox's process, to end it by | sandbox |
//! | `pods/UID/sandbox.sock` | where the sandbox takes requests | sandbox |
//! | `pods/UID/containers.json` | the newest container of each name, and how it ended | sandbox |
//! | `pods/UID/hostname` | for `/etc/hostname` inside | agent |
//! | `pods/UID/logs/NAME.log`, `NAME.previous.log` | the output of containers | sandbox |
//! | `pods/UID/sandbox.log` | what the sandbox itself had to complain about | sandbox |
//!
//! Files are replaced whole, so that whoever is killed leaves the old or the new one. They are not forced to disk: when the
//! machine itself goes down, so do all its pods.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::{Container, End, PodName, Run, RuntimeError, Sandbox, SandboxSpec, State};

pub(super) const RECORD: &str = "sandbox.json";
pub(super) const PROCESS: &str = "process.json";
pub(super) const SOCKET: &str = "sandbox.sock";
pub(super) const CONTAINERS: &str = "containers.json";
pub(super) const HOSTNAME: &str = "hostname";
pub(super) const LOGS: &str = "logs";
/// A place to build the root of the pod's mounts on; always empty to anybody else.
pub(super) const ROOT: &str = "root";
pub(super) const COMPLAINTS: &str = "sandbox.log";

/// The folder of all pods of an agent.
#[derive(Debug)]
pub(super) struct StateFolder {
    path: PathBuf,
    /// Held, not read.
    _lock: File,
}

impl StateFolder {
    /// Opens the folder for this agent alone, and makes what is missing of it.
    pub(super) fn open(path: &Path) -> Result<StateFolder, RuntimeError> {
        let doing = || format!("opening {} to keep pods in", path.display());
        let open = || {
            for folder in [path.to_owned(), path.join("pods"), path.join("alive")] {
                // Records hold the environments of containers.
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            File::create(path.join("lock"))
        };
        let lock = open().map_err(RuntimeError::doing(doing()))?;
        if !try_to_lock(&lock).map_err(RuntimeError::doing(doing()))? {
            let path = path.display();
            let advice = "end that one, or give this one a folder of its own";
            let what = format!("{path} is in use by another agent: {advice}");
            return Err(RuntimeError::State { what });
        }
        // Absolute, since a sandbox looks from another place.
        let path = path.canonicalize().map_err(RuntimeError::doing(doing()))?;
        Ok(StateFolder { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a write or a close tells that containers ended.
    pub(super) fn alive(&self) -> PathBuf {
        self.path.join("alive")
    }

    /// The folder of a pod, which need not be there.
    pub(super) fn pod(&self, uid: &str) -> Result<PodFolder, RuntimeError> {
        file_name(uid)?;
        Ok(PodFolder { path: self.path.join("pods").join(uid), alive: self.alive().join(uid) })
    }

    /// Of every pod of which there is anything, its UID.
    pub(super) fn uids(&self) -> Result<Vec<String>, RuntimeError> {
        let list = || {
            let mut uids = Vec::new();
            for folder in [self.path.join("pods"), self.alive()] {
                for entry in fs::read_dir(folder)? {
                    uids.extend(entry?.file_name().into_string());
                }
            }
            uids.sort();
            uids.dedup();
            Ok(uids)
        };
        list().map_err(RuntimeError::doing(format!("listing the pods in {}", self.path.display())))
    }
}

/// Locks a file, unless another agent has it locked.
fn try_to_lock(file: &File) -> io::Result<bool> {
    // An agent that was killed over starting a program has left a process that holds its files until it is that program.
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// The files of one pod.
#[derive(Debug, Clone)]
pub(super) struct PodFolder {
    path: PathBuf,
    alive: PathBuf,
}

impl PodFolder {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The record of the sandbox; `None` if there is none, or if the machine went down while it was written.
    pub(super) fn record(&self) -> Result<Option<Record>, RuntimeError> {
        read(&self.file(RECORD))
            .map_err(RuntimeError::doing(format!("reading {}", self.file(RECORD).display())))
    }

    /// Begins a pod's folder with its record.
    pub(super) fn write_record(&self, record: &Record) -> Result<(), RuntimeError> {
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(self.path.join(LOGS))?;
            replace(&self.file(RECORD), record)
        };
        write().map_err(RuntimeError::doing(format!("writing {}", self.file(RECORD).display())))
    }

    /// The lock that its holder lives by; `None` if a sandbox holds it.
    pub(super) fn lock_as_alive(&self) -> Result<Option<File>, RuntimeError> {
        let lock = || {
            let file =
                File::options().create(true).truncate(false).read(true).write(true).open(&self.alive)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(file)),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        lock().map_err(RuntimeError::doing(format!("locking {}", self.alive.display())))
    }

    /// Whether a sandbox lives, be it only half made.
    pub(super) fn is_alive(&self) -> bool {
        // To look must not be taken for an end by those who wait for one, so not for writing; nor for a life by another
        // who looks, so shared.
        let file = File::open(&self.alive);
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The sandbox's process.
    pub(super) fn process(&self) -> io::Result<Option<ProcessId>> {
        read(&self.file(PROCESS))
    }

    pub(super) fn containers(&self) -> Result<Vec<ContainerRecord>, RuntimeError> {
        let path = self.file(CONTAINERS);
        let records = read(&path).map_err(RuntimeError::doing(format!("reading {}", path.display())))?;
        Ok(records.unwrap_or_default())
    }

    pub(super) fn write_containers(&self, records: &[ContainerRecord]) -> Result<(), RuntimeError> {
        let path = self.file(CONTAINERS);
        replace(&path, &records).map_err(RuntimeError::doing(format!("writing {}", path.display())))
    }

    /// Removes every file, the record last: as long as that is there, so may be what it names.
    pub(super) fn remove(&self) -> io::Result<()> {
        absent_is_fine(fs::remove_file(&self.alive))?;
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name() == RECORD {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        absent_is_fine(fs::remove_file(self.file(RECORD)))?;
        fs::remove_dir(&self.path)
    }
}

/// Where a container's output is, in the folder of its pod.
pub(super) fn log_name(container: &str, run: Run) -> PathBuf {
    let suffix = match run {
        Run::Newest => "log",
        Run::Previous => "previous.log",
    };
    Path::new(LOGS).join(format!("{container}.{suffix}"))
}

/// Names of pods and containers become names of files. Kubernetes lets nothing else in; whoever else calls must not either.
pub(super) fn file_name(name: &str) -> Result<(), RuntimeError> {
    let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.bytes().all(ordinary) {
        return Ok(());
    }
    Err(RuntimeError::State { what: format!("{name:?} is no name of a pod or container") })
}

/// A sandbox as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) hostname: String,
    /// The name of its network namespace; `None` with the node's network.
    pub(super) network: Option<String>,
    pub(super) annotations: std::collections::BTreeMap<String, String>,
    pub(super) created: Timestamp,
    /// Paths of the host that containers do not get to see.
    pub(super) hidden: Vec<PathBuf>,
}

impl Record {
    pub(super) fn new(spec: &SandboxSpec, network: Option<String>, hidden: Vec<PathBuf>) -> Record {
        Record {
            namespace: spec.pod.namespace.clone(),
            name: spec.pod.name.clone(),
            uid: spec.pod.uid.clone(),
            hostname: spec.hostname.clone(),
            network,
            annotations: spec.annotations.clone(),
            created: Timestamp::now(),
            hidden,
        }
    }

    pub(super) fn sandbox(self, alive: bool) -> Sandbox {
        Sandbox {
            pod: PodName { namespace: self.namespace, name: self.name, uid: self.uid },
            network: self.network.map(|name| switchyard_kernel::namespace::path(&name)),
            annotations: self.annotations,
            created: self.created,
            alive,
        }
    }
}

/// A process, told from a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub(super) id: u32,
    /// In ticks since boot.
    pub(super) start_time: u64,
}

/// A container as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) restarts: u32,
    pub(super) started: Timestamp,
    pub(super) end: Option<EndRecord>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct EndRecord {
    pub(super) exit_code: i32,
    pub(super) signal: Option<i32>,
    pub(super) at: Timestamp,
}

impl From<ContainerRecord> for Container {
    fn from(record: ContainerRecord) -> Container {
        let ended = |end: EndRecord| End { exit_code: end.exit_code, signal: end.signal, at: end.at };
        Container {
            name: record.name,
            image: record.image,
            restarts: record.restarts,
            started: record.started,
            state: record.end.map_or(State::Running, |end| State::Ended(ended(end))),
        }
    }
}

/// Reads a record; `None` if there is none, or none that is whole.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a record in the place of the one before it.
pub(super) fn replace<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(value)?)?;
    fs::rename(new, path)
}

pub(super) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_its_folder() {
        for name in ["", ".", "..", ".hidden", "a/b", "/etc", "a\0", "ä"] {
            assert!(file_name(name).is_err(), "{name:?}");
        }
        for name in ["c0ffee00-0000-4000-8000-000000000000", "web-0", "a.b"] {
            assert!(file_name(name).is_ok(), "{name:?}");
        }
    }
}
