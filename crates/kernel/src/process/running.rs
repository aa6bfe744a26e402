//! Processes of others: who they are, where they are, how to end them.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process, told from a later one of the same number by the moment it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: i32,
    /// In clock ticks since the machine booted: field 22 of `/proc/PID/stat`.
    pub started: u64,
}

/// What a process holds of the machine's memory, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// All pages that it has mapped.
    pub resident: u64,
    /// Those, each divided by the number of processes that share it.
    pub proportional: u64,
}

impl Process {
    /// The process of that number, unless there is none or it has ended.
    #[must_use]
    pub fn find(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = state_and_start(&stat)?;
        // A zombie has ended; that its parent does not look does not make it run.
        (!matches!(state, "Z" | "X")).then_some(Process { pid, started })
    }

    /// The calling process, unless /proc is missing.
    #[must_use]
    pub fn own() -> Option<Process> {
        Process::find(Pid::this().as_raw())
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        Process::find(self.pid) == Some(*self)
    }

    /// Sends a signal. One that has ended is no error.
    ///
    /// # Errors
    /// When it belongs to somebody else.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(Errno::ESRCH) | Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Its memory.
    ///
    /// # Errors
    /// When it has ended, or belongs to somebody else.
    pub fn memory(&self) -> io::Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        Ok(Memory { resident: field("Rss:"), proportional: field("Pss:") })
    }
}

/// Every process in one of these network namespaces, given by their [id](crate::namespace::NamespaceFile::id).
///
/// # Errors
/// Without /proc.
pub fn in_networks(networks: &BTreeSet<u64>) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let pid = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && network_of(&path).is_some_and(|network| networks.contains(&network))
        {
            found.extend(Process::find(pid));
        }
    }
    Ok(found)
}

/// The namespace that `/proc/PID/ns/net` links to, as in `net:[4026531840]`.
fn network_of(process: &Path) -> Option<u64> {
    let link = fs::read_link(process.join("ns/net")).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// Fields 3 and 22. The name before them is in brackets and may hold anything, brackets and blanks too.
pub(super) fn state_and_start(stat: &str) -> Option<(&str, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let own = Process::own().unwrap();
        assert!(own.is_running());
        assert!(!Process { started: own.started + 1, ..own }.is_running());
    }

    #[test]
    fn a_process_that_ended_does_not_run_also_while_nobody_has_waited_for_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::find(child.id().try_into().unwrap()).unwrap();
        process.signal(Signal::SIGKILL).unwrap();
        while process.is_running() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        process.signal(Signal::SIGKILL).unwrap();
    }

    #[test]
    fn the_name_of_a_process_may_hold_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        assert_eq!(state_and_start(stat), Some(("S", 12345)));
    }

    #[test]
    fn a_process_is_found_by_its_network() {
        let own = network_of(Path::new("/proc/self")).unwrap();
        let all = in_networks(&BTreeSet::from([own])).unwrap();
        assert!(all.contains(&Process::own().unwrap()));
        assert!(in_networks(&BTreeSet::new()).unwrap().is_empty());
    }

    #[test]
    fn a_process_has_memory() {
        let memory = Process::own().unwrap().memory().unwrap();
        assert!(memory.resident >= memory.proportional && memory.proportional > 0);
    }
}
