//! A full sync: everything is written, whatever the kernel holds.
//!
//! iptables-legacy takes one restore of upstream's shape. iptables-nft takes many small ones, as its time grows with the
//! square of a restore's size: first the rules that all services share, then service ports in groups, each group whole
//! in itself; at last, where something was there before, the shared chains once more as a whole and the chains that
//! nothing uses any more. A service port becomes reachable, or changes, in one piece; what was there before works on
//! until then.

use std::collections::btree_map;
use std::sync::Arc;

use switchyard_model::{Forwarding, PortForwarding, ServicePortName};

use super::base::{firewall_rules, forward_rules, mark_rules, postrouting_rules, static_rules, tail_rules};
use super::restore::{TableText, Texts};
use super::service::dispatch_rules;
use super::{Chain, Found, Purpose, Restore, RuleCounts, Settings, Table, Variant, port_rules};

/// Service ports a restore. Measured with iptables-nft 1.8.9: 5,000 service ports of 10 endpoints take 4.8 s in groups
/// of 50, and do not end within 150 s in one.
pub(super) const PORTS_A_RESTORE: usize = 50;

/// Chains to delete a restore: about as many as the service ports of one restore bring.
const DELETIONS_A_RESTORE: usize = 500;

/// More endpoints than this, and rules of endpoints are written without comments.
const LARGE_CLUSTER_ENDPOINTS: usize = 1000;

/// The chains that every text of upstream's shape declares, in upstream's order.
const SHARED_FILTER_CHAINS: [Chain; 5] = [
    Chain::KubeServices,
    Chain::KubeExternalServices,
    Chain::KubeForward,
    Chain::KubeNodePorts,
    Chain::KubeProxyFirewall,
];
const SHARED_NAT_CHAINS: [Chain; 4] =
    [Chain::KubeServices, Chain::KubeNodePorts, Chain::KubePostrouting, Chain::KubeMarkMasq];

/// Whether a cluster is so large that the text of its rules matters.
pub fn is_large(forwarding: &Forwarding) -> bool {
    forwarding.endpoint_count() > LARGE_CLUSTER_ENDPOINTS
}

/// Begins a full sync. For [`Variant::NfTables`] all of [`chains_to_ensure`](super::chains_to_ensure) must exist.
pub fn full<'a>(
    settings: &'a Settings,
    forwarding: &'a Forwarding,
    variant: Variant,
    found: Found,
) -> Full<'a> {
    let stage = match variant {
        Variant::Legacy => Stage::Everything,
        Variant::NfTables => Stage::Base,
    };
    let ports = forwarding.ports.iter();
    Full {
        settings,
        forwarding,
        ports,
        found,
        stage,
        total: RuleCounts::default(),
        written: RuleCounts::default(),
    }
}

/// The restores of a full sync, to be run in order. Each is made when it is asked for, so that not more than one is in
/// memory.
#[derive(Debug)]
pub struct Full<'a> {
    settings: &'a Settings,
    forwarding: &'a Forwarding,
    /// Those not written yet.
    ports: btree_map::Iter<'a, ServicePortName, Arc<PortForwarding>>,
    found: Found,
    stage: Stage,
    total: RuleCounts,
    written: RuleCounts,
}

#[derive(Debug)]
enum Stage {
    Everything,
    Base,
    Ports,
    Dispatch,
    /// Texts that delete chains, with the number of chains.
    Stale(std::vec::IntoIter<(usize, String)>),
    Done,
}

impl Full<'_> {
    /// Rules in the kernel once all restores are done.
    pub fn total(&self) -> RuleCounts {
        self.total
    }

    /// Rules written by the restores so far.
    pub fn written(&self) -> RuleCounts {
        self.written
    }

    fn everything(&mut self) -> Restore {
        let found = std::mem::take(&mut self.found);
        let (text, counts) = write_all(self.settings, self.forwarding, |_| true, found);
        (self.total, self.written) = (counts, counts);
        Restore { text, purpose: Purpose::Everything }
    }

    fn base(&mut self) -> Restore {
        let mut texts = Texts::new();
        if !self.found.used {
            texts.declare_dispatch_chains();
        }
        for (place, rules) in static_rules(self.settings) {
            let text = if place.table == Table::Filter { &mut texts.filter } else { &mut texts.nat };
            text.declare(place.chain);
            rules.iter().for_each(|rule| text.append(place.chain, rule));
        }
        // Where a tail is already there this is a second one, which does no harm until the chain is rewritten.
        for rule in tail_rules(self.settings) {
            texts.nat.append_last(Chain::KubeServices, &rule);
        }
        self.total = texts.written();
        self.restore(texts, Purpose::Base)
    }

    fn next_ports(&mut self) -> Option<Restore> {
        let mut texts = Texts::new();
        let large_cluster = is_large(self.forwarding);
        let mut count = 0;
        while count < PORTS_A_RESTORE
            && let Some((name, port)) = self.ports.next()
        {
            let rules = port_rules(self.settings, name, port, large_cluster);
            self.total += rules.counts();
            let is_there = self.found.holds(&rules, self.settings.family);
            self.found.keep(&rules);
            if !is_there {
                texts.nat.write_own_chains(&rules);
                texts.insert_dispatch(&rules.dispatch);
                count += 1;
            }
        }
        if count == 0 {
            return None;
        }
        Some(self.restore(texts, Purpose::ServicePorts(count)))
    }

    fn dispatch(&mut self) -> Restore {
        let mut texts = Texts::new();
        texts.declare_dispatch_chains();
        for (name, port) in &self.forwarding.ports {
            texts.append_dispatch(&dispatch_rules(self.settings, name, port));
        }
        for rule in tail_rules(self.settings) {
            texts.nat.append_last(Chain::KubeServices, &rule);
        }
        self.restore(texts, Purpose::DispatchChains)
    }

    fn stale(&mut self) -> Stage {
        let stale = std::mem::take(&mut self.found).into_stale();
        let texts: Vec<_> = delete_chains(Variant::NfTables, Table::Nat, stale).collect();
        Stage::Stale(texts.into_iter())
    }

    fn restore(&mut self, texts: Texts, purpose: Purpose) -> Restore {
        self.written += texts.written();
        Restore { text: texts.finish(), purpose }
    }
}

