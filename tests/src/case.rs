//! The recorded cases of `cases/`: what the cluster holds, how the proxy is started, what it programs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use switchyard_lab::topology::Topology;

use crate::cluster;

/// One folder of `cases/iptables`.
#[derive(Debug, Clone)]
pub struct Case {
    /// The folder's name.
    pub name: String,
    dir: PathBuf,
}

/// An IP family, by the prefix of its programs' and files' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `iptables-save.txt`
    Ipv4,
    /// `ip6tables-save.txt`
    Ipv6,
}

impl Family {
    /// Both families, in the order they are compared.
    pub const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The name of this family's `iptables-TOOL` program.
    #[must_use]
    pub fn program(self, tool: &str) -> String {
        match self {
            Family::Ipv4 => format!("iptables-{tool}"),
            Family::Ipv6 => format!("ip6tables-{tool}"),
        }
    }
}

impl Case {
    /// Every recorded case, in order of name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn all() -> Result<Vec<Case>> {
        let root = cases_dir().join("iptables");
        let entries = fs::read_dir(&root).with_context(|| format!("reading {}", root.display()))?;
        let mut cases = Vec::new();
        for entry in entries {
            let dir = entry?.path();
            if let Some(name) = dir.file_name().and_then(|name| name.to_str()) {
                cases.push(Case { name: name.to_owned(), dir });
            }
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(cases)
    }

    /// One recorded case.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn named(name: &str) -> Result<Case> {
        let case = Case::all()?.into_iter().find(|case| case.name == name);
        case.with_context(|| format!("no case {name} is recorded"))
    }

    /// The proxy's flags: those every case was recorded with, then the case's own.
    ///
    /// # Errors
    /// When the case has no readable `args`.
    pub fn args(&self) -> Result<Vec<String>> {
        let own: Vec<String> = self.read("args")?.lines().map(str::to_owned).collect();
        let mut args = vec!["--hostname-override=node-1".to_owned()];
        // A cluster CIDR means nothing to the other ways of telling local traffic.
        if !own.iter().any(|flag| flag.starts_with("--detect-local-mode")) {
            args.push("--cluster-cidr=10.244.0.0/16,fd00:10:244::/56".to_owned());
        }
        args.extend(own);
        Ok(args)
    }

    /// The dump that the proxy was recorded to leave behind.
    ///
    /// # Errors
    /// When the case lacks it.
    pub fn recorded_dump(&self, family: Family) -> Result<String> {
        self.read(&format!("{}.txt", family.program("save")))
    }

    /// Writes the case's objects, and those every cluster has, as manifests into `dir`.
    ///
    /// # Errors
    /// When the case has no readable objects or `dir` cannot be written.
    pub fn write_manifests(&self, topology: &Topology, dir: &Path) -> Result<()> {
        write(&dir.join("objects.yaml"), &self.read("objects.yaml")?)?;
        write(&dir.join("cluster.yaml"), &cluster::manifests(topology))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.dir.join(file);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

/// The folder of recorded cases at the root of the repository.
#[must_use]
pub fn cases_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases")
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
