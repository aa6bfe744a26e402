//! Mounts of the calling process's mount namespace.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

const NOTHING: Option<&str> = None;

/// Makes no mount show up in any other namespace, and none of others here, from now on.
///
/// # Errors
/// Without CAP_SYS_ADMIN.
pub fn keep_private() -> io::Result<()> {
    Ok(mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?)
}

/// Makes what is at `source` appear at `target` too, with whatever is mounted below it.
///
/// # Errors
/// If one of them does not exist, or one is a folder and the other not.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)?)
}

/// What a file system of the kernel's own is mounted with.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// Its type: `tmpfs`, `proc`, ...
    pub kind: &'a str,
    /// Its options, as in mount(8).
    pub options: &'a str,
    pub flags: MsFlags,
}

impl New<'_> {
    /// Mounts it.
    ///
    /// # Errors
    /// If the place does not exist or the kernel has no such file system.
    pub fn at(self, target: &Path) -> io::Result<()> {
        Ok(mount(Some(self.kind), target, Some(self.kind), self.flags, Some(self.options))?)
    }
}

/// Makes a mount read-only here, wherever else it can be written; devices and set-user-ID programs on it mean nothing.
///
/// # Errors
/// If nothing is mounted exactly there.
pub fn make_read_only(target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID;
    Ok(mount(NOTHING, target, NOTHING, flags | MsFlags::MS_NODEV, NOTHING)?)
}

/// Where something is mounted at or below a place, outermost first.
///
/// # Errors
/// Without /proc.
pub fn at_or_below(place: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let lines = table.split(|byte| *byte == b'\n');
    let places = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescape);
    Ok(places.filter(|found| found.starts_with(place)).collect())
}

/// Makes `new_root`, which something has to be mounted on, the root of this namespace, and lets go of everything that was
/// mounted elsewhere. Files that are open stay open, folders too.
///
/// # Errors
/// If the machine still runs from its initial memory disk, whose root cannot be left.
pub fn change_root(new_root: &Path) -> io::Result<()> {
    chdir(new_root)?;
    // Both the same: the old root then lies over the new one, and comes off at once.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(chdir("/")?)
}

/// Takes away what is mounted at a place; programs that still use it keep it for themselves. Nothing there is no error.
///
/// # Errors
/// Without CAP_SYS_ADMIN.
pub fn unmount(place: &Path) -> io::Result<()> {
    match umount2(place, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A mount of what is at `path` that is nowhere yet: to be handed to a process in another mount namespace and attached there.
///
/// # Errors
/// If there is nothing at the path.
pub fn detached(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, path, flags)?)
}

/// Puts a detached mount at `target`.
///
/// # Errors
/// If the place does not exist, or one is a folder and the other not.
pub fn attach(mount: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    Ok(move_mount(mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Blanks, tabs, newlines and backslashes are written there as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let code = others.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                path.push(byte);
                rest = &others[3..];
            }
            _ => {
                path.push(*first);
                rest = others;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_mounts_are_read_as_they_are() {
        let path = |field: &str| unescape(field.as_bytes()).display().to_string();
        assert_eq!(path("/mnt/my\\040disk\\134"), "/mnt/my disk\\");
        assert_eq!(path("/a\\04"), "/a\\04");
    }
}
