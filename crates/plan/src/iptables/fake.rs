//! A kernel's tables in memory, for tests: takes `iptables-restore --noflush` input and refuses what a kernel would.

use std::collections::BTreeMap;
use std::fmt::Write;

use thiserror::Error;

use super::restore::words;
use super::{Jump, Table};

const TABLES: [(Table, &[&str]); 3] = [
    (Table::Mangle, &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
    (Table::Filter, &["INPUT", "FORWARD", "OUTPUT"]),
    (Table::Nat, &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
];

/// Targets that are not chains.
const TARGETS: [&str; 7] = ["ACCEPT", "DROP", "REJECT", "RETURN", "MARK", "MASQUERADE", "DNAT"];

const LONGEST_NAME: usize = 28;

type Chains = BTreeMap<String, Vec<String>>;

/// The chains of every table, each rule as the text after `-A CHAIN `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeTables {
    tables: BTreeMap<Table, Chains>,
}

/// Why a restore was refused. Tables committed before that line stay changed, as with the real program.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("iptables-restore: line {line} failed: {reason}: {text}")]
pub struct Refused {
    /// Counted from 1.
    pub line: usize,
    pub text: String,
    pub reason: &'static str,
}

impl Default for FakeTables {
    fn default() -> FakeTables {
        let chains = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        FakeTables { tables: TABLES.iter().map(|(table, names)| (*table, chains(names))).collect() }
    }
}

impl FakeTables {
    /// Ensures every chain and jump that a full sync needs, as it does at its beginning.
    pub fn ensure_all(&mut self) {
        for place in super::chains_to_ensure() {
            self.ensure_chain(place.table, &place.chain.to_string());
        }
        super::jumps().iter().for_each(|jump| self.ensure_jump(jump));
    }

    /// Creates a chain if it is missing. True if it was.
    pub fn ensure_chain(&mut self, table: Table, chain: &str) -> bool {
        let chains = self.tables.entry(table).or_default();
        let missing = !chains.contains_key(chain);
        chains.entry(chain.to_owned()).or_default();
        missing
    }

    /// Puts a jump at the head of its chain, and makes the chain it leads to, where missing.
    pub fn ensure_jump(&mut self, jump: &Jump) {
        self.ensure_chain(jump.table, &jump.target.to_string());
        let rule = jump.rule.to_string();
        let rules = self.tables.entry(jump.table).or_default().entry(jump.source.to_string()).or_default();
        if !rules.contains(&rule) {
            rules.insert(0, rule);
        }
    }

    /// The names of all chains in a table, sorted, built-in ones included.
    pub fn chain_names(&self, table: Table) -> impl Iterator<Item = &str> {
        self.tables.get(&table).into_iter().flat_map(|chains| chains.keys().map(String::as_str))
    }

    /// The rules of a chain; `None` if it does not exist.
    pub fn rules(&self, table: Table, chain: &str) -> Option<&[String]> {
        self.tables.get(&table)?.get(chain).map(Vec::as_slice)
    }

    /// Removes every rule and every chain that is not built in, as `iptables -F; iptables -X` in all tables.
    pub fn flush(&mut self) {
        *self = FakeTables::default();
    }

    /// Applies a text. Each table lands whole or not at all.
    pub fn restore(&mut self, text: &str) -> Result<(), Refused> {
        let mut open: Option<(Table, Chains)> = None;
        let mut number = 0;
        for line in text.lines() {
            number += 1;
            let refused = |reason| Refused { line: number, text: line.to_owned(), reason };
            if let Some(name) = line.strip_prefix('*') {
                let table = TABLES.map(|(table, _)| table).into_iter().find(|table| table.as_str() == name);
                let table = table.ok_or_else(|| refused("no such table"))?;
                open = Some((table, self.tables.get(&table).cloned().unwrap_or_default()));
            } else if line == "COMMIT" {
                let (table, chains) = open.take().ok_or_else(|| refused("no table is open"))?;
                self.tables.insert(table, chains);
            } else if !line.is_empty() && !line.starts_with('#') {
                let (_, chains) = open.as_mut().ok_or_else(|| refused("no table is open"))?;
                apply(chains, line).map_err(refused)?;
            }
        }
        match open {
            Some(_) => Err(Refused { line: number, text: String::new(), reason: "COMMIT expected" }),
            None => Ok(()),
        }
    }

    /// Everything, readable, in the order of tables and chain names.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for (table, chains) in &self.tables {
            let _ = writeln!(text, "*{table}");
            for (chain, rules) in chains {
                let _ = writeln!(text, ":{chain}");
                for rule in rules {
                    let _ = writeln!(text, "-A {chain} {rule}");
                }
            }
        }
        text
    }
}

