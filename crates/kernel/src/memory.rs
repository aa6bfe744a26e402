//! The memory of this process that nobody else counts: pages of the program's own file.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// Gives back the pages of the program's code that are mapped into this process; what still runs comes back by itself, from the
/// page cache. A daemon's start runs through flags, files and handshakes that are never needed again, and the kernel maps 16 pages
/// around each one that is touched: most of what an idle daemon has resident.
///
/// # Errors
/// If the mappings of this process cannot be read or given back. Nothing is lost then but the saving.
pub fn give_back_program_pages() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let program = program.to_string_lossy();
    let maps = fs::read_to_string("/proc/self/maps")?;
    for (start, length) in maps.lines().filter_map(|line| code_of(line, &program)) {
        // SAFETY: the range is a mapping of code that this process has had since it was started and never unmaps. It is private,
        // from a file, and not writable, so no page of it differs from the file: reading one again gives the same bytes.
        #[allow(unsafe_code)]
        unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) }?;
    }
    Ok(())
}

/// Address and length of what a line of `/proc/self/maps` tells of, if it is code of the program.
fn code_of(line: &str, program: &str) -> Option<(NonNull<c_void>, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    // Read-only data is left alone: pointers that the loader filled in are among it, and those are not in the file.
    if permissions != "r-xp" || fields.nth(3)? != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let address = NonNull::new(std::ptr::with_exposed_provenance_mut(start))?;
    Some((address, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_given_back() {
        let line = "00400000-00a00000 r-xp 00200000 fe:00 1234                       /usr/bin/switchyard";
        let (start, length) = code_of(line, "/usr/bin/switchyard").unwrap();
        assert_eq!((start.as_ptr() as usize, length), (0x0040_0000, 0x0060_0000));
        for other in [
            "00200000-00400000 r--p 00000000 fe:00 1234                       /usr/bin/switchyard",
            "00a00000-00b00000 rw-p 00800000 fe:00 1234                       /usr/bin/switchyard",
            "7f0000000000-7f0000100000 r-xp 00000000 fe:00 99                 /lib/libc.so.6",
            "7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                  [vdso]",
            "",
        ] {
            assert_eq!(code_of(other, "/usr/bin/switchyard"), None);
        }
    }

    #[test]
    fn the_program_goes_on_with_fewer_pages() {
        let resident = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = resident();
        give_back_program_pages().unwrap();
        assert!(resident() < before);
    }
}
