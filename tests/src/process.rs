//! What a process has used of the machine.

use std::fs;

use anyhow::{Context, Result};

/// Memory and time of a process.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Resident memory now.
    pub resident_kib: u64,
    /// What of it is the process's alone: neither the program's file nor libraries.
    pub anonymous_kib: u64,
    /// The most it has ever been.
    pub peak_kib: u64,
    /// Of the process and of those children it has waited for.
    pub cpu_seconds: f64,
}

impl Usage {
    /// As /proc has it.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> Result<Usage> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let status = read("status")?;
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
            value
                .and_then(|value| value.parse().ok())
                .with_context(|| format!("{name} is missing in /proc/{pid}/status"))
        };
        let stat = read("stat")?;
        // The command in brackets may hold spaces; utime, stime, cutime and cstime are the 12th to 15th field after it.
        let times = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: f64 =
            times.split_whitespace().skip(11).take(4).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
        Ok(Usage {
            resident_kib: field("VmRSS:")?,
            anonymous_kib: field("RssAnon:")?,
            peak_kib: field("VmHWM:")?,
            cpu_seconds: ticks / per_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident_kib > 0 && usage.peak_kib >= usage.resident_kib && usage.cpu_seconds >= 0.0);
    }
}
