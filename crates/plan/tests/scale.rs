//! 5,000 services of 10 endpoints: how big the restores are, and how long planning takes.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on stops

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use switchyard_model::{
    Conditions, Endpoint, Forwarding, IpFamily, ObjectKey, PortForwarding, Protocol, ServicePort,
    ServicePortName, Topology, TrafficPolicy,
};
use switchyard_plan::iptables::{Found, Purpose, RuleCounts, Variant, full, partial};

const SERVICES: u32 = 5000;
const ENDPOINTS: u32 = 10;

fn cluster(services: u32) -> Forwarding {
    let mut forwarding = Forwarding::empty(IpFamily::V4);
    forwarding.ports = (0..services).map(|n| (name(n), Arc::new(port(n, ENDPOINTS)))).collect();
    forwarding
}

fn name(n: u32) -> ServicePortName {
    ServicePortName {
        service: ObjectKey::new("default", format!("service-{n}")),
        port: "http".into(),
        protocol: Protocol::Tcp,
    }
}

fn port(n: u32, endpoints: u32) -> PortForwarding {
    let address = |base: u32, n: u32| std::net::Ipv4Addr::from_bits(base + n).into();
    let endpoint = |m| Endpoint {
        address: address(0x0a80_0000, n * ENDPOINTS + m),
        port: 8080,
        conditions: Conditions::READY,
        is_local: m == 0,
        node: None,
        zone_hints: Box::default(),
        node_hints: Box::default(),
    };
    PortForwarding {
        service_port: ServicePort {
            cluster_ip: address(0x0a60_0000, n + 1),
            port: 80,
            protocol: Protocol::Tcp,
            node_port: None,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            health_check_node_port: None,
            affinity_seconds: None,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            externally_accessible: false,
        },
        endpoints: (0..endpoints).map(endpoint).collect(),
        topology: Topology::default(),
        cluster: (0..endpoints).collect(),
        local: Box::default(),
        reachable: (0..endpoints).collect(),
        has_any_endpoint: endpoints > 0,
    }
}

/// Times mean something in an optimised build only.
fn hold(began: Instant, limit: Duration, what: &str) {
    let took = began.elapsed();
    assert!(cfg!(debug_assertions) || took < limit, "{what} took {took:?}, more than {limit:?}");
}

#[test]
fn a_big_cluster_is_planned_fast_and_in_small_restores() {
    let (settings, forwarding) = (common::settings(IpFamily::V4), cluster(SERVICES));
    for (variant, most) in [(Variant::NfTables, 300_000), (Variant::Legacy, 40_000_000)] {
        let began = Instant::now();
        let mut sync = full(&settings, &forwarding, variant, Found::default());
        let largest = sync.by_ref().map(|restore| restore.text.len()).max().unwrap();
        hold(began, Duration::from_millis(500), &format!("{variant:?} in texts of up to {largest} bytes"));
        assert!(largest < most, "{variant:?}: {largest} bytes");
        // Dispatch, masquerade, and for each endpoint one choice and two rules of its own; and the shared ones.
        let nat = (SERVICES * (2 + 3 * ENDPOINTS)) as usize + 5;
        assert_eq!(sync.total(), RuleCounts { filter: 4, nat });
    }
}

#[test]
fn one_change_in_a_big_cluster_is_a_small_matter() {
    let settings = common::settings(IpFamily::V4);
    let old = cluster(SERVICES);
    let mut new = old.clone();
    new.ports.insert(name(17), Arc::new(port(17, ENDPOINTS - 1)));
    let began = Instant::now();
    let texts: Vec<_> =
        partial(&settings, &old, &new, [name(17)], Variant::NfTables, RuleCounts::default()).collect();
    hold(began, Duration::from_millis(10), "one change");
    assert_eq!(texts.len(), 1);
    assert_eq!(texts[0].purpose, Purpose::ServicePorts(1));
    assert!(texts[0].text.len() < 4000, "{}", texts[0].text);
}
