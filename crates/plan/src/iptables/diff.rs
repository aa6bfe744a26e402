//! A partial sync: only service ports that changed are written.
//!
//! With iptables-nft nothing else is touched at all: of a changed port, those of its chains that differ are emptied and
//! refilled, rules in shared chains are inserted or deleted one by one, and chains that it lost are deleted, all in one
//! restore. iptables-legacy replaces whole tables anyway, so there the restore has upstream's shape.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use switchyard_model::{Forwarding, PortForwarding, ServicePortName};

use super::base::tail_rules;
use super::full::{PORTS_A_RESTORE, is_large, write_all};
use super::restore::{TableText, Texts};
use super::service::{DispatchChain, DispatchRule, dispatch_rules};
use super::{
    Chain, Found, PortRules, Purpose, Restore, Rule, RuleCounts, Settings, Table, Variant, port_rules,
};

/// More deletions than this from one shared chain, and the chain is rewritten as a whole. Measured with iptables-nft
/// 1.8.9 and 5,000 rules in the chain: the first deletion of a restore takes 0.05 s, as it reads the chain, each further
/// one 2.5 ms; rewriting takes 0.2 s. Insertions at the head cost nothing that can be measured.
const REWRITE_ABOVE_DELETIONS: usize = 50;

/// Begins a partial sync from `old`, which the kernel holds, to `new`. `changed` names every service port in which the
/// two may differ; `before` is what the previous sync counted in total. The settings must be those of that sync.
///
/// When a cluster becomes large, or ceases to be, ports that did not change keep their comments or their lack of them.
pub fn partial<'a>(
    settings: &'a Settings,
    old: &Forwarding,
    new: &'a Forwarding,
    changed: impl IntoIterator<Item = ServicePortName>,
    variant: Variant,
    before: RuleCounts,
) -> Partial<'a> {
    let changed: BTreeSet<ServicePortName> =
        changed.into_iter().filter(|name| old.ports.get(name) != new.ports.get(name)).collect();
    Partial {
        settings,
        current: old.clone(),
        was_large: is_large(old),
        new,
        changed: changed.into_iter().collect(),
        done: 0,
        variant,
        total: before,
        written: RuleCounts::default(),
    }
}

/// The restores of a partial sync, to be run in order. There is none if nothing differs.
#[derive(Debug)]
pub struct Partial<'a> {
    settings: &'a Settings,
    /// What the kernel holds after the restores so far.
    current: Forwarding,
    was_large: bool,
    new: &'a Forwarding,
    changed: Vec<ServicePortName>,
    done: usize,
    variant: Variant,
    total: RuleCounts,
    written: RuleCounts,
}