fn apply(chains: &mut Chains, line: &str) -> Result<(), &'static str> {
    if let Some(declaration) = line.strip_prefix(':') {
        let name = declaration.split(' ').next().unwrap_or_default();
        if name.len() > LONGEST_NAME {
            return Err("chain name too long");
        }
        chains.insert(name.to_owned(), Vec::new());
        return Ok(());
    }
    let (verb, rest) = line.split_once(' ').ok_or("unknown line")?;
    let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
    if verb == "-X" {
        return delete_chain(chains, chain);
    }
    if let Some(target) = jump_target(rule)
        && !chains.contains_key(&target)
    {
        return Err("the chain to jump to does not exist");
    }
    let rules = chains.get_mut(chain).ok_or("no such chain")?;
    match verb {
        "-A" => rules.push(rule.to_owned()),
        "-I" => rules.insert(0, rule.to_owned()),
        "-D" => {
            let found = rules.iter().position(|old| old == rule).ok_or("no such rule")?;
            rules.remove(found);
        }
        _ => return Err("unknown command"),
    }
    Ok(())
}

fn delete_chain(chains: &mut Chains, chain: &str) -> Result<(), &'static str> {
    let rules = chains.get(chain).ok_or("no such chain")?;
    if !rules.is_empty() {
        return Err("the chain is not empty");
    }
    let refers = |rule: &String| jump_target(rule).as_deref() == Some(chain);
    if chains.values().flatten().any(refers) {
        return Err("a rule jumps to the chain");
    }
    chains.remove(chain);
    Ok(())
}

/// The chain that a rule jumps to.
fn jump_target(rule: &str) -> Option<String> {
    let words = words(rule);
    let target = words.iter().skip_while(|word| *word != "-j").nth(1)?;
    (!TARGETS.contains(&target.as_str())).then(|| target.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> &'static str {
        let mut tables = FakeTables::default();
        tables
            .restore("*nat\n:A - [0:0]\n:B - [0:0]\n-A A -m comment --comment \"x -j C\" -j B\nCOMMIT\n")
            .unwrap();
        let before = tables.clone();
        let refused = tables.restore(text).unwrap_err();
        assert_eq!(tables, before, "nothing may change");
        refused.reason
    }

    #[test]
    fn what_a_kernel_refuses_is_refused_and_changes_nothing() {
        assert_eq!(refusal("*nat\n-A A -j D\nCOMMIT\n"), "the chain to jump to does not exist");
        assert_eq!(refusal("*nat\n:B - [0:0]\n-X B\nCOMMIT\n"), "a rule jumps to the chain");
        assert_eq!(refusal("*nat\n-X A\nCOMMIT\n"), "the chain is not empty");
        assert_eq!(refusal("*nat\n-D A -j B\nCOMMIT\n"), "no such rule");
        assert_eq!(refusal("*nat\n-A D -j B\nCOMMIT\n"), "no such chain");
        assert_eq!(refusal("*nat\n:B - [0:0]\n"), "COMMIT expected");
        assert_eq!(refusal("*nat\n:KUBE-SVC-AAAAAAAAAAAAAAAAAAAAA - [0:0]\nCOMMIT\n"), "chain name too long");
    }

    #[test]
    fn a_declared_chain_is_emptied_and_others_stay() {
        let mut tables = FakeTables::default();
        tables.restore("*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\n-A B -j RETURN\nCOMMIT\n").unwrap();
        tables.restore("*nat\n:A - [0:0]\n-I A -j DROP\n-I A -j ACCEPT\nCOMMIT\n").unwrap();
        assert_eq!(tables.rules(Table::Nat, "A").unwrap(), ["-j ACCEPT", "-j DROP"]);
        assert_eq!(tables.rules(Table::Nat, "B").unwrap(), ["-j RETURN"]);
    }
}
