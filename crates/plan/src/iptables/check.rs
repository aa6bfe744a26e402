//! What holds for every plan, whatever the services: run over each plan that a test makes.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::{Chain, ChainRef, Match, Rule, Ruleset, Table, Target};

/// xt_comment keeps 256 bytes, the closing zero included.
const LONGEST_COMMENT: usize = 255;
const LONGEST_NAME: usize = 28;

/// A plan that a kernel would refuse, or that would not do what was meant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    #[error("{0}: a rule jumps to {1}, which does not exist")]
    MissingTarget(ChainRef, Chain),
    #[error("{0}: the name is longer than {LONGEST_NAME} characters")]
    LongName(ChainRef),
    #[error("{0}: a comment is longer than {LONGEST_COMMENT} bytes: {1}")]
    LongComment(ChainRef, String),
    #[error("{0}: nothing leads to this chain")]
    Unreachable(ChainRef),
    #[error("{0}: leads back to itself")]
    Loop(ChainRef),
    #[error("{0}: the shares of its endpoints are not equal")]
    UnequalShares(ChainRef),
    #[error("{0}: an endpoint chain must mark hairpins, then translate, and do nothing else")]
    BrokenEndpoint(ChainRef),
    #[error("{0}: rules follow the jump to node ports")]
    TailNotLast(ChainRef),
    #[error("{0}: a port without a protocol before it: {1}")]
    PortWithoutProtocol(ChainRef, Rule),
}

/// Everything that is wrong with a ruleset; nothing, if it is sound.
pub fn check(ruleset: &Ruleset) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut reached: BTreeSet<ChainRef> = BTreeSet::new();
    for (&place, rules) in &ruleset.chains {
        if place.chain.to_string().len() > LONGEST_NAME {
            violations.push(Violation::LongName(place));
        }
        for rule in rules {
            check_rule(ruleset, place, rule, &mut violations);
            reached.extend(target(place, rule));
        }
        match place.chain {
            Chain::Svc(_) | Chain::Svl(_) if !equal_shares(rules) => {
                violations.push(Violation::UnequalShares(place));
            }
            Chain::Sep(_) if !translates(rules) => violations.push(Violation::BrokenEndpoint(place)),
            Chain::KubeServices if place.table == Table::Nat && !tail_is_last(rules) => {
                violations.push(Violation::TailNotLast(place));
            }
            _ => {}
        }
    }
    let unreachable = ruleset.chains.keys().filter(|place| place.chain.is_own() && !reached.contains(place));
    violations.extend(unreachable.map(|place| Violation::Unreachable(*place)));
    violations.extend(loops(ruleset).into_iter().map(Violation::Loop));
    violations
}

fn check_rule(ruleset: &Ruleset, place: ChainRef, rule: &Rule, violations: &mut Vec<Violation>) {
    if let Some(target) = target(place, rule)
        && !ruleset.chains.contains_key(&target)
    {
        violations.push(Violation::MissingTarget(place, target.chain));
    }
    if let Some(comment) = rule.comment().filter(|comment| comment.len() > LONGEST_COMMENT) {
        violations.push(Violation::LongComment(place, comment.to_owned()));
    }
    let index = |wanted: fn(&Match) -> bool| rule.matches.iter().position(wanted);
    let port = index(|matched| matches!(matched, Match::DestinationPort(_)));
    let protocol = index(|matched| matches!(matched, Match::Protocol(_)));
    if port.is_some() && (protocol.is_none() || protocol > port) {
        violations.push(Violation::PortWithoutProtocol(place, rule.clone()));
    }
}

fn target(place: ChainRef, rule: &Rule) -> Option<ChainRef> {
    match rule.target {
        Target::Jump(chain) => Some(ChainRef { table: place.table, chain }),
        _ => None,
    }
}

/// After the rules for known clients: one endpoint in n, of the rest one in n - 1, and so on to the last.
fn equal_shares(rules: &[Rule]) -> bool {
    let known_client =
        |rule: &&Rule| rule.matches.iter().any(|m| matches!(m, Match::SourceRemembered { .. }));
    let masquerades = |rule: &&Rule| rule.target == Target::Jump(Chain::KubeMarkMasq);
    let chances: Vec<usize> = rules
        .iter()
        .filter(|rule| !known_client(rule) && !masquerades(rule))
        .map(|rule| rule.matches.iter().find_map(|m| if let Match::OneIn(n) = m { Some(*n) } else { None }))
        .map(|chance| chance.unwrap_or(1))
        .collect();
    !chances.is_empty() && chances.iter().copied().eq((1..=chances.len()).rev())
}

fn translates(rules: &[Rule]) -> bool {
    let [hairpin, translate] = rules else { return false };
    hairpin.target == Target::Jump(Chain::KubeMarkMasq) && matches!(translate.target, Target::Dnat(_))
}

fn tail_is_last(rules: &[Rule]) -> bool {
    let is_tail = |rule: &Rule| rule.target == Target::Jump(Chain::KubeNodePorts);
    rules.iter().skip_while(|rule| !is_tail(rule)).all(is_tail)
}

/// Chains from which following jumps leads back to them. Kernels refuse such tables.
fn loops(ruleset: &Ruleset) -> Vec<ChainRef> {
    let mut depth: BTreeMap<ChainRef, bool> = BTreeMap::new(); // true once everything below is known to end
    let mut found = Vec::new();
    for &place in ruleset.chains.keys() {
        visit(ruleset, place, &mut depth, &mut found);
    }
    found
}

fn visit(ruleset: &Ruleset, place: ChainRef, done: &mut BTreeMap<ChainRef, bool>, found: &mut Vec<ChainRef>) {
    match done.get(&place) {
        Some(true) => return,
        Some(false) => return found.push(place),
        None => {}
    }
    done.insert(place, false);
    for next in ruleset.rules(place.table, place.chain).iter().filter_map(|rule| target(place, rule)) {
        visit(ruleset, next, done, found);
    }
    done.insert(place, true);
}

#[cfg(test)]
mod tests {
    use switchyard_model::IpFamily;

    use super::*;

    #[test]
    fn broken_plans_are_found_out() {
        let a = ChainRef { table: Table::Nat, chain: Chain::KubeServices };
        let b = ChainRef { table: Table::Nat, chain: Chain::KubeNodePorts };
        let jump = |to: ChainRef| Rule::new([], Target::Jump(to.chain));
        let port = Rule::new([Match::DestinationPort(80)], Target::Accept);
        let ruleset = Ruleset {
            family: IpFamily::V4,
            chains: BTreeMap::from([
                (a, vec![jump(b), port.clone()]),
                (b, vec![jump(a), Rule::new([], Target::Jump(Chain::KubeMarkMasq))]),
            ]),
        };
        let found = check(&ruleset);
        for violation in [
            Violation::TailNotLast(a),
            Violation::Loop(a),
            Violation::MissingTarget(b, Chain::KubeMarkMasq),
            Violation::PortWithoutProtocol(a, port),
        ] {
            assert!(found.contains(&violation), "{violation} not in {found:?}");
        }
    }
}
