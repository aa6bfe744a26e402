//! Kernel settings under /proc/sys, and the size of the connection tracking hash table.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The size of the hash table is a module parameter, not a sysctl, and exists once for all namespaces.
const HASHSIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";

#[derive(Debug, Error)]
pub enum SysctlError {
    #[error("can't read sysctl {name} ({}): {source}", path.display())]
    Read { name: String, path: PathBuf, source: io::Error },
    #[error("can't set sysctl {name} to {value} ({}): {source}", path.display())]
    Write { name: String, value: String, path: PathBuf, source: io::Error },
}

/// Named settings, with dots or slashes between their parts: `net/ipv4/conf/all/route_localnet`.
pub trait Sysctls: Send + std::fmt::Debug {
    fn get(&self, name: &str) -> Result<String, SysctlError>;
    fn set(&mut self, name: &str, value: &str) -> Result<(), SysctlError>;

    /// Sets what is not set already; the value before, where it had to be. A value that cannot be read is set.
    fn ensure(&mut self, name: &str, value: u64) -> Result<Option<String>, SysctlError> {
        let wanted = value.to_string();
        let before = self.get(name).ok();
        if before.as_deref() == Some(wanted.as_str()) {
            return Ok(None);
        }
        self.set(name, &wanted)?;
        Ok(Some(before.unwrap_or_default()))
    }
}

/// The settings of this network namespace.
#[derive(Debug, Clone)]
pub struct KernelSysctls {
    root: PathBuf,
}

impl Default for KernelSysctls {
    fn default() -> KernelSysctls {
        KernelSysctls { root: PathBuf::from("/proc/sys") }
    }
}

impl KernelSysctls {
    fn path(&self, name: &str) -> PathBuf {
        if name == NF_CONNTRACK_HASHSIZE { PathBuf::from(HASHSIZE) } else { self.root.join(name) }
    }
}

/// Not a sysctl, but kept with them: see [`Sysctls`].
pub const NF_CONNTRACK_HASHSIZE: &str = "nf_conntrack/hashsize";

impl Sysctls for KernelSysctls {
    fn get(&self, name: &str) -> Result<String, SysctlError> {
        let path = self.path(name);
        let read = fs::read_to_string(&path).map(|text| text.trim().to_owned());
        read.map_err(|source| SysctlError::Read { name: name.to_owned(), path, source })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), SysctlError> {
        let path = self.path(name);
        fs::write(&path, value).map_err(|source| SysctlError::Write {
            name: name.to_owned(),
            value: value.to_owned(),
            path,
            source,
        })
    }
}

/// Whether the kernel has IPv6 and it is not switched off; otherwise why not.
pub fn ipv6_unusable() -> Option<&'static str> {
    if !Path::new("/proc/net/if_inet6").exists() {
        return Some("the kernel has no IPv6");
    }
    let disabled = fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    disabled.is_ok_and(|text| text.trim() == "1").then_some("net.ipv6.conf.all.disable_ipv6 is 1")
}

/// CPUs that are online.
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Makes this process more or less likely to be ended when memory runs out: -1000 (never) to 1000.
pub fn set_oom_score_adj(score: i32) -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", score.to_string())
}

/// Settings in memory.
pub mod fake {
    use std::collections::BTreeMap;
    use std::io;

    use super::{SysctlError, Sysctls};

    #[derive(Debug, Clone, Default)]
    pub struct FakeSysctls {
        pub values: BTreeMap<String, String>,
        /// Names that cannot be written, as in a network namespace of a container.
        pub read_only: Vec<String>,
    }

    impl Sysctls for FakeSysctls {
        fn get(&self, name: &str) -> Result<String, SysctlError> {
            self.values.get(name).cloned().ok_or_else(|| SysctlError::Read {
                name: name.to_owned(),
                path: name.into(),
                source: io::ErrorKind::NotFound.into(),
            })
        }

        fn set(&mut self, name: &str, value: &str) -> Result<(), SysctlError> {
            if self.read_only.iter().any(|read_only| read_only == name) {
                let source = io::ErrorKind::PermissionDenied.into();
                let (name, value) = (name.to_owned(), value.to_owned());
                return Err(SysctlError::Write { path: name.clone().into(), name, value, source });
            }
            self.values.insert(name.to_owned(), value.to_owned());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::FakeSysctls;
    use super::*;

    #[test]
    fn a_value_that_is_right_is_not_written() {
        let name = "net/ipv4/conf/all/route_localnet";
        let mut sysctls =
            FakeSysctls { values: [(name.to_owned(), "1".to_owned())].into(), ..FakeSysctls::default() };
        sysctls.read_only.push(name.to_owned());
        assert!(sysctls.ensure(name, 1).unwrap().is_none());
        let error = sysctls.ensure(name, 2).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains('2'), "{error}");
    }
}
