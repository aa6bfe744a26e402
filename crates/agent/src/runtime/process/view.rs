//! What a container sees of the host's files.
//!
//! Its root is the host's, read-only, but for what is none of its business: other people's homes, the state of programs, the
//! devices, the agent's own files. The pod's root is built once, in the sandbox; a container adds what is its own.
//!
//! The root is a small file system in memory with the host's folders mounted on it, so that everything else that is mounted
//! on the host, other pods' network namespaces among it, is let go of: it could not be unmounted there for good otherwise.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use switchyard_kernel::mounts::{self, New};

use super::super::RuntimeError;
use super::folder::ROOT;

/// Folders of the host that a container has its own of, or an empty one.
const OWN: [&str; 12] =
    ["dev", "proc", "sys", "run", "tmp", "var", "root", "home", "boot", "mnt", "media", "lost+found"];

/// What of the host's settings is for the host alone, although it could be read: keys, passwords, clusters it belongs to.
const SECRETS: [&str; 7] = [
    "/etc/kubernetes",
    "/etc/rancher",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/machine-id",
];

/// The devices that every container has: name, major and minor number, as in the kernel's devices.txt.
const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const INERT: MsFlags = SAFE.union(MsFlags::MS_NOEXEC);

/// Leaves the calling process, which has mounts of its own, with the pod's root, and with the pod's `folder` as its working
/// folder, which no path leads to any more.
pub(super) fn enter_pod_root(folder: &Path, hidden: &[PathBuf]) -> Result<(), RuntimeError> {
    step("keeping the pod's mounts to itself", mounts::keep_private())?;
    // A mount of its own, to be written to although the one that it is on becomes read-only.
    step("mounting the pod's folder", mounts::bind(folder, folder))?;
    let working = step("opening the pod's folder", File::open(folder))?;
    let root = folder.join(ROOT);
    step("making the pod's root", make_folder(&root))?;
    step(
        "mounting the pod's root",
        New { kind: "tmpfs", options: "mode=755,size=1m", flags: SAFE }.at(&root),
    )?;
    step("showing the host's folders", show_host(&root))?;
    for path in SECRETS.map(Path::new).into_iter().chain(hidden.iter().map(PathBuf::as_path)) {
        step(&format!("hiding {} from the pod", path.display()), hide(&root, path))?;
    }
    step("making the pod's own folders", make_own(&root))?;
    step("changing to the pod's root", mounts::change_root(&root))?;
    step("returning to the pod's folder", nix::unistd::fchdir(&working).map_err(io::Error::from))
}

/// Leaves the calling process, the first of a container, with mounts of its own on top of the pod's.
pub(super) fn enter_container(targets: &[PathBuf], files: &[OwnedFd]) -> Result<(), RuntimeError> {
    step("making a mount namespace", unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from))?;
    // Read-only: the superuser may write much of the host's there, without any capability.
    let proc = New { kind: "proc", options: "", flags: INERT | MsFlags::MS_RDONLY };
    step("mounting /proc", proc.at(Path::new("/proc")))?;
    step(
        "mounting /tmp",
        New { kind: "tmpfs", options: "mode=1777,size=64m", flags: SAFE }.at(Path::new("/tmp")),
    )?;
    step(
        "mounting /run",
        New { kind: "tmpfs", options: "mode=755,size=16m", flags: SAFE }.at(Path::new("/run")),
    )?;
    for (target, file) in targets.iter().zip(files) {
        let doing = format!("mounting at {}", target.display());
        step(&doing, attach(target, file))?;
    }
    step("making the root read-only", mounts::make_read_only(Path::new("/")))
}

/// Binds every folder of the host's root but those that a container has its own of, all of it read-only.
fn show_host(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let name = entry.file_name();
        let inside = root.join(&name);
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, inside)?;
        } else if kind.is_dir() {
            make_folder(&inside)?;
            mounts::bind(&entry.path(), &inside)?;
        }
    }
    for place in mounts::at_or_below(root)? {
        if place != root {
            read_only_if_there(&place)?;
        }
    }
    Ok(())
}

