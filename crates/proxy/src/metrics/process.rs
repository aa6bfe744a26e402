//! What the kernel says about this process, from `/proc`.

use std::fs;

use prometheus::proto::MetricType::{self, COUNTER, GAUGE};

/// Name, type and help, in the order of [`read`]'s values.
pub(super) const NAMES: &[(&str, MetricType, &str)] = &[
    ("process_cpu_seconds_total", COUNTER, "Total user and system CPU time spent in seconds."),
    ("process_max_fds", GAUGE, "Maximum number of open file descriptors."),
    (
        "process_network_receive_bytes_total",
        COUNTER,
        "Number of bytes received by the process over the network.",
    ),
    (
        "process_network_transmit_bytes_total",
        COUNTER,
        "Number of bytes sent by the process over the network.",
    ),
    ("process_open_fds", GAUGE, "Number of open file descriptors."),
    ("process_resident_memory_bytes", GAUGE, "Resident memory size in bytes."),
    ("process_start_time_seconds", GAUGE, "[ALPHA] Start time of the process since unix epoch in seconds."),
    ("process_virtual_memory_bytes", GAUGE, "Virtual memory size in bytes."),
];

/// The unit of CPU and start times in `/proc`: USER_HZ, which the kernel promises to be 100 on every platform that
/// Kubernetes runs on.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn read() -> [Option<f64>; 8] {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (stat, status, netstat) =
        (text("/proc/self/stat"), text("/proc/self/status"), text("/proc/self/net/netstat"));
    [
        cpu_seconds(&stat),
        max_open_files(&text("/proc/self/limits")),
        ip_octets(&netstat, "InOctets"),
        ip_octets(&netstat, "OutOctets"),
        open_files(),
        memory(&status, "VmRSS:"),
        start_seconds(&stat, &text("/proc/stat")),
        memory(&status, "VmSize:"),
    ]
}

/// When this process started, in seconds since the epoch.
pub(super) fn start_time() -> Option<f64> {
    start_seconds(&fs::read_to_string("/proc/self/stat").ok()?, &fs::read_to_string("/proc/stat").ok()?)
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str, system_stat: &str) -> Option<f64> {
    let boot: f64 = system_stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

/// Fields are counted from 1 as in proc(5). The second, the command's name, may hold blanks and brackets.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// The soft limit; "unlimited" is no number and leaves the metric out.
fn max_open_files(limits: &str) -> Option<f64> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn open_files() -> Option<f64> {
    // One of them is the descriptor that the listing itself holds.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn memory(status: &str, key: &str) -> Option<f64> {
    let kibibytes: f64 =
        status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// Of the process's whole network namespace: the line of names and the line of values both start with `IpExt:`.
fn ip_octets(netstat: &str, column: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter(|line| line.starts_with("IpExt:"));
    let position = lines.next()?.split_whitespace().position(|name| name == column)?;
    lines.next()?.split_whitespace().nth(position)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_may_hold_anything() {
        let fields = (3..=22).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let stat = format!("7 (a) b (c)) {fields}");
        assert_eq!(cpu_seconds(&stat), Some(0.29));
        assert_eq!(start_seconds(&stat, "cpu 1 2\nbtime 1000\n"), Some(1000.22));
    }

    #[test]
    fn every_value_of_this_process_can_be_read() {
        let values = read();
        for ((name, _, _), value) in NAMES.iter().zip(values) {
            assert!(value.is_some(), "{name}");
        }
        assert!(values[5] < values[7], "resident memory is part of the virtual");
    }

    #[test]
    fn what_is_missing_is_left_out() {
        assert_eq!(
            max_open_files("Max open files            unlimited            unlimited            files\n"),
            None
        );
        assert_eq!(
            max_open_files("Max open files            1024                 4096                 files\n"),
            Some(1024.0)
        );
        assert_eq!(memory("Name: x\n", "VmRSS:"), None);
        assert_eq!(ip_octets("TcpExt: InOctets\nTcpExt: 1\n", "InOctets"), None);
    }
}
