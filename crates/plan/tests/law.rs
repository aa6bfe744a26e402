//! The law of this mode, on a kernel in memory: applying the difference of two states to one gives the other, nothing
//! differs from itself, and no step on the way leaves a service half-written.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on stops

mod common;

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use switchyard_model::{Forwarding, IpFamily, PortForwarding, ServicePortName};
use switchyard_plan::iptables::fake::FakeTables;
use switchyard_plan::iptables::{
    DispatchChain, Found, PortRules, Restore, Ruleset, Settings, Table, Variant, cleanup, cleanup_jumps,
    full, partial, port_rules,
};

const TAIL: &str = "this must be the last rule in this chain";

/// One service as dice throw it. Equal ones mean equal objects.
#[derive(Debug, Clone)]
struct Thrown {
    exists: bool,
    accessible: u8,
    internal_local: bool,
    external_local: bool,
    sticky: bool,
    restricted: bool,
    endpoints: Vec<(u8, bool, u8)>,
}

fn thrown() -> impl Strategy<Value = Thrown> {
    let flags =
        (prop::bool::weighted(0.8), 0..4u8, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (flags, vec((0..5u8, any::<bool>(), 0..3u8), 0..4)).prop_map(|(flags, endpoints)| {
        let (exists, accessible, internal_local, external_local, sticky, restricted) = flags;
        Thrown { exists, accessible, internal_local, external_local, sticky, restricted, endpoints }
    })
}

fn objects(services: &[Thrown]) -> String {
    services
        .iter()
        .enumerate()
        .filter(|(_, service)| service.exists)
        .map(|(n, service)| object(n, service))
        .collect()
}

fn object(n: usize, service: &Thrown) -> String {
    let policy = |local| if local { "Local" } else { "Cluster" };
    let kind = ["ClusterIP", "NodePort", "LoadBalancer", "ClusterIP"][usize::from(service.accessible)];
    let node_port = if kind == "ClusterIP" { 0 } else { 30000 + n };
    let mut spec = format!(
        "type: {kind}\nclusterIP: 10.96.{}.{}\nports: [{{name: p, port: 80, nodePort: {node_port}}}]\n\
         internalTrafficPolicy: {}\nexternalTrafficPolicy: {}\n",
        n / 250,
        n % 250 + 1,
        policy(service.internal_local),
        policy(service.external_local),
    );
    if service.sticky {
        spec += "sessionAffinity: ClientIP\n";
    }
    if service.restricted {
        spec += "loadBalancerSourceRanges: [192.168.56.0/24, 203.0.113.0/24]\n";
    }
    if service.accessible == 3 {
        spec += &format!("externalIPs: [192.0.2.{}, 192.0.2.{}]\n", n % 250 + 1, n % 250 + 1);
    }
    let mut status = String::new();
    if kind == "LoadBalancer" {
        spec += &format!("healthCheckNodePort: {}\n", 31000 + n);
        status = format!("loadBalancer: {{ingress: [{{ip: 198.51.100.{}}}]}}\n", n % 250 + 1);
    }
    let endpoint = |&(address, local, condition): &(u8, bool, u8)| {
        let node = if local { "node-1" } else { "node-2" };
        let condition = ["ready", "serving", "gone"][usize::from(condition)];
        common::endpoint(&format!("10.244.{}.{address}", n % 250), node, condition)
    };
    let endpoints: Vec<String> = service.endpoints.iter().map(endpoint).collect();
    common::service(&format!("s{n}"), &spec, &status, &endpoints)
}

fn forwarding(services: &[Thrown]) -> Forwarding {
    common::forwarding(&objects(services), IpFamily::V4)
}

fn names(a: &Forwarding, b: &Forwarding) -> BTreeSet<ServicePortName> {
    a.ports.keys().chain(b.ports.keys()).cloned().collect()
}

/// Every chain with its rules; where the order of services has no meaning, sorted.
fn contents(tables: &FakeTables) -> BTreeMap<(Table, String), Vec<String>> {
    let mut contents = BTreeMap::new();
    for table in [Table::Mangle, Table::Filter, Table::Nat] {
        for chain in tables.chain_names(table) {
            contents.insert((table, chain.to_owned()), tables.rules(table, chain).unwrap().to_vec());
        }
    }
    for place in DispatchChain::ALL.map(DispatchChain::place) {
        if let Some(rules) = contents.get_mut(&(place.table, place.chain.to_string())) {
            let tail = rules.iter().position(|rule| rule.contains(TAIL)).unwrap_or(rules.len());
            assert!(rules[tail..].iter().all(|rule| rule.contains(TAIL)), "{place}: rules behind the tail");
            rules[..tail].sort();
        }
    }
    contents
}

fn apply(tables: &mut FakeTables, restore: &Restore) {
    tables
        .restore(&restore.text)
        .unwrap_or_else(|refused| panic!("{}: {refused}\n{}", restore.purpose, restore.text));
}

fn full_sync(tables: &mut FakeTables, settings: &Settings, forwarding: &Forwarding, variant: Variant) {
    let found = Found::with_chains(tables.chain_names(Table::Nat));
    tables.ensure_all();
    let mut sync = full(settings, forwarding, variant, found);
    sync.by_ref().for_each(|restore| apply(tables, &restore));
    assert_eq!(sync.total(), common::ruleset(settings, forwarding).counts());
}

fn synced(settings: &Settings, forwarding: &Forwarding, variant: Variant) -> FakeTables {
    let mut tables = FakeTables::default();
    full_sync(&mut tables, settings, forwarding, variant);
    tables
}

/// What the tables hold of a service port, of the rules that it may have had before or may have after.
fn view(tables: &FakeTables, candidates: &[&PortRules; 2]) -> (Vec<String>, BTreeMap<String, Vec<String>>) {
    let wanted: BTreeSet<(DispatchChain, String)> = candidates
        .iter()
        .flat_map(|rules| &rules.dispatch)
        .map(|rule| (rule.chain, rule.rule.to_string()))
        .collect();
    let mut dispatch = Vec::new();
    for (chain, rule) in wanted {
        let rules = tables.rules(chain.table(), &chain.chain().to_string()).unwrap_or_default();
        let there = rules.iter().filter(|there| **there == rule).count();
        dispatch.extend(std::iter::repeat_n(format!("{chain:?} {rule}"), there));
    }
    let own = candidates.iter().flat_map(|rules| &rules.chains).map(ToString::to_string);
    let chains = own.filter_map(|chain| Some((chain.clone(), tables.rules(Table::Nat, &chain)?.to_vec())));
    (dispatch, chains.collect())
}

fn rules(
    settings: &Settings,
    name: &ServicePortName,
    port: Option<&std::sync::Arc<PortForwarding>>,
) -> PortRules {
    port.map(|port| port_rules(settings, name, port, false)).unwrap_or_default()
}

fn law_of_partial(a: &Forwarding, b: &Forwarding, variant: Variant) {
    let settings = common::settings(IpFamily::V4);
    let before = synced(&settings, a, variant);
    let after = synced(&settings, b, variant);
    let mut tables = before.clone();
    let total = Ruleset::new(&settings, a).counts();
    let mut sync = partial(&settings, a, b, names(a, b), variant, total);
    for restore in sync.by_ref() {
        apply(&mut tables, &restore);
        for name in names(a, b) {
            let (old, new) =
                (rules(&settings, &name, a.ports.get(&name)), rules(&settings, &name, b.ports.get(&name)));
            let view = |tables| view(tables, &[&old, &new]);
            let now = view(&tables);
            assert!(now == view(&before) || now == view(&after), "{name} is neither old nor new: {now:#?}");
        }
    }
    assert_eq!(contents(&tables), contents(&after));
    assert_eq!(sync.total(), Ruleset::new(&settings, b).counts());
    assert_eq!(
        partial(&settings, b, b, names(a, b), variant, total).count(),
        0,
        "nothing differs from itself"
    );
}

fn law_of_full_over_another(a: &Forwarding, b: &Forwarding, variant: Variant) {
    let settings = common::settings(IpFamily::V4);
    let mut tables = synced(&settings, a, variant);
    let after = contents(&synced(&settings, b, variant));
    let found = Found::with_chains(tables.chain_names(Table::Nat));
    let unchanged: Vec<_> = a.ports.iter().filter(|(name, port)| b.ports.get(*name) == Some(port)).collect();
    for restore in full(&settings, b, variant, found) {
        apply(&mut tables, &restore);
        contents(&tables); // looks at the tail
        for (name, port) in &unchanged {
            let rules = port_rules(&settings, name, port, false);
            let (dispatch, chains) = view(&tables, &[&rules, &rules]);
            assert!(
                rules.dispatch.len() <= dispatch.len(),
                "{name} is not reachable after {}",
                restore.purpose
            );
            assert_eq!(rules.chains.len(), chains.len(), "{name} lost a chain after {}", restore.purpose);
            assert!(chains.values().all(|rules| !rules.is_empty()), "{name}: a chain is empty");
        }
    }
    assert_eq!(contents(&tables), after);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_partial_sync_leads_from_one_state_to_the_other(a in vec(thrown(), 6), b in vec(thrown(), 6), keep in vec(any::<bool>(), 6)) {
        let b: Vec<Thrown> = (0..6).map(|n| if keep[n] { a[n].clone() } else { b[n].clone() }).collect();
        for variant in [Variant::NfTables, Variant::Legacy] {
            law_of_partial(&forwarding(&a), &forwarding(&b), variant);
        }
    }

    #[test]
    fn a_full_sync_over_another_state_replaces_it(a in vec(thrown(), 6), b in vec(thrown(), 6), keep in vec(any::<bool>(), 6)) {
        let b: Vec<Thrown> = (0..6).map(|n| if keep[n] { a[n].clone() } else { b[n].clone() }).collect();
        for variant in [Variant::NfTables, Variant::Legacy] {
            law_of_full_over_another(&forwarding(&a), &forwarding(&b), variant);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn many_services_at_once_change_in_groups(a in vec(thrown(), 130), b in vec(thrown(), 130)) {
        law_of_partial(&forwarding(&a), &forwarding(&b), Variant::NfTables);
        law_of_full_over_another(&forwarding(&a), &forwarding(&b), Variant::NfTables);
    }
}

/// Services whose every address and node port must move at once: more deletions than are done one by one.
#[test]
fn a_shared_chain_is_rewritten_when_most_of_it_goes() {
    let service = |exists| Thrown {
        exists,
        accessible: 1,
        internal_local: false,
        external_local: false,
        sticky: false,
        restricted: false,
        endpoints: vec![(2, true, 0)],
    };
    let all = forwarding(&vec![service(true); 60]);
    let none = forwarding(&vec![service(false); 60]);
    let settings = common::settings(IpFamily::V4);
    let texts: Vec<String> =
        partial(&settings, &all, &none, names(&all, &none), Variant::NfTables, Default::default())
            .map(|restore| restore.text)
            .collect();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].contains(":KUBE-NODEPORTS - [0:0]\n") && !texts[0].contains("-D KUBE-NODEPORTS"));
    assert!(texts[0].contains("-D KUBE-SERVICES"), "50 rules of KUBE-SERVICES are still deleted one by one");
    law_of_partial(&all, &none, Variant::NfTables);
    law_of_partial(&none, &all, Variant::NfTables);
}

#[test]
fn one_new_endpoint_touches_two_chains_and_nothing_shared() {
    let before = Thrown {
        exists: true,
        accessible: 0,
        internal_local: false,
        external_local: false,
        sticky: false,
        restricted: false,
        endpoints: vec![(2, true, 0)],
    };
    let after = Thrown { endpoints: vec![(2, true, 0), (3, false, 0)], ..before.clone() };
    let (a, b) = (forwarding(&[before]), forwarding(&[after]));
    let settings = common::settings(IpFamily::V4);
    let texts: Vec<String> = partial(&settings, &a, &b, names(&a, &b), Variant::NfTables, Default::default())
        .map(|restore| restore.text)
        .collect();
    insta::assert_snapshot!(texts.concat());
}

#[test]
fn cleanup_leaves_only_what_is_the_kubelets_too() {
    let settings = common::settings(IpFamily::V4);
    for variant in [Variant::NfTables, Variant::Legacy] {
        let endpoints = (0..3).map(|n| (n, true, 0)).collect();
        let service = Thrown {
            exists: true,
            accessible: 2,
            internal_local: true,
            external_local: true,
            sticky: true,
            restricted: true,
            endpoints,
        };
        let mut tables = synced(&settings, &forwarding(&vec![service; 130]), variant);
        for jump in cleanup_jumps() {
            let text = format!("*{}\n-D {} {}\nCOMMIT\n", jump.table, jump.source, jump.rule);
            tables.restore(&text).unwrap();
        }
        for table in [Table::Nat, Table::Filter] {
            let existing: Vec<String> = tables.chain_names(table).map(str::to_owned).collect();
            for restore in cleanup(variant, table, existing.iter().map(String::as_str)) {
                apply(&mut tables, &restore);
            }
        }
        let left: Vec<&str> = [Table::Nat, Table::Filter]
            .into_iter()
            .flat_map(|table| {
                tables.chain_names(table).filter(|name| name.starts_with("KUBE")).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(left, ["KUBE-FIREWALL"]);
    }
}
