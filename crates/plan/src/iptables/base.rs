//! Rules that do not depend on services, and the jumps from the built-in chains.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use switchyard_model::IpFamily;

use super::service::LOOPBACK;
use super::{Addresses, Chain, ChainRef, Counter, DispatchChain, Match, Rule, Settings, Table, Target};
use crate::node::NodePortAddresses;

const PORTALS: &str = "kubernetes service portals";
const EXTERNAL_PORTALS: &str = "kubernetes externally-visible service portals";
const FIREWALL: &str = "kubernetes load balancer firewall";
const NEW: Match = Match::ConntrackState("NEW");

/// A rule that leads from a built-in chain to one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    pub table: Table,
    pub source: Chain,
    pub target: Chain,
    pub rule: Rule,
}

/// The jumps, in the order in which they are to be ensured. A missing one is put at the head of its chain; one that
/// is there is never moved.
pub fn jumps() -> Vec<Jump> {
    use Chain::{Forward, Input, KubeServices, Output, Postrouting, Prerouting};
    use Table::{Filter, Nat};
    let jump = |table, source, new: bool, text: Option<&'static str>, target| {
        let mut matches = Vec::new();
        if new {
            matches.push(NEW);
        }
        matches.extend(text.map(comment));
        Jump { table, source, target, rule: Rule::new(matches, Target::Jump(target)) }
    };
    vec![
        jump(Filter, Input, true, Some(EXTERNAL_PORTALS), Chain::KubeExternalServices),
        jump(Filter, Forward, true, Some(EXTERNAL_PORTALS), Chain::KubeExternalServices),
        jump(Filter, Input, false, Some("kubernetes health check service ports"), Chain::KubeNodePorts),
        jump(Filter, Forward, true, Some(PORTALS), KubeServices),
        jump(Filter, Output, true, Some(PORTALS), KubeServices),
        jump(Filter, Forward, false, Some("kubernetes forwarding rules"), Chain::KubeForward),
        jump(Filter, Input, true, Some(FIREWALL), Chain::KubeProxyFirewall),
        jump(Filter, Output, true, Some(FIREWALL), Chain::KubeProxyFirewall),
        jump(Filter, Forward, true, Some(FIREWALL), Chain::KubeProxyFirewall),
        jump(Nat, Output, false, Some(PORTALS), KubeServices),
        jump(Nat, Prerouting, false, Some(PORTALS), KubeServices),
        jump(Nat, Postrouting, false, Some("kubernetes postrouting rules"), Chain::KubePostrouting),
        // The kubelet makes these two as well, in exactly this form.
        jump(Filter, Input, false, None, Chain::KubeFirewall),
        jump(Filter, Output, false, None, Chain::KubeFirewall),
    ]
}

/// The chains that must exist before the first restore: all that are jumped to, and those that restores add to
/// without declaring them.
pub fn chains_to_ensure() -> Vec<ChainRef> {
    let jumped_to = jumps().into_iter().map(|jump| ChainRef { table: jump.table, chain: jump.target });
    let mut chains = Vec::new();
    for chain in jumped_to.chain(DispatchChain::ALL.map(DispatchChain::place)) {
        if !chains.contains(&chain) {
            chains.push(chain);
        }
    }
    chains
}

/// filter KUBE-FIREWALL; empty where the chain is none of our business.
///
/// With `route_localnet` on, 127.0.0.0/8 could be reached from the network: services that listen there only, trusting
/// that nobody can, stay protected.
pub(super) fn firewall_rules(settings: &Settings) -> Vec<Rule> {
    if !settings.serves_localhost() {
        return Vec::new();
    }
    let matches = [
        comment("block incoming localnet connections"),
        Match::Destination(LOOPBACK),
        Match::NotSource(LOOPBACK),
        Match::NotConntrackState("RELATED,ESTABLISHED,DNAT"),
    ];
    vec![Rule::new(matches, Target::Drop)]
}

/// filter KUBE-FORWARD.
pub(super) fn forward_rules(settings: &Settings) -> Vec<Rule> {
    let mut rules = Vec::new();
    if settings.drop_invalid {
        // An invalid packet of a translated connection would be passed on untranslated, and its receiver would reset
        // the connection.
        let mut matches = vec![Match::ConntrackState("INVALID")];
        if settings.count_invalid {
            matches.push(Match::Counted(Counter::InvalidDropped));
        }
        rules.push(Rule::new(matches, Target::Drop));
    }
    let marked = [comment("kubernetes forwarding rules"), Match::Mark(settings.masquerade_mark)];
    rules.push(Rule::new(marked, Target::Accept));
    let known =
        [comment("kubernetes forwarding conntrack rule"), Match::ConntrackState("RELATED,ESTABLISHED")];
    rules.push(Rule::new(known, Target::Accept));
    rules
}

/// nat KUBE-POSTROUTING.
pub(super) fn postrouting_rules(settings: &Settings) -> Vec<Rule> {
    let masquerade = Target::Masquerade { random_fully: settings.random_fully };
    vec![
        Rule::new([Match::NotMark(settings.masquerade_mark)], Target::Return),
        // A packet that comes by again, as through a tunnel, must not be masqueraded twice.
        Rule::new([], Target::FlipMarkBits(settings.masquerade_mark)),
        Rule::new([comment("kubernetes service traffic requiring SNAT")], masquerade),
    ]
}

/// nat KUBE-MARK-MASQ.
pub(super) fn mark_rules(settings: &Settings) -> Vec<Rule> {
    vec![Rule::new([], Target::SetMarkBits(settings.masquerade_mark))]
}

/// The end of nat KUBE-SERVICES, which leads to node ports: after all addresses of services, since one of those may be
/// local to the node.
pub(super) fn tail_rules(settings: &Settings) -> Vec<Rule> {
    let text = comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain");
    let target = Target::Jump(Chain::KubeNodePorts);
    match &settings.node_port_addresses {
        NodePortAddresses::MatchAll => {
            let mut matches = vec![text, Match::DestinationIsLocal];
            if !settings.serves_localhost() {
                matches.push(Match::NotDestination(loopback(settings.family)));
            }
            vec![Rule::new(matches, target)]
        }
        NodePortAddresses::Addresses(addresses) => addresses
            .iter()
            .filter(|address| IpFamily::of(**address) == settings.family)
            .filter(|address| !address.is_loopback() || settings.serves_localhost())
            .map(|address| Rule::new([text.clone(), Match::Destination(Addresses::Host(*address))], target))
            .collect(),
    }
}

/// All of these rules, chain by chain, in the order in which upstream declares the chains.
pub(super) fn static_rules(settings: &Settings) -> Vec<(ChainRef, Vec<Rule>)> {
    let place = |table, chain| ChainRef { table, chain };
    let mut chains = vec![
        (place(Table::Filter, Chain::KubeForward), forward_rules(settings)),
        (place(Table::Nat, Chain::KubePostrouting), postrouting_rules(settings)),
        (place(Table::Nat, Chain::KubeMarkMasq), mark_rules(settings)),
    ];
    if settings.serves_localhost() {
        chains.push((place(Table::Filter, Chain::KubeFirewall), firewall_rules(settings)));
    }
    chains
}

fn loopback(family: IpFamily) -> Addresses {
    match family {
        IpFamily::V4 => LOOPBACK,
        IpFamily::V6 => Addresses::Range(IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST))),
    }
}

fn comment(text: &'static str) -> Match {
    Match::Comment(Cow::Borrowed(text))
}
