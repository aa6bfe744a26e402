//! The two programs that go by the name of iptables.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

/// Which kernel interface the host's iptables uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// iptables on top of nf_tables, Debian's default.
    NfTables,
    /// The kernel's older ip_tables.
    Legacy,
}

impl Variant {
    /// Both variants.
    pub const BOTH: [Variant; 2] = [Variant::NfTables, Variant::Legacy];

    /// The name used in the names of tests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Variant::NfTables => "nf_tables",
            Variant::Legacy => "legacy",
        }
    }

    /// Fills `dir` with this variant's programs under their plain names, as a host that chose it has them,
    /// and gives the PATH that finds them there first.
    ///
    /// # Errors
    /// When the variant is not installed or the folder cannot be written.
    pub fn search_path(self, dir: &Path) -> Result<OsString> {
        let multi = match self {
            Variant::NfTables => "xtables-nft-multi",
            Variant::Legacy => "xtables-legacy-multi",
        };
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let mut path: Vec<PathBuf> = std::env::split_paths(&inherited).collect();
        // Where Debian keeps it, and what the PATH of an ordinary user's shell leaves out.
        path.push("/usr/sbin".into());
        let program = path
            .iter()
            .map(|folder| folder.join(multi))
            .find(|program| program.exists())
            .ok_or_else(|| anyhow!("{multi} is not on the PATH: install the package iptables"))?;
        for family in ["iptables", "ip6tables"] {
            for tool in ["", "-save", "-restore"] {
                let link = dir.join(format!("{family}{tool}"));
                symlink(&program, &link).with_context(|| format!("linking {}", link.display()))?;
            }
        }
        path.insert(0, dir.to_owned());
        Ok(std::env::join_paths(path)?)
    }
}
