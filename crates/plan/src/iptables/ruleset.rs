//! The whole state as a value: every chain with its rules. For tests, the tracer and the checker; the daemon never
//! holds one, since at 50,000 endpoints it takes a hundred megabytes.

use std::collections::BTreeMap;
use std::fmt;

use switchyard_model::{Forwarding, IpFamily};

use super::base::{chains_to_ensure, jumps, static_rules, tail_rules};
use super::service::{DispatchChain, port_rules};
use super::{Chain, Rule, RuleCounts, Settings, Table};
use crate::iptables::full::is_large;

/// A chain in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainRef {
    pub table: Table,
    pub chain: Chain,
}

impl fmt::Display for ChainRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.chain)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    pub family: IpFamily,
    pub chains: BTreeMap<ChainRef, Vec<Rule>>,
}

impl Ruleset {
    /// What a full sync leaves behind on a host where nothing else is.
    pub fn new(settings: &Settings, forwarding: &Forwarding) -> Ruleset {
        let mut ruleset = Ruleset { family: settings.family, chains: BTreeMap::new() };
        for chain in chains_to_ensure() {
            ruleset.chains.entry(chain).or_default();
        }
        for jump in jumps() {
            // Each is put at the head of its chain, so the last comes first.
            let source = ChainRef { table: jump.table, chain: jump.source };
            ruleset.chains.entry(source).or_default().insert(0, jump.rule);
        }
        for (place, rules) in static_rules(settings) {
            ruleset.chains.insert(place, rules);
        }
        let large_cluster = is_large(forwarding);
        for (name, port) in &forwarding.ports {
            let rules = port_rules(settings, name, port, large_cluster);
            for dispatch in rules.dispatch {
                ruleset.chains.entry(dispatch.chain.place()).or_default().push(dispatch.rule);
            }
            for (chain, rule) in rules.rules {
                ruleset.chains.entry(ChainRef { table: Table::Nat, chain }).or_default().push(rule);
            }
        }
        let services = ruleset.chains.entry(DispatchChain::NatServices.place()).or_default();
        services.extend(tail_rules(settings));
        ruleset
    }

    pub fn rules(&self, table: Table, chain: Chain) -> &[Rule] {
        self.chains.get(&ChainRef { table, chain }).map_or(&[], Vec::as_slice)
    }

    /// Rules of our own chains, as the metrics count them.
    pub fn counts(&self) -> RuleCounts {
        let own = self.chains.iter().filter(|(place, _)| !place.chain.is_built_in());
        own.map(|(place, rules)| RuleCounts::of(place.table, rules.len()))
            .fold(RuleCounts::default(), |a, b| a + b)
    }

    /// The rules of one chain as `iptables-save` shows them, a line each.
    pub fn saved(&self, place: ChainRef) -> Vec<String> {
        let rules = self.chains.get(&place).map_or(&[][..], Vec::as_slice);
        let line = |rule: &Rule| {
            let mut line = format!("-A {}", place.chain);
            rule.write_save(self.family, &mut line);
            line
        };
        rules.iter().map(line).collect()
    }
}
