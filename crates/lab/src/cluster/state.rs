//! The folder that holds all of a lab that is not in the kernel, and the two records in it: what the lab is, and what
//! its keeper runs.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use switchyard_kernel::process::Process;

use super::commands::need_root;
use super::error::{LabError, doing_to};
use super::flags::DEFAULT_NAME;
use super::kubeconfig;
use super::settings::{Settings, check_name};

/// Names another folder than [`DEFAULT`].
pub(super) const VARIABLE: &str = "SWITCHYARD_STATE_DIR";
const DEFAULT: &str = "/var/lib/switchyard";
const LABS: &str = "labs";

/// What a lab is. Written before anything of it is made, so that whatever `up` is ended by, `down` knows what to look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LabRecord {
    pub(super) settings: Settings,
    pub(super) kubeconfig: KubeconfigRecord,
}

/// The user's file that knows the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KubeconfigRecord {
    pub(super) path: PathBuf,
    /// Folders and the file itself, as far as they were not there before, the innermost first.
    pub(super) made: Vec<PathBuf>,
}

/// What the keeper runs, as of its last change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeeperRecord {
    /// Process numbers mean nothing after the machine has booted again.
    pub(super) boot: String,
    #[serde(with = "process")]
    pub(super) process: Process,
    /// Whether `up` has seen everything ready. Before that, a lab without an `up` is none.
    pub(super) ready: bool,
    /// Where the API server listens on 127.0.0.1 of the host.
    pub(super) port: u16,
    pub(super) parts: Vec<PartRecord>,
}

/// A program that the keeper starts, and starts again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartRecord {
    /// `node-1/proxy`
    pub(super) name: String,
    /// None while it does not run.
    #[serde(with = "process::option")]
    pub(super) process: Option<Process>,
    /// How often it has ended.
    pub(super) restarts: u32,
    /// How it ended the last time.
    pub(super) last_end: Option<String>,
}

impl KeeperRecord {
    /// Whether the keeper runs.
    pub(super) fn is_running(&self) -> bool {
        self.boot == boot() && self.process.is_running()
    }
}

/// The folder of one lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn of(lab: &str) -> Folder {
        Folder(labs().join(lab))
    }

    /// Makes it, for nobody else to read.
    pub(super) fn make(&self) -> Result<(), LabError> {
        for path in [self.0.clone(), self.logs()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(doing_to("making the folder", &path))?;
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn exists(&self) -> bool {
        self.0.exists()
    }

    fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// The log of a part, or of `keeper`.
    pub(super) fn log(&self, part: &str) -> PathBuf {
        self.logs().join(format!("{}.log", part.replace('/', "-")))
    }

    /// The API server's data.
    pub(super) fn api_server(&self) -> PathBuf {
        self.0.join("apiserver")
    }

    pub(super) fn tokens(&self) -> PathBuf {
        self.0.join("tokens.csv")
    }

    /// The administrator's, for this machine.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// The administrator's, for the lab's own machines.
    pub(super) fn inner_kubeconfig(&self) -> PathBuf {
        self.0.join("inner.kubeconfig")
    }

    /// All that is a node's own.
    pub(super) fn node(&self, node: &str) -> PathBuf {
        self.0.join("nodes").join(node)
    }

    /// CNI plugins by their names.
    pub(super) fn plugins(&self) -> PathBuf {
        self.0.join("cni-bin")
    }

    pub(super) fn write_lab(&self, record: &LabRecord) -> Result<(), LabError> {
        write_record(&self.0.join("lab.json"), record)
    }

    /// `None` if there is none, as in a folder that is being removed.
    pub(super) fn lab(&self) -> Result<Option<LabRecord>, LabError> {
        read_record(&self.0.join("lab.json"))
    }

    pub(super) fn write_keeper(&self, record: &KeeperRecord) -> Result<(), LabError> {
        write_record(&self.0.join("keeper.json"), record)
    }

    /// `None` before it has started.
    pub(super) fn keeper(&self) -> Result<Option<KeeperRecord>, LabError> {
        read_record(&self.0.join("keeper.json"))
    }

    /// Removes it, and the folders above that are empty then.
    pub(super) fn remove(&self) -> Result<(), LabError> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(doing_to("removing", &self.0)(error));
            }
            _ => {}
        }
        for above in self.0.ancestors().skip(1).take(2) {
            // Other labs, or an API server of its own, may be in there.
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// The names of all labs, also of crashed ones.
pub(super) fn all_labs() -> Vec<String> {
    let entries = fs::read_dir(labs()).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The lab that is meant, if it is up or was: the named one, or that of kubectl's current context.
pub(super) fn meant_lab(name: Option<&str>) -> Result<(Folder, LabRecord), LabError> {
    let current = || kubeconfig::current_lab(&kubeconfig::default_path()).ok().flatten();
    let name = name.map(str::to_owned).or_else(current).unwrap_or_else(|| DEFAULT_NAME.to_owned());
    known_lab(&name)
}

/// The lab of that name, if it is up or was.
pub(super) fn known_lab(name: &str) -> Result<(Folder, LabRecord), LabError> {
    check_name(name)?;
    need_root()?;
    let folder = Folder::of(name);
    match folder.lab()? {
        Some(record) => Ok((folder, record)),
        None => Err(LabError::NoSuchLab { name: name.to_owned(), known: all_labs() }),
    }
}

/// What tells this boot of the machine from others; empty without /proc.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The end of a file's text.
pub(super) fn tail(path: &Path) -> String {
    const LINES: usize = 10;
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].iter();
    last.map(|line| format!("  {line}\n")).collect::<String>().trim_end().to_owned()
}

/// Writes a file that nobody else may read; readers see the old one or the new one.
pub(super) fn write_private(path: &Path, contents: &[u8]) -> Result<(), LabError> {
    let write = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(contents)?;
        fs::rename(&new, path)
    };
    write().map_err(doing_to("writing", path))
}

/// Opens a log to add to.
pub(super) fn open_log(path: &Path) -> Result<File, LabError> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    opened.map_err(doing_to("opening the log", path))
}

fn labs() -> PathBuf {
    let state = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
    let state = state.map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from);
    // The keeper runs elsewhere than `up`, and must find the same folder.
    std::path::absolute(&state).unwrap_or(state).join(LABS)
}

fn write_record(path: &Path, record: &impl Serialize) -> Result<(), LabError> {
    let text = serde_json::to_vec_pretty(record).map_err(io::Error::from);
    write_private(path, &text.map_err(doing_to("writing", path))?)
}

fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LabError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(doing_to("reading", path)(error)),
    };
    let record = serde_json::from_slice(&text).map_err(io::Error::from);
    record.map(Some).map_err(doing_to("reading", path))
}

/// A process as `[number, moment of its start]`.
mod process {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use switchyard_kernel::process::Process;

    pub(super) fn serialize<S: Serializer>(process: &Process, serializer: S) -> Result<S::Ok, S::Error> {
        (process.pid, process.started).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Process, D::Error> {
        let (pid, started) = Deserialize::deserialize(deserializer)?;
        Ok(Process { pid, started })
    }

    pub(super) mod option {
        use super::{Deserialize, Deserializer, Process, Serialize, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            process: &Option<Process>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            process.map(|process| (process.pid, process.started)).serialize(serializer)
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Process>, D::Error> {
            let pair: Option<(i32, u64)> = Deserialize::deserialize(deserializer)?;
            Ok(pair.map(|(pid, started)| Process { pid, started }))
        }
    }
}