impl Iterator for Full<'_> {
    type Item = Restore;

    fn next(&mut self) -> Option<Restore> {
        loop {
            match &mut self.stage {
                Stage::Everything => {
                    self.stage = Stage::Done;
                    return Some(self.everything());
                }
                Stage::Base => {
                    self.stage = Stage::Ports;
                    return Some(self.base());
                }
                Stage::Ports => match self.next_ports() {
                    Some(restore) => return Some(restore),
                    None if self.found.used => self.stage = Stage::Dispatch,
                    None => self.stage = Stage::Done,
                },
                Stage::Dispatch => {
                    let restore = self.dispatch();
                    self.stage = self.stale();
                    return Some(restore);
                }
                Stage::Stale(texts) => match texts.next() {
                    Some((count, text)) => {
                        return Some(Restore { text, purpose: Purpose::StaleChains(count) });
                    }
                    None => self.stage = Stage::Done,
                },
                Stage::Done => return None,
            }
        }
    }
}

/// The whole state as one text of upstream's shape: what `switchyard rules` shows.
pub fn whole_text(settings: &Settings, forwarding: &Forwarding) -> String {
    write_all(settings, forwarding, |_| true, Found::default()).0
}

/// One text in upstream's shape: all shared chains, the own chains of those service ports that `rewrite` selects, and
/// the deletion of chains that were found and are not kept. Also counts the rules written.
pub(super) fn write_all(
    settings: &Settings,
    forwarding: &Forwarding,
    rewrite: impl Fn(&ServicePortName) -> bool,
    mut found: Found,
) -> (String, RuleCounts) {
    let mut texts = Texts::new();
    let Texts { filter, nat } = &mut texts;
    for chain in SHARED_FILTER_CHAINS {
        filter.declare(chain);
    }
    if settings.serves_localhost() {
        filter.declare(Chain::KubeFirewall);
    }
    for chain in SHARED_NAT_CHAINS {
        nat.declare(chain);
    }
    firewall_rules(settings).iter().for_each(|rule| filter.append(Chain::KubeFirewall, rule));
    postrouting_rules(settings).iter().for_each(|rule| nat.append(Chain::KubePostrouting, rule));
    mark_rules(settings).iter().for_each(|rule| nat.append(Chain::KubeMarkMasq, rule));

    let large_cluster = is_large(forwarding);
    for (name, port) in &forwarding.ports {
        if rewrite(name) {
            let rules = port_rules(settings, name, port, large_cluster);
            found.keep(&rules);
            texts.append_dispatch(&rules.dispatch);
            texts.nat.write_own_chains(&rules);
        } else {
            texts.append_dispatch(&dispatch_rules(settings, name, port));
        }
    }
    let Texts { filter, nat } = &mut texts;
    found.into_stale().iter().for_each(|name| nat.delete_chain(name));
    tail_rules(settings).iter().for_each(|rule| nat.append_last(Chain::KubeServices, rule));
    forward_rules(settings).iter().for_each(|rule| filter.append(Chain::KubeForward, rule));

    let counts = texts.written();
    let mut text = texts.nat.finish();
    text.insert_str(0, &texts.filter.finish()); // in front of the big part, in place
    (text, counts)
}

/// Texts that delete chains, with the number of chains in each. A chain must come before those that it jumps to.
pub(super) fn delete_chains(
    variant: Variant,
    table: Table,
    names: Vec<String>,
) -> impl Iterator<Item = (usize, String)> {
    let size = match variant {
        Variant::NfTables => DELETIONS_A_RESTORE,
        Variant::Legacy => usize::MAX,
    };
    let mut names = names.into_iter();
    std::iter::from_fn(move || {
        let mut text = TableText::new(table);
        let mut count = 0;
        for name in names.by_ref().take(size) {
            text.delete_chain(&name);
            count += 1;
        }
        (count > 0).then(|| (count, text.finish()))
    })
}
