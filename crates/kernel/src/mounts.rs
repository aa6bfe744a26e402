//! What is mounted where.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

/// The places at and below `folder` where something is mounted, the innermost and latest first: the order to unmount in.
///
/// # Errors
/// Without /proc.
pub fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut places = parse(&fs::read("/proc/self/mountinfo")?);
    places.retain(|place| place.starts_with(folder));
    places.reverse();
    Ok(places)
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

/// The mount points of a mountinfo file, its fifth column.
fn parse(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|byte| *byte == b'\n');
    lines.filter_map(|line| Some(unescape(line.split(|byte| *byte == b' ').nth(4)?))).collect()
}

/// The kernel writes blanks and backslashes of a path as `\` and three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(value) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            path.push(value);
            rest = &after[3..];
        } else {
            path.push(byte);
            rest = after;
        }
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        let table = b"22 1 0:20 / /proc rw - proc proc rw\n23 1 0:21 / /a\\040b\\134c rw - tmpfs x rw\n";
        assert_eq!(parse(table), [PathBuf::from("/proc"), PathBuf::from("/a b\\c")]);
    }

    #[test]
    fn only_what_is_below_the_folder_is_listed() {
        assert!(below(Path::new("/proc")).unwrap().contains(&PathBuf::from("/proc")));
        assert!(below(Path::new("/pro")).unwrap().is_empty());
    }
}
