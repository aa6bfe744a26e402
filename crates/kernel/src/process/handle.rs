//! A process by a descriptor instead of a number, since numbers are given out again.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sched::setns;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use super::Namespaces;
use super::running::state_and_start;
use crate::wait::readable;

/// A process that was running when the handle was made, and no other ever after. Readable, for `poll`, when it has ended.
#[derive(Debug)]
pub struct ProcessHandle {
    file: OwnedFd,
}

impl ProcessHandle {
    /// A process by its number; `None` if there is none. The caller has to know that the number still means the same process:
    /// because it is a child that nobody waited for, or by [`start_time`](ProcessHandle::start_time).
    ///
    /// # Errors
    /// When out of descriptors.
    pub fn open(id: u32) -> io::Result<Option<ProcessHandle>> {
        let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(id, PidfdFlags::empty()) {
            Ok(file) => Ok(Some(ProcessHandle { file })),
            // EINVAL: a thread's number.
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// When a process started, in ticks since boot, also one that has ended and that nobody has waited for: with its number,
    /// what it is told by. `None` if there is no such process.
    #[must_use]
    pub fn start_time(id: u32) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        state_and_start(&stat).map(|(_, start)| start)
    }

    /// Ends the process and, if it is the first of its process namespace, every other there.
    ///
    /// # Errors
    /// When it is not ours to end. One that has ended is no error.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.file, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the end; false if it has not come within `limit`. The first of a process namespace ends after all others there.
    ///
    /// # Errors
    /// When the kernel is out of memory.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        if !readable(self, Instant::now() + limit)? {
            return Ok(false);
        }
        // Where it is a child of this process it would stay in the table of processes; where not, that is ECHILD.
        let _ = waitid(WaitId::PidFd(self.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        Ok(true)
    }

    /// Moves the calling thread, which has to be the process's only one, into namespaces of this process.
    ///
    /// # Errors
    /// When the process has ended, or without CAP_SYS_ADMIN.
    pub fn enter(&self, kinds: Namespaces) -> io::Result<()> {
        Ok(setns(&self.file, kinds)?)
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Of a handle that was received from another process.
impl From<OwnedFd> for ProcessHandle {
    fn from(file: OwnedFd) -> ProcessHandle {
        ProcessHandle { file }
    }
}
