//! iptables in memory, for tests that need no root.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use switchyard_plan::iptables::fake::FakeTables;
use switchyard_plan::iptables::{Table, Variant};

use super::{Iptables, IptablesError};

/// Clones share their tables, as two processes of one host do.
#[derive(Debug, Clone)]
pub struct FakeIptables {
    variant: Variant,
    host: Arc<Mutex<Host>>,
}

#[derive(Debug, Default)]
struct Host {
    tables: FakeTables,
    /// Restores that are still to fail.
    failing: usize,
    restores: Vec<String>,
}

impl FakeIptables {
    pub fn new(variant: Variant) -> FakeIptables {
        FakeIptables { variant, host: Arc::default() }
    }

    /// Lets the next `count` restores fail without effect.
    pub fn fail_restores(&self, count: usize) {
        self.lock().failing = count;
    }

    /// What the tables hold.
    pub fn tables(&self) -> FakeTables {
        self.lock().tables.clone()
    }

    /// Somebody else empties everything.
    pub fn flush(&self) {
        self.lock().tables.flush();
    }

    /// The inputs of all restores so far, those that failed included.
    pub fn restores(&self) -> Vec<String> {
        self.lock().restores.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_rule(&self, table: Table, chain: &str, rule: &str) -> bool {
        self.lock().tables.rules(table, chain).is_some_and(|rules| rules.iter().any(|known| known == rule))
    }

    fn edit(&self, table: Table, line: &str) -> Result<(), IptablesError> {
        let text = format!("*{}\n{line}\nCOMMIT\n", table.as_str());
        let edited = self.lock().tables.restore(&text);
        edited.map_err(|refused| IptablesError::Refused { reason: refused.to_string() })
    }
}

impl Iptables for FakeIptables {
    fn variant(&self) -> Variant {
        self.variant
    }

    fn random_fully(&self) -> bool {
        true
    }

    fn ensure_chain(&mut self, table: Table, chain: &str) -> Result<bool, IptablesError> {
        Ok(self.lock().tables.ensure_chain(table, chain))
    }

    fn ensure_rule(&mut self, table: Table, chain: &str, rule: &[String]) -> Result<bool, IptablesError> {
        let rule = line(rule);
        if self.has_rule(table, chain, &rule) {
            return Ok(false);
        }
        self.edit(table, &format!("-I {chain} {rule}"))?;
        Ok(true)
    }

    fn delete_rule(&mut self, table: Table, chain: &str, rule: &[String]) -> Result<(), IptablesError> {
        let rule = line(rule);
        if self.has_rule(table, chain, &rule) {
            self.edit(table, &format!("-D {chain} {rule}"))?;
        }
        Ok(())
    }

    fn delete_chain(&mut self, table: Table, chain: &str) -> Result<(), IptablesError> {
        if self.chain_exists(table, chain)? {
            self.edit(table, &format!("-X {chain}"))?;
        }
        Ok(())
    }

    fn chain_exists(&mut self, table: Table, chain: &str) -> Result<bool, IptablesError> {
        Ok(self.lock().tables.chain_names(table).any(|known| known == chain))
    }

    fn list(&mut self, table: Table, line: &mut dyn FnMut(&str)) -> Result<(), IptablesError> {
        let tables = self.tables();
        for chain in tables.chain_names(table) {
            line(&format!(":{chain} - [0:0]"));
        }
        for chain in tables.chain_names(table) {
            let rules = tables.rules(table, chain).unwrap_or_default();
            rules.iter().for_each(|rule| line(&format!("-A {chain} {rule}")));
        }
        Ok(())
    }

    fn restore(&mut self, input: &str) -> Result<(), IptablesError> {
        let mut host = self.lock();
        host.restores.push(input.to_owned());
        if host.failing > 0 {
            host.failing -= 1;
            return Err(IptablesError::Refused { reason: "this restore was made to fail".to_owned() });
        }
        let restored = host.tables.restore(input);
        restored.map_err(|refused| IptablesError::Refused { reason: refused.to_string() })
    }
}

/// Arguments as the words of a restore line.
fn line(rule: &[String]) -> String {
    let quoted =
        rule.iter().map(|word| if word.contains(' ') { format!("\"{word}\"") } else { word.clone() });
    quoted.collect::<Vec<_>>().join(" ")
}
