//! Named network namespaces, where `ip netns` keeps them too.
//!
//! A namespace belongs to a thread, not to a process. So whatever is to happen in one happens on a thread
//! made for that; no other thread of ours ever changes its namespace.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use thiserror::Error;

/// Where names are kept: `ip netns exec NAME` looks here.
const NAMES: &str = "/run/netns";

/// The file system that namespaces are files of.
const NSFS: FsType = FsType(0x6e73_6673);

/// A namespace that could not be made, entered, listed or removed.
#[derive(Debug, Error)]
#[error("{action} network namespace {name}, which takes root (CAP_SYS_ADMIN)")]
pub struct NamespaceError {
    action: &'static str,
    name: String,
    source: io::Error,
}

/// A network namespace with a name. Dropping it removes the name; the namespace itself lives on until the
/// last process, thread or socket in it is gone.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    /// Whether the name stays when this is dropped.
    kept: bool,
}

impl Namespace {
    /// Makes a new namespace, empty but for a loopback interface that is down.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, or when the name is taken.
    pub fn create(name: &str) -> Result<Namespace, NamespaceError> {
        let create = || {
            fs::create_dir_all(NAMES)?;
            let path = path(name);
            // A bind mount needs something to be mounted on.
            File::create_new(&path)?;
            match on_own_thread(|| pin_new_namespace(&path)).and_then(|()| File::open(&path)) {
                Ok(file) => Ok(Namespace { name: name.to_owned(), file, kept: false }),
                Err(error) => {
                    // The first error tells more than one of the clean-up's.
                    let _ = remove_path(&path);
                    Err(error)
                }
            }
        };
        create().map_err(|source| failed("creating", name, source))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The open namespace file, for whoever hands it to the kernel.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Leaves the name in place: the namespace then stays until [`remove`] is called with its name.
    ///
    /// # Errors
    /// When it cannot be opened again; it stays then too.
    pub fn keep(mut self) -> Result<NamespaceFile, NamespaceError> {
        self.kept = true;
        NamespaceFile::open(&path(&self.name))
    }

    /// Runs `work` on a thread in the namespace and waits for it. Threads, processes and sockets that it
    /// makes belong to the namespace for good.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN. A panic of `work` is passed on.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        on_own_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
        .map_err(|source| failed("entering", &self.name, source))
    }
}

impl NamespaceError {
    /// Whether there is nothing at the path.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether what is at the path is no namespace.
    #[must_use]
    pub fn is_no_namespace(&self) -> bool {
        self.source.kind() == io::ErrorKind::InvalidInput
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = remove(&self.name) {
            tracing::warn!("{error}");
        }
    }
}

/// A network namespace that somebody else keeps, opened by a path (`/run/netns/NAME`, `/proc/PID/ns/net`). Dropping it
/// changes nothing, but as long as it is held the namespace lives.
#[derive(Debug)]
pub struct NamespaceFile {
    path: PathBuf,
    file: File,
}

impl NamespaceFile {
    /// Opens what is at the path.
    ///
    /// # Errors
    /// When there is nothing, or something that is no namespace.
    pub fn open(path: &Path) -> Result<NamespaceFile, NamespaceError> {
        let open = || {
            // Not to wait where somebody has put a pipe in its place.
            let options = OFlag::O_NONBLOCK.bits();
            let file = File::options().read(true).custom_flags(options).open(path)?;
            // What is left of a namespace that was unmounted is an empty plain file, which setns would refuse with
            // no better word than "invalid argument".
            if fstatfs(&file)?.filesystem_type() != NSFS {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file is no namespace"));
            }
            Ok(NamespaceFile { path: path.to_owned(), file })
        };
        open().map_err(|source| failed("opening", &path.display().to_string(), source))
    }

    /// Opens the one of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<NamespaceFile, NamespaceError> {
        NamespaceFile::open(&path(name))
    }

    /// The calling thread's own.
    ///
    /// # Errors
    /// Without /proc.
    pub fn here() -> Result<NamespaceFile, NamespaceError> {
        NamespaceFile::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open namespace file, for whoever hands it to the kernel.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The number that the kernel knows the namespace by, as `/proc/PID/ns/net` shows it. Another namespace may get it
    /// once this one is gone.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn id(&self) -> Result<u64, NamespaceError> {
        let status = fstat(&self.file);
        status
            .map(|status| status.st_ino)
            .map_err(|errno| failed("identifying", &self.path.display().to_string(), errno.into()))
    }

    /// Moves the calling thread into the namespace, for good: for a thread that is about to run another program, or
    /// that starts all its programs there.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn enter(&self) -> Result<(), NamespaceError> {
        let entered = setns(&self.file, CloneFlags::CLONE_NEWNET);
        entered.map_err(|errno| failed("entering", &self.path.display().to_string(), errno.into()))
    }

    /// Whether both are the same namespace, by whatever paths they were opened.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn is_same_as(&self, other: &NamespaceFile) -> Result<bool, NamespaceError> {
        let identity = |file: &File| fstat(file).map(|status| (status.st_dev, status.st_ino));
        let same = || Ok(identity(&self.file)? == identity(&other.file)?);
        same().map_err(|source| failed("identifying", &self.path.display().to_string(), source))
    }

    /// Runs `work` on a thread in the namespace and waits for it, as [`Namespace::run`] does.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN. A panic of `work` is passed on.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        on_own_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
        .map_err(|source| failed("entering", &self.path.display().to_string(), source))
    }
}

/// The names of all named network namespaces, whoever made them.
///
/// # Errors
/// When the folder of names cannot be read; that there is none yet is no error.
pub fn list() -> Result<Vec<String>, NamespaceError> {
    let names = || match fs::read_dir(NAMES) {
        Ok(entries) => {
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect::<io::Result<Vec<String>>>()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    names().map_err(|source| failed("listing", NAMES, source))
}

/// Removes a name, and with it the namespace if nobody is in it. A name that is gone already is no error.
///
/// # Errors
/// Without CAP_SYS_ADMIN.
pub fn remove(name: &str) -> Result<(), NamespaceError> {
    remove_path(&path(name)).map_err(|source| failed("removing", name, source))
}

/// Moves the calling thread into a new namespace and mounts that at `path`, so that it outlives the thread.
fn pin_new_namespace(path: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let own = Path::new("/proc/thread-self/ns/net");
    Ok(mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

fn remove_path(path: &Path) -> io::Result<()> {
    // EINVAL: nothing is mounted there, as after a creation that stopped half-way.
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().spawn_scoped(scope, work)?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Where a name is kept: CNI calls this path `CNI_NETNS`.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}

fn failed(action: &'static str, name: &str, source: io::Error) -> NamespaceError {
    NamespaceError { action, name: name.to_owned(), source }
}
