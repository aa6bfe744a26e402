//! What tests ask of the rules in the kernel, besides being equal to others.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::case::Family;
use crate::stage::Stage;

/// The rules of the nat table, chain by chain.
fn nat_chains(dump: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut chains: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let nat = dump.lines().skip_while(|line| *line != "*nat").take_while(|line| *line != "COMMIT");
    for line in nat {
        if let Some(declaration) = line.strip_prefix(':') {
            chains.entry(declaration.split(' ').next().unwrap_or_default()).or_default();
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap_or_default();
            chains.entry(chain).or_default().push(rule);
        }
    }
    chains
}

/// Where a rule jumps to.
fn target(rule: &str) -> Option<&str> {
    rule.split_once(" -j ").and_then(|(_, rest)| rest.split(' ').next())
}

/// The chains of service ports that `KUBE-SERVICES` leads to.
#[must_use]
pub fn dispatched(dump: &str) -> Vec<&str> {
    let chains = nat_chains(dump);
    let rules = chains.get("KUBE-SERVICES").into_iter().flatten();
    rules.filter_map(|rule| target(rule)).filter(|chain| chain.starts_with("KUBE-SVC-")).collect()
}

/// Checks that iptables itself would accept the rules as they are, and that every service that packets are
/// sent to is there as a whole: its chain leads to endpoints, and each endpoint's chain to an address.
///
/// # Errors
/// What is missing.
pub fn check_consistent(stage: &Stage, family: Family) -> Result<()> {
    let dump = stage.save(family)?;
    stage.run_program(&family.program("restore"), &["--test"], &dump)?;
    let chains = nat_chains(&dump);
    for service in dispatched(&dump) {
        let endpoints: Vec<&str> =
            chains.get(service).into_iter().flatten().filter_map(|rule| target(rule)).collect();
        let endpoints: Vec<&&str> = endpoints.iter().filter(|chain| chain.starts_with("KUBE-SEP-")).collect();
        ensure!(!endpoints.is_empty(), "packets are sent to {service}, which has no endpoints:\n{dump}");
        for endpoint in endpoints {
            let rules = chains.get(*endpoint).map(Vec::as_slice).unwrap_or_default();
            ensure!(
                rules.iter().any(|rule| target(rule) == Some("DNAT")),
                "{service} sends packets to {endpoint}, which leads nowhere:\n{dump}"
            );
        }
    }
    Ok(())
}

/// Checks that nobody has written a rule or made a chain, in either family.
///
/// # Errors
/// The dump that shows otherwise.
pub fn check_untouched(stage: &Stage) -> Result<()> {
    for family in Family::BOTH {
        let dump = stage.save(family)?;
        let touched = dump.lines().any(|line| line.starts_with("-A ") || line.starts_with(":KUBE"));
        ensure!(!touched, "the kernel is not untouched:\n{dump}");
    }
    Ok(())
}
