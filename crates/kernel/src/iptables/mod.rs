//! iptables, through the host's own programs: whether `iptables` means nf_tables or legacy is the host's decision,
//! and only its own binary follows it.
//!
//! [`Iptables`] is cut to what a proxy does in one step; [`command::Programs`] runs the programs and
//! [`fake::FakeIptables`] holds tables in memory.

pub mod command;
pub mod fake;
mod lock;
mod version;

use std::io;
use std::process::ExitStatus;

use thiserror::Error;

pub use switchyard_plan::IpFamily;
pub use switchyard_plan::iptables::{Table, Variant};
pub use version::Features;

/// iptables exits with this status when it could not take the xtables lock in time.
const LOCK_BUSY: i32 = 4;

/// One address family's tables. Calls are serialised by `&mut`: upstream too runs one command at a time.
pub trait Iptables: Send {
    /// Which kernel interface is behind the programs, and so which size of restore is cheap.
    fn variant(&self) -> Variant;

    /// Whether MASQUERADE can pick source ports at random (`--random-fully`).
    fn random_fully(&self) -> bool;

    /// Creates a chain if it is missing. True if it was.
    fn ensure_chain(&mut self, table: Table, chain: &str) -> Result<bool, IptablesError>;

    /// Puts a rule at the head of `chain` unless it is somewhere in it. True if it was missing.
    fn ensure_rule(&mut self, table: Table, chain: &str, rule: &[String]) -> Result<bool, IptablesError>;

    /// Deletes a rule. A rule or chain that does not exist is no error.
    fn delete_rule(&mut self, table: Table, chain: &str, rule: &[String]) -> Result<(), IptablesError>;

    /// Deletes an empty chain. A chain that does not exist is no error.
    fn delete_chain(&mut self, table: Table, chain: &str) -> Result<(), IptablesError>;

    fn chain_exists(&mut self, table: Table, chain: &str) -> Result<bool, IptablesError>;

    /// Hands over the lines of `iptables-save` for a table: chains (`:NAME …`), then rules (`-A NAME …`). There may be
    /// hundreds of thousands.
    fn list(&mut self, table: Table, line: &mut dyn FnMut(&str)) -> Result<(), IptablesError>;

    /// The names of all chains in a table, built-in ones included.
    fn chain_names(&mut self, table: Table) -> Result<Vec<String>, IptablesError> {
        let mut names = Vec::new();
        self.list(table, &mut |line| {
            let name = line.strip_prefix(':').and_then(|declaration| declaration.split(' ').next());
            names.extend(name.map(str::to_owned));
        })?;
        Ok(names)
    }

    /// The rules of one chain, as lines of `iptables-save` (`-A NAME …`); none if there is no such chain.
    fn chain_rules(&mut self, table: Table, chain: &str) -> Result<Option<Vec<String>>, IptablesError> {
        let (declared, prefix) = (format!(":{chain} "), format!("-A {chain} "));
        let (mut exists, mut rules) = (false, Vec::new());
        self.list(table, &mut |line| {
            exists |= line.starts_with(&declared);
            if line.starts_with(&prefix) {
                rules.push(line.to_owned());
            }
        })?;
        Ok(exists.then_some(rules))
    }

    /// Applies `iptables-restore` input, leaving chains that it does not name as they are. Each table lands whole or
    /// not at all.
    fn restore(&mut self, input: &str) -> Result<(), IptablesError>;
}

#[derive(Debug, Error)]
pub enum IptablesError {
    #[error("cannot run {program}: {source}; install the iptables package, or choose another proxy mode")]
    Missing { program: String, source: io::Error },
    #[error("running {command}: {source}")]
    Io { command: String, source: io::Error },
    #[error("{command} failed ({status}): {output}")]
    Failed { command: String, status: ExitStatus, output: String },
    #[error("{command} did not end within {seconds} s")]
    TimedOut { command: String, seconds: u64 },
    #[error(
        "another process holds the xtables lock ({lock}) for longer than {seconds} s; see who with `fuser {lock}`"
    )]
    LockBusy { lock: String, seconds: u64 },
    #[error("{reason}")]
    Refused { reason: String },
}

impl IptablesError {
    /// Whether the call failed only because somebody else holds the xtables lock: nothing is known, nothing changed.
    pub fn is_lock_busy(&self) -> bool {
        match self {
            IptablesError::LockBusy { .. } => true,
            IptablesError::Failed { status, .. } => status.code() == Some(LOCK_BUSY),
            _ => false,
        }
    }

    /// Whether the thing asked for simply does not exist. iptables has no exit status for that, only words, and they
    /// differ between variants and versions.
    pub fn is_not_found(&self) -> bool {
        const PHRASES: [&str; 4] = [
            "No chain/target/match by that name",
            "No such file or directory",
            "does a matching rule exist",
            "does not exist",
        ];
        matches!(self, IptablesError::Failed { output, .. } if PHRASES.iter().any(|phrase| output.contains(phrase)))
    }
}