impl Partial<'_> {
    /// Rules in the kernel after the restores so far.
    pub fn total(&self) -> RuleCounts {
        self.total
    }

    /// Rules written by the restores so far.
    pub fn written(&self) -> RuleCounts {
        self.written
    }

    fn step(&mut self) -> Option<Restore> {
        let size = match self.variant {
            Variant::NfTables => PORTS_A_RESTORE,
            Variant::Legacy => usize::MAX,
        };
        let end = self.done.saturating_add(size).min(self.changed.len());
        let names = self.changed[self.done..end].to_vec();
        if names.is_empty() {
            return None;
        }
        self.done = end;
        let mut step = Step::default();
        for name in &names {
            let old = self.rules(name, self.current.ports.get(name), self.was_large);
            let new = self.rules(name, self.new.ports.get(name), is_large(self.new));
            step.add(old, new);
            match self.new.ports.get(name) {
                Some(port) => self.current.ports.insert(name.clone(), Arc::clone(port)),
                None => self.current.ports.remove(name),
            };
        }
        self.total = self.total + step.counts(Side::New) - step.counts(Side::Old);
        let text = match self.variant {
            Variant::NfTables => self.text(&step),
            Variant::Legacy => self.whole_text(&step, &names),
        };
        Some(Restore { text, purpose: Purpose::ServicePorts(names.len()) })
    }

    fn rules(&self, name: &ServicePortName, port: Option<&Arc<PortForwarding>>, large: bool) -> PortRules {
        port.map(|port| port_rules(self.settings, name, port, large)).unwrap_or_default()
    }

    fn whole_text(&mut self, step: &Step, names: &[ServicePortName]) -> String {
        let vanished: Vec<String> = step.vanished_chains().map(|chain| chain.to_string()).collect();
        let found = Found::with_chains(vanished.iter().map(String::as_str));
        let (text, counts) =
            write_all(self.settings, self.new, |name| names.binary_search(name).is_ok(), found);
        self.written += counts;
        text
    }

    /// New rules in filter come before, and old ones go after everything in nat: whether a service is refused or
    /// forwarded, there is no moment at which it is neither.
    fn text(&mut self, step: &Step) -> String {
        let (mut before, mut texts) = (TableText::new(Table::Filter), Texts::new());
        before.insert_dispatch(step.added.iter());
        step.write_chains(&mut texts.nat);
        let mut rewritten = Vec::new();
        for chain in DispatchChain::ALL {
            let removed = step.removed.iter().filter(|rule| rule.chain == chain);
            if removed.clone().count() > REWRITE_ABOVE_DELETIONS {
                rewritten.push(chain);
            } else {
                removed.for_each(|rule| texts.of(chain).delete(chain.chain(), &rule.rule));
            }
        }
        texts.nat.insert_dispatch(step.added.iter().filter(|rule| !rewritten.contains(&rule.chain)));
        self.rewrite(&rewritten, &mut texts);
        self.written += before.written() + texts.written();
        let Texts { filter: after, nat } = texts;
        [before, nat, after].map(TableText::finish_unless_empty).concat()
    }

    fn rewrite(&self, chains: &[DispatchChain], texts: &mut Texts) {
        if chains.is_empty() {
            return;
        }
        chains.iter().for_each(|chain| texts.of(*chain).declare(chain.chain()));
        for (name, port) in &self.current.ports {
            let mut rules = dispatch_rules(self.settings, name, port);
            rules.retain(|rule| chains.contains(&rule.chain));
            texts.append_dispatch(&rules);
        }
        if chains.contains(&DispatchChain::NatServices) {
            tail_rules(self.settings)
                .iter()
                .for_each(|rule| texts.nat.append_last(Chain::KubeServices, rule));
        }
    }
}

impl Iterator for Partial<'_> {
    type Item = Restore;

    fn next(&mut self) -> Option<Restore> {
        loop {
            let restore = self.step()?;
            if !restore.text.is_empty() {
                return Some(restore);
            }
        }
    }
}

/// The changes of the service ports of one restore.
#[derive(Default)]
struct Step {
    changes: Vec<(PortRules, PortRules)>,
    added: Vec<DispatchRule>,
    removed: Vec<DispatchRule>,
}

#[derive(Clone, Copy)]
enum Side {
    Old,
    New,
}

impl Step {
    fn add(&mut self, old: PortRules, new: PortRules) {
        let mut removed = old.dispatch.clone();
        for rule in &new.dispatch {
            // One of the old for one of the new: an address may be listed twice.
            match removed.iter().position(|old| old == rule) {
                Some(kept) => drop(removed.swap_remove(kept)),
                None => self.added.push(rule.clone()),
            }
        }
        self.removed.append(&mut removed);
        self.changes.push((old, new));
    }

    fn counts(&self, side: Side) -> RuleCounts {
        let mut counts = RuleCounts::default();
        for (old, new) in &self.changes {
            counts += match side {
                Side::Old => old.counts(),
                Side::New => new.counts(),
            };
        }
        counts
    }

    fn vanished_chains(&self) -> impl Iterator<Item = Chain> {
        self.changes.iter().flat_map(|(old, new)| {
            let kept: BTreeSet<Chain> = new.chains.iter().copied().collect();
            old.chains.iter().copied().filter(move |chain| !kept.contains(chain))
        })
    }

    fn write_chains(&self, nat: &mut TableText) {
        for (old, new) in &self.changes {
            let (before, after) = (by_chain(old), by_chain(new));
            let differs = |chain: &Chain| before.get(chain) != after.get(chain);
            new.chains.iter().filter(|chain| differs(chain)).for_each(|chain| nat.declare(*chain));
            for (chain, rule) in new.rules.iter().filter(|(chain, _)| differs(chain)) {
                nat.append(*chain, rule);
            }
        }
        self.vanished_chains().for_each(|chain| nat.delete_chain(&chain.to_string()));
    }
}

fn by_chain(rules: &PortRules) -> HashMap<Chain, Vec<&Rule>> {
    let mut chains: HashMap<Chain, Vec<&Rule>> =
        rules.chains.iter().map(|chain| (*chain, Vec::new())).collect();
    for (chain, rule) in &rules.rules {
        chains.entry(*chain).or_default().push(rule);
    }
    chains
}
