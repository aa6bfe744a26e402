//! Input of `iptables-restore --noflush`: the pieces that every such text is made of.
//!
//! With `--noflush` a line `:CHAIN - [0:0]` creates a chain or empties it; chains without such a line stay as they
//! are. Everything between `*TABLE` and `COMMIT` lands at once or not at all.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use super::{Chain, DispatchChain, DispatchRule, PortRules, Rule, Table};

/// What is behind the `iptables` program of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// iptables-nft: the time of a restore grows with the square of its size, but what it does not name is free.
    NfTables,
    /// iptables-legacy: each restore reads and replaces whole tables, however little it changes.
    Legacy,
}

/// One run of `iptables-restore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    pub text: String,
    pub purpose: Purpose,
}

/// What a restore is for, to tell the operator when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Everything,
    Base,
    ServicePorts(usize),
    DispatchChains,
    StaleChains(usize),
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Purpose::Everything => f.write_str("writing all rules"),
            Purpose::Base => f.write_str("writing the rules that all services share"),
            Purpose::ServicePorts(count) => write!(f, "writing the rules of {count} service ports"),
            Purpose::DispatchChains => f.write_str("rewriting the chains that lead to all services"),
            Purpose::StaleChains(count) => write!(f, "deleting {count} chains that nothing uses any more"),
        }
    }
}

/// Numbers of rules by table; jumps from built-in chains are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleCounts {
    pub filter: usize,
    pub nat: usize,
}

impl RuleCounts {
    pub(super) fn of(table: Table, count: usize) -> RuleCounts {
        match table {
            Table::Filter => RuleCounts { filter: count, nat: 0 },
            Table::Nat => RuleCounts { filter: 0, nat: count },
            Table::Mangle => RuleCounts::default(),
        }
    }
}

impl Add for RuleCounts {
    type Output = RuleCounts;

    fn add(self, other: RuleCounts) -> RuleCounts {
        RuleCounts { filter: self.filter + other.filter, nat: self.nat + other.nat }
    }
}

impl AddAssign for RuleCounts {
    fn add_assign(&mut self, other: RuleCounts) {
        *self = *self + other;
    }
}

impl Sub for RuleCounts {
    type Output = RuleCounts;

    fn sub(self, other: RuleCounts) -> RuleCounts {
        RuleCounts {
            filter: self.filter.saturating_sub(other.filter),
            nat: self.nat.saturating_sub(other.nat),
        }
    }
}

/// One table's part of a text, put together in any order.
#[derive(Debug)]
pub(super) struct TableText {
    table: Table,
    declarations: String,
    rules: String,
    chain_deletions: String,
    last_rules: String,
    written: usize,
}

impl TableText {
    pub(super) fn new(table: Table) -> TableText {
        TableText {
            table,
            declarations: String::new(),
            rules: String::new(),
            chain_deletions: String::new(),
            last_rules: String::new(),
            written: 0,
        }
    }

    /// Creates the chain, or empties it.
    pub(super) fn declare(&mut self, chain: Chain) {
        self.declarations.push(':');
        chain.write(&mut self.declarations);
        self.declarations.push_str(" - [0:0]\n");
    }

    pub(super) fn append(&mut self, chain: Chain, rule: &Rule) {
        self.written += 1;
        write_line("-A ", chain, rule, &mut self.rules);
    }

    /// Appends the rule after everything else, the deletion of chains included.
    pub(super) fn append_last(&mut self, chain: Chain, rule: &Rule) {
        self.written += 1;
        write_line("-A ", chain, rule, &mut self.last_rules);
    }

    /// Declares and fills all own chains of a service port.
    pub(super) fn write_own_chains(&mut self, rules: &PortRules) {
        rules.chains.iter().for_each(|chain| self.declare(*chain));
        rules.rules.iter().for_each(|(chain, rule)| self.append(*chain, rule));
    }

    /// Inserts rules of shared chains at the chains' heads: in front of the tail of KUBE-SERVICES, and of older rules
    /// for the same address. They end up in the order given.
    pub(super) fn insert_dispatch<'r>(&mut self, rules: impl DoubleEndedIterator<Item = &'r DispatchRule>) {
        for DispatchRule { chain, rule } in rules.rev().filter(|rule| rule.chain.table() == self.table) {
            self.written += 1;
            write_line("-I ", chain.chain(), rule, &mut self.rules);
        }
    }

    pub(super) fn delete(&mut self, chain: Chain, rule: &Rule) {
        write_line("-D ", chain, rule, &mut self.rules);
    }

    /// Empties the chain and deletes it. Nothing may jump to it any more when the table is committed.
    pub(super) fn delete_chain(&mut self, name: &str) {
        for part in [":", name, " - [0:0]\n"] {
            self.declarations.push_str(part);
        }
        for part in ["-X ", name, "\n"] {
            self.chain_deletions.push_str(part);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        [&self.declarations, &self.rules, &self.last_rules].iter().all(|part| part.is_empty())
    }

    pub(super) fn written(&self) -> RuleCounts {
        RuleCounts::of(self.table, self.written)
    }

    /// The text, from `*TABLE` to `COMMIT`.
    pub(super) fn finish(self) -> String {
        // The rules of a big cluster are tens of megabytes: they are added to in place, not copied.
        let mut text = self.rules;
        text.push_str(&self.chain_deletions);
        text.push_str(&self.last_rules);
        text.push_str("COMMIT\n");
        text.insert_str(0, &["*", self.table.as_str(), "\n", &self.declarations].concat());
        text
    }

    /// The text, or none if it would do nothing.
    pub(super) fn finish_unless_empty(self) -> String {
        if self.is_empty() { String::new() } else { self.finish() }
    }
}

/// The parts of both tables.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) filter: TableText,
    pub(super) nat: TableText,
}

impl Texts {
    pub(super) fn new() -> Texts {
        Texts { filter: TableText::new(Table::Filter), nat: TableText::new(Table::Nat) }
    }

    pub(super) fn of(&mut self, chain: DispatchChain) -> &mut TableText {
        match chain.table() {
            Table::Filter => &mut self.filter,
            Table::Nat | Table::Mangle => &mut self.nat,
        }
    }

    pub(super) fn append_dispatch(&mut self, rules: &[DispatchRule]) {
        for DispatchRule { chain, rule } in rules {
            self.of(*chain).append(chain.chain(), rule);
        }
    }

    pub(super) fn insert_dispatch(&mut self, rules: &[DispatchRule]) {
        self.filter.insert_dispatch(rules.iter());
        self.nat.insert_dispatch(rules.iter());
    }

    /// Creates the chains that hold rules of every service port, or empties them.
    pub(super) fn declare_dispatch_chains(&mut self) {
        for chain in DispatchChain::ALL {
            self.of(chain).declare(chain.chain());
        }
    }

    pub(super) fn written(&self) -> RuleCounts {
        self.filter.written() + self.nat.written()
    }

    /// The text, without a table to which nothing is done.
    pub(super) fn finish(self) -> String {
        self.filter.finish_unless_empty() + &self.nat.finish_unless_empty()
    }
}

fn write_line(verb: &str, chain: Chain, rule: &Rule, out: &mut String) {
    out.push_str(verb);
    chain.write(out);
    rule.write_restore(out);
    out.push('\n');
}

/// Splits a line of restore input into words; double quotes hold words together.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted) = (String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}
