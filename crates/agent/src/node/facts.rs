//! What is found on this machine.

use std::fs;

/// This machine, as the API wants to know it. What cannot be found out is empty or 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Facts {
    pub(super) cpus: usize,
    pub(super) memory_kib: u64,
    pub(super) machine_id: String,
    pub(super) system_uuid: String,
    pub(super) boot_id: String,
    pub(super) kernel_version: String,
    pub(super) os_image: String,
}

impl Facts {
    pub(super) fn read() -> Facts {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let machine_id = line("/etc/machine-id");
        let system_uuid = line("/sys/class/dmi/id/product_uuid");
        Facts {
            cpus: switchyard_kernel::sysctl::cpu_count(),
            memory_kib: memory_kib(&line("/proc/meminfo")),
            system_uuid: if system_uuid.is_empty() { machine_id.clone() } else { system_uuid },
            machine_id,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel_version: line("/proc/sys/kernel/osrelease"),
            os_image: os_image(&line("/etc/os-release")),
        }
    }
}

/// As the API names processors.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn memory_kib(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|total| total.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_system_are_understood() {
        assert_eq!(memory_kib("MemTotal:       16303324 kB\nMemFree: 1 kB\n"), 16_303_324);
        assert_eq!(memory_kib(""), 0);
        assert_eq!(os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert!(Facts::read().cpus > 0);
    }
}
