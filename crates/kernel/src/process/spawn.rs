//! Starting a program in other namespaces.

use std::io;
use std::os::fd::BorrowedFd;
use std::process::{Child, Command};

use nix::sched::{setns, unshare};

use crate::namespace::on_own_thread;

/// Kinds of namespaces, to be combined.
pub use nix::sched::CloneFlags as Namespaces;

/// Starts a program in the namespaces `enter` (files of namespaces or process handles, and which kinds of theirs), and
/// in new ones of the kinds `make`. The program is the first in a new process namespace: when it ends, the kernel ends all others.
///
/// Where the program is looked up and what is open stays the caller's.
///
/// # Errors
/// Without CAP_SYS_ADMIN, if a namespace is gone, or if the program cannot be run.
pub fn spawn_in(
    command: &mut Command,
    enter: &[(BorrowedFd<'_>, Namespaces)],
    make: Namespaces,
) -> io::Result<Child> {
    // A process namespace is not entered by the thread but by the children it has from then on.
    on_own_thread(|| {
        for (file, kinds) in enter {
            setns(file, *kinds)?;
        }
        unshare(make)?;
        command.spawn()
    })
}
