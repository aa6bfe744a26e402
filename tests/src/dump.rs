//! Comparing two `iptables-save` dumps, chain by chain.
//!
//! Tables and chains may come in any order; counters and comment lines do not count. Rules within a chain
//! count in order, except that in the chains where every service adds rules of its own, one service's rules
//! may stand before or after another's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The chains where services' rules stand side by side.
const PER_SERVICE_CHAINS: [&str; 4] =
    ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"];

/// The jump to node ports says so itself: whatever the services' rules match must not get there.
const LAST_RULE: &str = "NOTE: this must be the last rule in this chain";

/// Table and chain.
type Name = (String, String);

/// A dump in the form in which two of them are compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dump {
    chains: BTreeMap<Name, Chain>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Chain {
    /// `-` for a chain that is not built in.
    policy: String,
    rules: Vec<String>,
}

impl Dump {
    /// Reads what `iptables-save` printed. Tables in which nothing was ever put are left out, since the two
    /// variants of iptables differ in which of those they list.
    #[must_use]
    pub fn parse(text: &str) -> Dump {
        let mut chains: BTreeMap<Name, Chain> = BTreeMap::new();
        let mut table = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.to_owned();
            } else if let Some(declaration) = line.strip_prefix(':') {
                let mut words = declaration.split(' ').map(str::to_owned);
                let name = (table.clone(), words.next().unwrap_or_default());
                chains.entry(name).or_default().policy = words.next().unwrap_or_default();
            } else if let Some(rule) = line.strip_prefix("-A ") {
                let chain = rule.split(' ').next().unwrap_or_default();
                let name = (table.clone(), chain.to_owned());
                chains.entry(name).or_default().rules.push(single_spaced(line));
            }
        }
        for ((_, chain), Chain { rules, .. }) in &mut chains {
            if PER_SERVICE_CHAINS.contains(&chain.as_str()) {
                sort_by_service(rules);
            }
        }
        let used: BTreeSet<String> = chains
            .iter()
            .filter(|(_, chain)| chain.policy != "ACCEPT" || !chain.rules.is_empty())
            .map(|((table, _), _)| table.clone())
            .collect();
        chains.retain(|(table, _), _| used.contains(table));
        Dump { chains }
    }

    /// The same, and where a service's rules stand side by side, their order does not count: each names another
    /// address, so that no packet meets two of them. A partial sync may add an address to a service without
    /// touching its other rules.
    #[must_use]
    pub fn in_any_order_of_addresses(mut self) -> Dump {
        for ((_, chain), Chain { rules, .. }) in &mut self.chains {
            // A node port's rule that counts must stand before the one that forwards.
            if PER_SERVICE_CHAINS.contains(&chain.as_str()) && chain != "KUBE-NODEPORTS" {
                // One that should stand last and does not goes to the front.
                of_services(rules).sort_by_key(|rule| (!rule.contains(LAST_RULE), rule.clone()));
            }
        }
        self
    }

    /// The same, and the order of the rules in the kernel's own chains does not count: all of them are jumps, to chains
    /// that each look at other packets. When only some jumps are put back, they come before those that stayed.
    #[must_use]
    pub fn in_any_order_of_jumps(mut self) -> Dump {
        let own = |chain: &str| chain.chars().all(|letter| letter.is_ascii_uppercase());
        self.chains.iter_mut().filter(|((_, chain), _)| own(chain)).for_each(|(_, chain)| chain.rules.sort());
        self
    }

    /// What is to be done to `actual` to make it `self`, for people to read; nothing if they are equal.
    #[must_use]
    pub fn difference(&self, actual: &Dump) -> Option<String> {
        let names: BTreeSet<&Name> = self.chains.keys().chain(actual.chains.keys()).collect();
        let mut report = String::new();
        for name in names {
            let (table, chain) = name;
            match (self.chains.get(name), actual.chains.get(name)) {
                (Some(expected), Some(actual)) if expected == actual => {}
                (Some(expected), Some(actual)) => {
                    // Writing to a String cannot fail.
                    let _ = writeln!(report, "{table} {chain} differs:");
                    report_rules(&mut report, expected, actual);
                }
                (Some(expected), None) => {
                    let _ = writeln!(report, "{table} {chain} is missing:");
                    report_rules(&mut report, expected, &Chain::default());
                }
                (None, actual) => {
                    let _ = writeln!(report, "{table} {chain} should not be there:");
                    report_rules(&mut report, &Chain::default(), actual.unwrap_or(&Chain::default()));
                }
            }
        }
        (!report.is_empty()).then_some(report)
    }
}

