//! Files that a program was started with.

#![allow(unsafe_code)]

use std::io;

use nix::errno::Errno;
use nix::libc;

/// Keeps every file that is open now from the programs that this process starts later, but for the three standard streams. What
/// is opened later is kept from them anyway.
///
/// # Errors
/// Before Linux 5.11.
pub fn keep_files_from_programs() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    const FLAGS: libc::c_int = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    // SAFETY: with this flag the call closes nothing and touches no memory, it sets a flag of descriptors.
    let result = unsafe { libc::close_range(FIRST, libc::c_uint::MAX, FLAGS) };
    Ok(Errno::result(result).map(drop)?)
}
