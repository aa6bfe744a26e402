use switchyard_api::manifest::{Object, parse};
use switchyard_kernel::conntrack::fake::FakeConntrack;
use switchyard_kernel::conntrack::{Flow, Tuple};
use switchyard_kernel::iptables::fake::FakeIptables;
use switchyard_model::TableOptions;
use switchyard_plan::iptables::{Settings, Table, Variant};
use switchyard_plan::node::{DetectLocal, NodePortAddresses};

use super::*;
use crate::metrics::testing::metrics;
use crate::mode::iptables::{HostFeatures, IptablesMode};
use crate::service_health::ListenAddresses;

const DB: &str = "
kind: Service
metadata: {name: db}
spec: {clusterIP: 10.96.0.9, ports: [{port: 3306}]}
---
kind: EndpointSlice
metadata: {name: db-1, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{port: 3306}]
endpoints: [{addresses: [10.244.1.2]}]
";
const DNS: &str = "
kind: Service
metadata: {name: dns}
spec: {clusterIP: 10.96.0.10, ports: [{port: 53, protocol: UDP}]}
---
kind: EndpointSlice
metadata: {name: dns-1, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{port: 53, protocol: UDP}]
endpoints: [{addresses: [10.244.1.53]}]
";
const FULL: &str = "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}";
const PARTIAL: &str = "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}";

/// One family with kernel and connection tracking in memory.
struct Stage {
    sync: FamilySync,
    iptables: FakeIptables,
    _runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn new() -> Stage {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let iptables = FakeIptables::new(Variant::NfTables);
        let metrics = Arc::new(metrics());
        let health = Arc::new(ProxyHealth::new(Duration::from_secs(30)));
        let settings = |features: HostFeatures| Settings {
            family: IpFamily::V4,
            masquerade_mark: 1 << 14,
            masquerade_all: false,
            localhost_node_ports: true,
            detect_local: DetectLocal::Source("10.244.0.0/16".parse().unwrap()),
            node_ip: "192.168.56.11".parse().unwrap(),
            node_port_addresses: NodePortAddresses::MatchAll,
            random_fully: features.random_fully,
            drop_invalid: true,
            count_invalid: features.count_invalid,
            count_localhost_node_ports: features.count_localhost_node_ports,
        };
        let mode = IptablesMode::new(
            Box::new(iptables.clone()),
            None,
            HostFeatures::ALL,
            Box::new(settings),
            metrics.clone(),
        );
        let addresses = ListenAddresses::These(Vec::new());
        let table = ServiceTable::new(TableOptions { node_name: "node-1".into(), allow_external_ips: true });
        let sync = FamilySync {
            family: IpFamily::V4,
            table: Arc::new(Mutex::new(table)),
            mode: Box::new(mode),
            signals: Signals::default(),
            conntrack: None,
            service_health: ServiceHealth::new(
                IpFamily::V4,
                &addresses,
                "node-1",
                runtime.handle().clone(),
                health.clone(),
            ),
            health,
            metrics,
            events: EventRecorder::log_only(),
            retry_after: Duration::from_secs(30),
            since: Timestamp::now(),
            progress: Progress::default(),
        };
        Stage { sync, iptables, _runtime: runtime }
    }

    fn initialized() -> Stage {
        let stage = Stage::new();
        stage.sync.signals.initialize();
        stage
    }

    fn apply(&self, yaml: &str) {
        for object in parse(yaml).unwrap() {
            match object.unwrap() {
                Object::Service(service) => drop(lock(&self.sync.table).set_service(&service)),
                Object::EndpointSlice(slice) => drop(lock(&self.sync.table).set_slice(&slice)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn nat_mentions(&self, text: &str) -> bool {
        let tables = self.iptables.tables();
        let mut chains = tables.chain_names(Table::Nat);
        chains.any(|chain| tables.rules(Table::Nat, chain).unwrap().iter().any(|rule| rule.contains(text)))
    }

    fn count(&self, metric: &str) -> u64 {
        let text = self.sync.metrics.text().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(metric));
        value.map_or(0, |value| value.trim().parse().unwrap())
    }
}

#[test]
fn nothing_is_written_before_all_objects_have_arrived() {
    let mut stage = Stage::new();
    stage.apply(DB);
    assert!(stage.sync.run());
    assert!(stage.iptables.restores().is_empty());
    stage.sync.signals.initialize();
    assert!(stage.sync.run());
    assert!(stage.nat_mentions("default/db"));
}

#[test]
fn a_change_after_the_first_sync_is_written_alone() {
    let mut stage = Stage::initialized();
    stage.apply(DB);
    stage.sync.run();
    let before = stage.iptables.restores().len();
    stage.apply(DNS);
    assert!(stage.sync.run());
    let restores = stage.iptables.restores();
    assert_eq!((stage.count(FULL), stage.count(PARTIAL), restores.len()), (1, 1, before + 1));
    assert!(restores[before].contains("default/dns") && !restores[before].contains("default/db"));
}

#[test]
fn a_failed_change_is_made_good_by_a_full_sync() {
    let mut stage = Stage::initialized();
    stage.sync.run();
    stage.apply(DB);
    stage.iptables.fail_restores(1);
    assert!(!stage.sync.run());
    assert!(!stage.nat_mentions("default/db"));
    assert!(stage.sync.run());
    assert!(stage.nat_mentions("default/db"));
    assert_eq!((stage.count(FULL), stage.count(PARTIAL)), (2, 1));
    let failures = "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family=\"IPv4\"}";
    assert_eq!(stage.count(failures), 1);
}

#[test]
fn after_a_flush_a_check_finds_out_and_everything_is_written() {
    let mut stage = Stage::initialized();
    stage.apply(DB);
    stage.sync.run();
    stage.iptables.flush();
    stage.sync.signals.ask_for_full_sync();
    assert!(stage.sync.run());
    assert!(stage.nat_mentions("default/db"));
}

#[test]
fn a_check_that_finds_everything_writes_nothing() {
    let mut stage = Stage::initialized();
    stage.apply(DB);
    stage.sync.run();
    let before = stage.iptables.restores().len();
    stage.sync.signals.ask_for_check();
    assert!(stage.sync.run());
    assert_eq!((stage.count(FULL), stage.iptables.restores().len()), (1, before));
}

#[test]
fn stale_udp_flows_are_forgotten_also_when_the_first_try_failed() {
    let mut stage = Stage::initialized();
    stage.sync.run();
    let tuple = |source: &str, destination: &str| Tuple {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    };
    let stale = Flow {
        original: tuple("10.244.9.9:4000", "10.96.0.10:53"),
        reply: tuple("10.244.7.7:53", "10.244.9.9:4000"),
    };
    stage.sync.conntrack = Some(Box::new(FakeConntrack { flows: vec![stale] }));
    let deleted = "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"}";
    stage.apply(DNS);
    stage.iptables.fail_restores(1);
    stage.sync.run();
    assert_eq!(stage.count(deleted), 0);
    stage.sync.run();
    assert_eq!(stage.count(deleted), 1);
}