/// The rules of both, marked `-` where only recorded and `+` where only found; when merely the order
/// differs, all of them.
fn report_rules(report: &mut String, expected: &Chain, actual: &Chain) {
    if expected.policy != actual.policy {
        let _ = writeln!(report, "  policy: recorded {:?}, found {:?}", expected.policy, actual.policy);
    }
    let only = |rules: &[String], others: &[String]| -> Vec<String> {
        rules.iter().filter(|rule| !others.contains(rule)).cloned().collect()
    };
    let mut missing = only(&expected.rules, &actual.rules);
    let mut surplus = only(&actual.rules, &expected.rules);
    if missing.is_empty() && surplus.is_empty() && expected.rules != actual.rules {
        let _ = writeln!(report, "  the order, or how often a rule stands there");
        missing.clone_from(&expected.rules);
        surplus.clone_from(&actual.rules);
    }
    for rule in missing {
        let _ = writeln!(report, "  - {rule}");
    }
    for rule in surplus {
        let _ = writeln!(report, "  + {rule}");
    }
}

/// The variants differ in how many spaces stand before some values. None of the proxy's comments holds two
/// spaces in a row, so quotes need no care.
fn single_spaced(rule: &str) -> String {
    rule.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Brings the services into alphabetical order and leaves each service's own rules, and the rules that must
/// stand last, as they are.
fn sort_by_service(rules: &mut [String]) {
    of_services(rules).sort_by(|a, b| service(a).cmp(service(b)));
}

/// All rules but those that must stand last and do.
fn of_services(rules: &mut [String]) -> &mut [String] {
    let last = rules.iter().rev().take_while(|rule| rule.contains(LAST_RULE)).count();
    let services = rules.len() - last;
    &mut rules[..services]
}

/// The service port that a rule is for, which is how its comment begins: `default/web:http cluster IP`.
fn service(rule: &str) -> &str {
    let comment = rule.split_once("--comment ").map_or("", |(_, comment)| comment);
    comment.trim_start_matches('"').split([' ', '"']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(rules: &[&str]) -> Dump {
        let rules: String = rules.iter().map(|rule| format!("-A KUBE-SERVICES {rule}\n")).collect();
        Dump::parse(&format!("*nat\n:PREROUTING ACCEPT [3:180]\n:KUBE-SERVICES - [0:0]\n{rules}COMMIT\n"))
    }

    const WEB: &str = r#"-d 10.96.0.7/32 -m comment --comment "default/web:http cluster IP" -j KUBE-SVC-WEB"#;
    const DB: &str = r#"-d 10.96.0.8/32 -m comment --comment "default/db cluster IP" -j KUBE-SVC-DB"#;
    const DB_EXTERNAL: &str =
        r#"-d 192.0.2.8/32 -m comment --comment "default/db external IP" -j KUBE-EXT-DB"#;
    const NODE_PORTS: &str =
        r#"-m comment --comment "NOTE: this must be the last rule in this chain" -j KUBE-NODEPORTS"#;

    #[test]
    fn the_order_of_services_does_not_count() {
        let (one, other) = (services(&[WEB, DB, NODE_PORTS]), services(&[DB, WEB, NODE_PORTS]));
        assert_eq!(one.difference(&other), None);
    }

    #[test]
    fn the_order_within_a_service_counts() {
        assert!(services(&[DB, DB_EXTERNAL]).difference(&services(&[DB_EXTERNAL, DB])).is_some());
    }

    #[test]
    fn the_order_of_a_services_addresses_may_be_left_out() {
        let one = services(&[DB, DB_EXTERNAL, NODE_PORTS]).in_any_order_of_addresses();
        let other = services(&[DB_EXTERNAL, DB, NODE_PORTS]).in_any_order_of_addresses();
        assert_eq!(one.difference(&other), None);
        let last_first = services(&[NODE_PORTS, DB, DB_EXTERNAL]).in_any_order_of_addresses();
        assert!(one.difference(&last_first).is_some());
    }

    #[test]
    fn the_last_rule_must_stand_last() {
        assert!(services(&[WEB, NODE_PORTS]).difference(&services(&[NODE_PORTS, WEB])).is_some());
    }

    #[test]
    fn counters_spaces_and_untouched_tables_do_not_count() {
        let one = Dump::parse("*nat\n:KUBE-A - [0:0]\n-A KUBE-A -m nfacct --nfacct-name  dropped\nCOMMIT\n");
        let other = Dump::parse(
            "# Generated\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n\
             *nat\n:KUBE-A - [9:9]\n-A KUBE-A -m nfacct --nfacct-name dropped\nCOMMIT\n",
        );
        assert_eq!(one.difference(&other), None);
    }

    #[test]
    fn a_difference_names_chain_and_rule() {
        let difference = services(&[WEB, DB]).difference(&services(&[WEB])).unwrap();
        assert!(difference.contains("nat KUBE-SERVICES differs:\n  - -A KUBE-SERVICES -d 10.96.0.8/32"));
    }
}
