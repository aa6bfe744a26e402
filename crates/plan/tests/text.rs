//! Whole texts, as `iptables-restore` is given them.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on stops

mod common;

use std::collections::BTreeSet;

use switchyard_model::{Forwarding, IpFamily};
use switchyard_plan::iptables::{
    Chain, Found, Jump, Purpose, Restore, RuleCounts, Ruleset, Settings, Table, Variant, full, jumps,
    partial, port_rules, whole_text,
};
use switchyard_plan::node::{DetectLocal, NodePortAddresses};

const MYSQL_AND_WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: mysql, namespace: default}
spec: {clusterIP: 10.103.132.104, ports: [{port: 3306, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mysql-1, namespace: default, labels: {kubernetes.io/service-name: mysql}}
addressType: IPv4
ports: [{name: '', port: 3306, protocol: TCP}]
endpoints: [{addresses: [10.244.1.2], nodeName: node-1}, {addresses: [10.244.2.2], nodeName: node-2}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: NodePort, clusterIP: 10.96.45.10, ports: [{name: http, port: 80, nodePort: 30080, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.1.3], nodeName: node-1}, {addresses: [10.244.2.3], nodeName: node-2}]
";

fn settings() -> Settings {
    common::settings(IpFamily::V4)
}

fn mysql_and_web() -> Forwarding {
    common::forwarding(MYSQL_AND_WEB, IpFamily::V4)
}

fn without_web() -> Forwarding {
    let mut forwarding = mysql_and_web();
    forwarding.ports.retain(|name, _| &*name.service.name != "web");
    forwarding
}

fn partial_texts(old: &Forwarding, new: &Forwarding, variant: Variant) -> Vec<String> {
    let names: BTreeSet<_> = old.ports.keys().chain(new.ports.keys()).cloned().collect();
    let settings = settings();
    partial(&settings, old, new, names, variant, RuleCounts::default()).map(|restore| restore.text).collect()
}

#[test]
fn a_first_sync_on_legacy_is_upstreams_text() {
    let (settings, forwarding) = (settings(), mysql_and_web());
    let texts: Vec<Restore> = full(&settings, &forwarding, Variant::Legacy, Found::default()).collect();
    assert_eq!(texts.len(), 1);
    assert_eq!(texts[0].text, whole_text(&settings, &forwarding));
    insta::assert_snapshot!("upstreams_text", texts[0].text);
}

#[test]
fn a_first_sync_on_nf_tables_is_a_base_and_groups_of_services() {
    let (settings, forwarding) = (settings(), mysql_and_web());
    let texts: Vec<String> = full(&settings, &forwarding, Variant::NfTables, Found::default())
        .map(|restore| format!("# {}\n{}", restore.purpose, restore.text))
        .collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_full_sync_on_nf_tables_over_older_rules_replaces_shared_chains_last() {
    let (settings, forwarding) = (settings(), without_web());
    let found = Found::with_chains([
        "KUBE-MARK-MASQ",
        "KUBE-SEP-AAAAAAAAAAAAAAAA",
        "KUBE-SVC-R2CEXK5KF4QS4EYR",
        "KUBE-FW-OLD",
    ]);
    let texts: Vec<String> = full(&settings, &forwarding, Variant::NfTables, found)
        .map(|restore| format!("# {}\n{}", restore.purpose, restore.text))
        .collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn stale_chains_go_in_the_same_text_on_legacy() {
    let (settings, forwarding) = (settings(), without_web());
    let found = Found::with_chains([
        "KUBE-SVC-R2CEXK5KF4QS4EYR",
        "KUBE-SEP-AAAAAAAAAAAAAAAA",
        "KUBE-XLB-AAAAAAAAAAAAAAAA",
    ]);
    let text =
        full(&settings, &forwarding, Variant::Legacy, found).map(|restore| restore.text).collect::<String>();
    let line = |wanted: &str| text.lines().position(|line| line == wanted);
    assert!(line("-X KUBE-SEP-AAAAAAAAAAAAAAAA") > line(":KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]"));
    assert_eq!(text.matches("\n-X ").count(), 1, "chains in use and chains of other programs stay");
    assert!(text.lines().rev().nth(1).unwrap().ends_with("--dst-type LOCAL -j KUBE-NODEPORTS"));
}

#[test]
fn a_new_service_on_nf_tables_is_one_restore_that_names_nothing_else() {
    let texts = partial_texts(&without_web(), &mysql_and_web(), Variant::NfTables);
    assert_eq!(texts.len(), 1);
    insta::assert_snapshot!(texts[0]);
}

#[test]
fn a_deleted_service_on_nf_tables_takes_its_chains_along() {
    let texts = partial_texts(&mysql_and_web(), &without_web(), Variant::NfTables);
    assert_eq!(texts.len(), 1);
    insta::assert_snapshot!(texts[0]);
}

#[test]
fn a_changed_service_on_legacy_comes_with_all_shared_chains_but_no_other_services_chains() {
    let mut old = mysql_and_web();
    old.ports.retain(|name, _| &*name.service.name != "mysql");
    let texts = partial_texts(&old, &mysql_and_web(), Variant::Legacy);
    assert_eq!(texts.len(), 1);
    assert!(texts[0].contains("-A KUBE-SERVICES -m comment --comment \"default/web:http cluster IP\""));
    assert!(texts[0].contains(":KUBE-SVC-R2CEXK5KF4QS4EYR - [0:0]"));
    assert!(
        !texts[0].contains("KUBE-SVC-CDGGSHYLG3RE2FKL - [0:0]") && !texts[0].contains("-A KUBE-SVC-CDGG")
    );
}

#[test]
fn between_refused_and_forwarded_a_service_is_never_neither() {
    let forwarded = mysql_and_web();
    let slices = MYSQL_AND_WEB.replace(
        "{addresses: [10.244.1.2], nodeName: node-1}, {addresses: [10.244.2.2], nodeName: node-2}",
        "",
    );
    let refused = common::forwarding(&slices, IpFamily::V4);
    let tables = |text: &str| {
        text.lines().filter_map(|line| line.strip_prefix('*').map(str::to_owned)).collect::<Vec<_>>()
    };
    let ends = partial_texts(&forwarded, &refused, Variant::NfTables).concat();
    assert_eq!(tables(&ends), ["filter", "nat"], "refused before it is forwarded no more");
    let begins = partial_texts(&refused, &forwarded, Variant::NfTables).concat();
    assert_eq!(tables(&begins), ["nat", "filter"], "forwarded before it is refused no more");
}

#[test]
fn empty_clusters_have_as_many_rules_as_upstream_counts() {
    let count = |family, change: fn(&mut Settings)| {
        let mut settings = common::settings(family);
        change(&mut settings);
        let forwarding = Forwarding::empty(family);
        let mut counts = Vec::new();
        for variant in [Variant::Legacy, Variant::NfTables] {
            let mut sync = full(&settings, &forwarding, variant, Found::default());
            sync.by_ref().for_each(drop);
            assert_eq!(sync.total(), sync.written());
            counts.push(sync.total());
        }
        assert_eq!(counts[0], counts[1]);
        (counts[0].filter, counts[0].nat)
    };
    assert_eq!(count(IpFamily::V4, |_| {}), (4, 5));
    assert_eq!(count(IpFamily::V4, |settings| settings.localhost_node_ports = false), (3, 5));
    assert_eq!(count(IpFamily::V6, |_| {}), (3, 5));
}

#[test]
fn settings_change_the_rules_that_all_services_share() {
    let shared = |settings: &Settings| whole_text(settings, &Forwarding::empty(settings.family));
    let v6 = shared(&common::settings(IpFamily::V6));
    assert!(v6.contains("-m addrtype --dst-type LOCAL ! -d ::1/128 -j KUBE-NODEPORTS"));
    assert!(!v6.contains("KUBE-FIREWALL - ") && !v6.contains("localnet"));

    let plain = Settings {
        masquerade_mark: 1 << 31,
        localhost_node_ports: false,
        random_fully: false,
        drop_invalid: false,
        ..settings()
    };
    insta::assert_snapshot!(shared(&plain));
}

#[test]
fn node_ports_answer_only_where_told_and_not_on_loopback_unless_served() {
    let addresses = ["192.168.56.11", "127.0.0.1", "fd00:56::11"].map(|address| address.parse().unwrap());
    let listed = |localhost_node_ports| {
        let node_port_addresses = NodePortAddresses::Addresses(addresses.to_vec());
        let settings = Settings { localhost_node_ports, node_port_addresses, ..settings() };
        let text = whole_text(&settings, &Forwarding::empty(IpFamily::V4));
        let tail = text.lines().filter(|line| line.ends_with("-j KUBE-NODEPORTS"));
        tail.map(|line| line.split(' ').nth_back(2).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(true), ["192.168.56.11", "127.0.0.1"]);
    assert_eq!(listed(false), ["192.168.56.11"]);
}

#[test]
fn rules_of_endpoints_in_a_large_cluster_have_no_comments() {
    let objects =
        MYSQL_AND_WEB.replace("ports: [{port: 3306,", "sessionAffinity: ClientIP, ports: [{port: 3306,");
    let forwarding = common::forwarding(&objects, IpFamily::V4);
    let (name, port) = forwarding.ports.iter().next().unwrap();
    let rules = port_rules(&settings(), name, port, true);
    let lines = |(chain, rule): &(_, switchyard_plan::iptables::Rule)| {
        let mut line = format!("-A {chain}");
        rule.write_save(IpFamily::V4, &mut line);
        line + "\n"
    };
    insta::assert_snapshot!(rules.rules.iter().map(lines).collect::<String>());
}

#[test]
fn without_a_way_to_tell_local_traffic_nothing_is_masqueraded_by_source() {
    let unknown =
        whole_text(&Settings { detect_local: DetectLocal::Unknown, ..settings() }, &mysql_and_web());
    assert!(
        !unknown.contains("-d 10.103.132.104 --dport 3306 -j KUBE-MARK-MASQ")
            && !unknown.contains("! -s 10.244")
    );
    let bridge = Settings { detect_local: DetectLocal::Interface("cbr0".into()), ..settings() };
    assert!(whole_text(&bridge, &mysql_and_web()).contains("--dport 3306 ! -i cbr0 -j KUBE-MARK-MASQ"));
}

#[test]
fn jumps_are_given_as_arguments_of_the_command_line() {
    let jumps = jumps();
    assert_eq!(jumps.len(), 14);
    let Jump { table, source, rule, .. } = &jumps[0];
    assert_eq!((*table, source.to_string().as_str()), (Table::Filter, "INPUT"));
    let comment = "kubernetes externally-visible service portals";
    let expected = [
        "-m",
        "conntrack",
        "--ctstate",
        "NEW",
        "-m",
        "comment",
        "--comment",
        comment,
        "-j",
        "KUBE-EXTERNAL-SERVICES",
    ];
    assert_eq!(rule.arguments(), expected);
    assert_eq!(jumps[13].rule.arguments(), ["-j", "KUBE-FIREWALL"]);
}

#[test]
fn a_hostile_name_stays_inside_its_comment() {
    let mut forwarding = without_web();
    let (mut name, port) = forwarding.ports.pop_first().unwrap();
    name.port = "a\"\nCOMMIT\n".into();
    forwarding.ports.insert(name, port);
    let text = whole_text(&settings(), &forwarding);
    assert_eq!(text.matches("COMMIT\n").count(), 2);
    assert!(text.contains("\"default/mysql:a??COMMIT? cluster IP\""));
}

#[test]
fn what_a_predecessor_left_right_is_not_written_again() {
    let (settings, forwarding) = (settings(), mysql_and_web());
    let listing = |ruleset: &Ruleset| {
        let mut found = Found::default();
        let nat = ruleset.chains.keys().filter(|place| place.table == Table::Nat);
        nat.clone().for_each(|place| found.read(&format!(":{} - [0:0]", place.chain)));
        nat.flat_map(|place| ruleset.saved(*place)).for_each(|line| found.read(&line));
        found
    };
    let purposes = |found| -> Vec<Purpose> {
        full(&settings, &forwarding, Variant::NfTables, found).map(|restore| restore.purpose).collect()
    };
    let mut ruleset = Ruleset::new(&settings, &forwarding);
    assert_eq!(purposes(listing(&ruleset)), [Purpose::Base, Purpose::DispatchChains]);

    let (_, rules) =
        ruleset.chains.iter_mut().find(|(place, _)| matches!(place.chain, Chain::Sep(_))).unwrap();
    rules.pop();
    let touched = [Purpose::Base, Purpose::ServicePorts(1), Purpose::DispatchChains];
    assert_eq!(purposes(listing(&ruleset)), touched);
}
