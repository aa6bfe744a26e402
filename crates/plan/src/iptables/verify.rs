//! Holds what the kernel has against what it should have, and tells the difference to people.

use std::collections::BTreeMap;
use std::fmt;

use super::names::deletion_rank;
use super::{Chain, ChainRef, DispatchChain, Ruleset, Table};

/// What `iptables-save` lists of some tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    chains: BTreeMap<(Table, String), Vec<String>>,
}

/// One thing that is not as planned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// With the number of its rules.
    MissingChain(ChainRef, usize),
    /// A chain of some service port that nothing leads to any more.
    StaleChain(Table, String),
    MissingRule(Table, String),
    /// Somebody else's, in a chain of ours.
    UnplannedRule(Table, String),
    /// All rules are there, in an order that does something else.
    Order(ChainRef),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::MissingChain(place, rules) => write!(f, "missing chain: {place}, with {rules} rules"),
            Difference::StaleChain(table, chain) => write!(f, "stale chain: {table} {chain}"),
            Difference::MissingRule(table, rule) => write!(f, "missing rule: -t {table} {rule}"),
            Difference::UnplannedRule(table, rule) => write!(f, "unplanned rule: -t {table} {rule}"),
            Difference::Order(place) => write!(f, "rules in another order: {place}"),
        }
    }
}

impl Listing {
    /// Takes in a line of `iptables-save -t TABLE`.
    pub fn read(&mut self, table: Table, line: &str) {
        if let Some(declaration) = line.strip_prefix(':') {
            let name = declaration.split(' ').next().unwrap_or_default();
            self.chains.entry((table, name.to_owned())).or_default();
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap_or_default();
            self.chains.entry((table, chain.to_owned())).or_default().push(line.trim_end().to_owned());
        }
    }

    /// Whether any rule says this.
    pub fn mentions(&self, words: &str) -> bool {
        self.chains.values().flatten().any(|rule| rule.contains(words))
    }

    /// Everything that differs from the plan.
    pub fn differences(&self, plan: &Ruleset) -> Vec<Difference> {
        let mut differences = Vec::new();
        for place in plan.chains.keys() {
            self.compare(*place, &plan.saved(*place), &mut differences);
        }
        let planned = |table: Table, name: &str| {
            plan.chains.keys().any(|place| place.table == table && place.chain.to_string() == name)
        };
        let own = self.chains.keys().filter(|(_, name)| deletion_rank(name).is_some());
        let stale = own.filter(|(table, name)| !planned(*table, name));
        differences.extend(stale.map(|(table, name)| Difference::StaleChain(*table, name.clone())));
        differences
    }

    fn compare(&self, place: ChainRef, planned: &[String], differences: &mut Vec<Difference>) {
        let Some(found) = self.chains.get(&(place.table, place.chain.to_string())) else {
            if !place.chain.is_built_in() || !planned.is_empty() {
                differences.push(Difference::MissingChain(place, planned.len()));
            }
            return;
        };
        let before = differences.len();
        let missing = without(planned, found);
        differences.extend(missing.into_iter().map(|rule| Difference::MissingRule(place.table, rule)));
        // Others have rules of their own in these, and the kubelet shares one of them.
        if place.chain.is_built_in() || place.chain == Chain::KubeFirewall {
            return;
        }
        let unplanned = without(found, planned);
        differences.extend(unplanned.into_iter().map(|rule| Difference::UnplannedRule(place.table, rule)));
        if differences.len() == before && !is_in_order(place, planned, found) {
            differences.push(Difference::Order(place));
        }
    }
}

/// The rules of one list that the other lacks, as often as it lacks them.
fn without(rules: &[String], others: &[String]) -> Vec<String> {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for other in others {
        *left.entry(other).or_default() += 1;
    }
    let is_lacking = |rule: &&String| match left.get_mut(rule.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    rules.iter().filter(is_lacking).cloned().collect()
}

/// Where services' rules stand side by side only the last one's place counts: the jump to node ports takes what is left.
fn is_in_order(place: ChainRef, planned: &[String], found: &[String]) -> bool {
    if DispatchChain::ALL.iter().any(|dispatch| dispatch.place() == place) {
        return place != DispatchChain::NatServices.place() || planned.last() == found.last();
    }
    planned == found
}