/// A mount that another one covers is in the table, but no path leads there.
fn read_only_if_there(place: &Path) -> io::Result<()> {
    match mounts::make_read_only(place) {
        Err(error)
            if matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EINVAL | Errno::ENOENT)) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Puts something empty in the place of a path of the host's.
fn hide(root: &Path, path: &Path) -> io::Result<()> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    let inside = root.join(parts.collect::<PathBuf>());
    let nothing = New { kind: "tmpfs", options: "mode=755,size=4k", flags: INERT | MsFlags::MS_RDONLY };
    match fs::metadata(&inside) {
        Ok(found) if found.is_dir() => nothing.at(&inside),
        Ok(_) => mounts::bind(Path::new("/dev/null"), &inside),
        // Not there at all, or below a folder that is not shown.
        Err(_) => Ok(()),
    }
}

fn make_own(root: &Path) -> io::Result<()> {
    for name in OWN {
        make_folder(&root.join(name))?;
    }
    let var = root.join("var");
    for name in ["cache", "lib", "log", "spool"] {
        make_folder(&var.join(name))?;
    }
    for (name, target) in [("run", "/run"), ("lock", "/run"), ("tmp", "/tmp")] {
        symlink(target, var.join(name))?;
    }
    New { kind: "proc", options: "", flags: INERT }.at(&root.join("proc"))?;
    New { kind: "sysfs", options: "", flags: INERT | MsFlags::MS_RDONLY }.at(&root.join("sys"))?;
    make_devices(&root.join("dev"))
}

fn make_devices(dev: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    New { kind: "tmpfs", options: "mode=755,size=64k", flags }.at(dev)?;
    for (name, major, minor) in DEVICES {
        let device = dev.join(name);
        mknod(&device, SFlag::S_IFCHR, Mode::empty(), makedev(major, minor))?;
        // In a second step, which the process's umask has no say in.
        fs::set_permissions(&device, Permissions::from_mode(0o666))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
    }
    make_folder(&dev.join("shm"))?;
    New { kind: "tmpfs", options: "mode=1777,size=64m", flags: INERT }.at(&dev.join("shm"))?;
    make_folder(&dev.join("pts"))?;
    // Group 5 is tty everywhere; ptmxmode as a terminal is to be had by anybody.
    let options = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    New { kind: "devpts", options, flags }.at(&dev.join("pts"))
}

/// Puts a mount of the agent's at its place, which is made where a container may have something made.
fn attach(target: &Path, mount: &OwnedFd) -> io::Result<()> {
    let place = follow(target)?;
    if !place.exists() {
        make_place(&place, mount).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EROFS) => {
                io::Error::other("the host has no such place, and nothing can be added to its folders")
            }
            _ => error,
        })?;
    }
    mounts::attach(mount.as_fd(), &place)?;
    for mounted in mounts::at_or_below(&place)? {
        read_only_if_there(&mounted)?;
    }
    Ok(())
}

/// Makes a place for a mount: a file or a folder, as what is mounted.
fn make_place(place: &Path, mount: &OwnedFd) -> io::Result<()> {
    if File::from(mount.try_clone()?).metadata()?.is_dir() {
        return fs::create_dir_all(place);
    }
    fs::create_dir_all(place.parent().unwrap_or(Path::new("/")))?;
    File::create(place).map(drop)
}

/// Where a path leads in the end, also if nothing is there yet: `/etc/resolv.conf` is often a link into `/run`.
fn follow(path: &Path) -> io::Result<PathBuf> {
    const LINKS_MAX: usize = 40; // as in the kernel
    let mut place = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&place) {
            Ok(target) => place = place.parent().unwrap_or(Path::new("/")).join(target),
            // EINVAL: no link, but something else.
            Err(_) => return Ok(place.canonicalize().unwrap_or(place)),
        }
    }
    Err(Errno::ELOOP.into())
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn step<T>(doing: &str, result: io::Result<T>) -> Result<T, RuntimeError> {
    result.map_err(RuntimeError::doing(doing))
}
