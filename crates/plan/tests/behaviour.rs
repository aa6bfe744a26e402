//! What packets experience: imaginary ones, sent through plans.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on stops

mod common;

use std::collections::BTreeMap;

use switchyard_model::{IpFamily, Protocol};
use switchyard_plan::iptables::trace::{Outcome, Packet, PacketVerdict, Surroundings, trace};
use switchyard_plan::iptables::{PortNames, Ruleset, Settings};
use switchyard_plan::node::{DetectLocal, NodePortAddresses};

const LOCAL: &str = "10.244.1.2";
const REMOTE: &str = "10.244.2.2";
const POD: &str = "10.244.1.3";
const CLIENT: &str = "192.168.56.100";
const NODE: &str = "192.168.56.11";

const CLUSTER_IP: &str = "10.96.0.10:80";
const NODE_PORT: &str = "192.168.56.11:30080";
const LOAD_BALANCER: &str = "198.51.100.7:80";
const EXTERNAL_IP: &str = "192.0.2.7:80";

const SPEC: &str = "type: LoadBalancer
clusterIP: 10.96.0.10
ports: [{name: p, port: 80, nodePort: 30080}]
externalIPs: [192.0.2.7]
";
const STATUS: &str = "loadBalancer: {ingress: [{ip: 198.51.100.7}]}\n";

/// A service with every kind of address, endpoints as (address, node), and more lines of its spec.
fn service(endpoints: &[(&str, &str)], more: &str) -> Ruleset {
    with_settings(&common::settings(IpFamily::V4), endpoints, more)
}

fn with_settings(settings: &Settings, endpoints: &[(&str, &str)], more: &str) -> Ruleset {
    let endpoints: Vec<String> =
        endpoints.iter().map(|(address, node)| common::endpoint(address, node, "ready")).collect();
    let yaml = common::service("web", &[SPEC, more].concat(), STATUS, &endpoints);
    common::ruleset(settings, &common::forwarding(&yaml, IpFamily::V4))
}

const BOTH: [(&str, &str); 2] = [(LOCAL, "node-1"), (REMOTE, "node-2")];
const REMOTE_ONLY: [(&str, &str); 1] = [(REMOTE, "node-2")];

fn packet(source: &str, destination: &str) -> Packet {
    let in_interface = match source {
        NODE | "127.0.0.1" => None,
        pod if pod.starts_with("10.244.1.") => Some("cni0"),
        _ => Some("eth0"),
    };
    Packet {
        source: source.parse().unwrap(),
        in_interface: in_interface.map(str::to_owned),
        destination: destination.parse().unwrap(),
        protocol: Protocol::Tcp,
    }
}

fn surroundings() -> Surroundings {
    let local_addresses = [NODE, "10.244.1.1"].map(|address| address.parse().unwrap()).to_vec();
    Surroundings { local_addresses, ..Surroundings::default() }
}

/// All that can happen, in words, with its share in per cent.
fn fate(ruleset: &Ruleset, source: &str, destination: &str) -> BTreeMap<String, u32> {
    tell(trace(ruleset, &packet(source, destination), &surroundings()))
}

fn tell(outcomes: Vec<Outcome>) -> BTreeMap<String, u32> {
    let sum: f64 = outcomes.iter().map(|outcome| outcome.probability).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{outcomes:#?}");
    let mut fate = BTreeMap::new();
    for outcome in outcomes {
        let text = match outcome.verdict {
            PacketVerdict::Rejected => "rejected".to_owned(),
            PacketVerdict::Dropped => "dropped".to_owned(),
            PacketVerdict::Passed { translated: false, .. } => "untouched".to_owned(),
            PacketVerdict::Passed { destination, masqueraded: true, .. } => {
                format!("{} masqueraded", destination.ip())
            }
            PacketVerdict::Passed { destination, .. } => destination.ip().to_string(),
        };
        *fate.entry(text).or_default() += (outcome.probability * 100.0).round() as u32;
    }
    fate
}

fn expect<const N: usize>(fates: [(&str, u32); N]) -> BTreeMap<String, u32> {
    fates.into_iter().map(|(fate, share)| (fate.to_owned(), share)).collect()
}

#[test]
fn a_pod_reaches_all_endpoints_alike_and_keeps_its_address() {
    let web = service(&BOTH, "");
    assert_eq!(fate(&web, POD, CLUSTER_IP), expect([(LOCAL, 50), (REMOTE, 50)]));
    let seven: Vec<String> = (1..=7).map(|n| format!("10.244.2.{n}")).collect();
    let seven: Vec<(&str, &str)> = seven.iter().map(|address| (address.as_str(), "node-2")).collect();
    let shares = fate(&service(&seven, ""), POD, CLUSTER_IP);
    assert_eq!(shares.values().copied().collect::<Vec<_>>(), [14; 7]);
}

#[test]
fn what_comes_from_outside_to_a_cluster_ip_is_masqueraded() {
    let masqueraded = expect([("10.244.1.2 masqueraded", 50), ("10.244.2.2 masqueraded", 50)]);
    let web = service(&BOTH, "");
    assert_eq!(fate(&web, CLIENT, CLUSTER_IP), masqueraded);
    assert_eq!(fate(&web, NODE, CLUSTER_IP), masqueraded);
    let all = Settings { masquerade_all: true, ..common::settings(IpFamily::V4) };
    assert_eq!(fate(&with_settings(&all, &BOTH, ""), POD, CLUSTER_IP), masqueraded);
    let veth =
        Settings { detect_local: DetectLocal::Interface("cni+".into()), ..common::settings(IpFamily::V4) };
    assert_eq!(fate(&with_settings(&veth, &BOTH, ""), POD, CLUSTER_IP), expect([(LOCAL, 50), (REMOTE, 50)]));
    assert_eq!(fate(&with_settings(&veth, &BOTH, ""), CLIENT, CLUSTER_IP), masqueraded);
}

#[test]
fn an_endpoint_that_reaches_itself_is_masqueraded() {
    let web = service(&BOTH, "");
    assert_eq!(fate(&web, LOCAL, CLUSTER_IP), expect([("10.244.1.2 masqueraded", 50), (REMOTE, 50)]));
}

#[test]
fn external_addresses_are_masqueraded_under_the_cluster_policy() {
    let web = service(&BOTH, "");
    for address in [NODE_PORT, LOAD_BALANCER, EXTERNAL_IP] {
        for source in [CLIENT, POD, NODE] {
            let masqueraded = expect([("10.244.1.2 masqueraded", 50), ("10.244.2.2 masqueraded", 50)]);
            assert_eq!(fate(&web, source, address), masqueraded, "{source} to {address}");
        }
    }
}

#[test]
fn external_addresses_keep_the_source_under_the_local_policy() {
    let web = service(&BOTH, "externalTrafficPolicy: Local\n");
    for address in [NODE_PORT, LOAD_BALANCER, EXTERNAL_IP] {
        assert_eq!(fate(&web, CLIENT, address), expect([(LOCAL, 100)]), "{address}");
        assert_eq!(fate(&web, POD, address), expect([(LOCAL, 50), (REMOTE, 50)]), "pods are not outside");
        let masqueraded = expect([("10.244.1.2 masqueraded", 50), ("10.244.2.2 masqueraded", 50)]);
        assert_eq!(fate(&web, NODE, address), masqueraded, "nor is the node");
    }
}

#[test]
fn a_node_without_local_endpoints_drops_what_is_bound_to_be_local() {
    let web = service(&REMOTE_ONLY, "externalTrafficPolicy: Local\ninternalTrafficPolicy: Local\n");
    for address in [CLUSTER_IP, NODE_PORT, LOAD_BALANCER, EXTERNAL_IP] {
        assert_eq!(fate(&web, CLIENT, address), expect([("dropped", 100)]), "{address}");
    }
    assert_eq!(fate(&web, POD, CLUSTER_IP), expect([("dropped", 100)]));
    for address in [NODE_PORT, LOAD_BALANCER, EXTERNAL_IP] {
        assert_eq!(fate(&web, POD, address), expect([(REMOTE, 100)]), "{address}");
    }
}

#[test]
fn without_any_endpoint_clients_are_told_at_once() {
    let web = service(&[], "externalTrafficPolicy: Local\nloadBalancerSourceRanges: [203.0.113.0/24]\n");
    for address in [CLUSTER_IP, NODE_PORT, LOAD_BALANCER, EXTERNAL_IP] {
        assert_eq!(fate(&web, CLIENT, address), expect([("rejected", 100)]), "{address}");
    }
    assert_eq!(fate(&web, NODE, CLUSTER_IP), expect([("rejected", 100)]));
}

#[test]
fn source_ranges_bind_the_load_balancer_address_only() {
    let ranged = service(&BOTH, "loadBalancerSourceRanges: [203.0.113.0/24]\n");
    assert_eq!(fate(&ranged, CLIENT, LOAD_BALANCER), expect([("dropped", 100)]));
    assert_eq!(fate(&ranged, NODE, LOAD_BALANCER), expect([("dropped", 100)]));
    assert_eq!(fate(&ranged, "203.0.113.5", LOAD_BALANCER).len(), 2);
    assert!(!fate(&ranged, CLIENT, NODE_PORT).contains_key("dropped"));
    assert!(!fate(&ranged, CLIENT, EXTERNAL_IP).contains_key("dropped"));
}

#[test]
fn source_ranges_that_contain_the_node_let_its_load_balancer_traffic_in() {
    let ranged = service(&BOTH, "loadBalancerSourceRanges: [192.168.56.11/32]\n");
    assert_eq!(fate(&ranged, NODE, LOAD_BALANCER).len(), 2);
    // The source of a connection to an address that is local to the node is that address itself.
    assert_eq!(fate(&ranged, "198.51.100.7", LOAD_BALANCER).len(), 2);
    assert_eq!(fate(&ranged, CLIENT, LOAD_BALANCER), expect([("dropped", 100)]));
}

#[test]
fn node_ports_answer_on_the_addresses_told() {
    let default = service(&BOTH, "");
    for address in ["192.168.56.11:30080", "10.244.1.1:30080", "127.0.0.1:30080"] {
        assert_eq!(fate(&default, NODE, address).len(), 2, "{address}");
    }
    let not_on_loopback = Settings { localhost_node_ports: false, ..common::settings(IpFamily::V4) };
    let quiet = with_settings(&not_on_loopback, &BOTH, "");
    assert_eq!(fate(&quiet, "127.0.0.1", "127.0.0.1:30080"), expect([("untouched", 100)]));
    assert_eq!(fate(&quiet, CLIENT, NODE_PORT).len(), 2);
    let node_port_addresses = NodePortAddresses::Addresses(vec![NODE.parse().unwrap()]);
    let one = Settings { node_port_addresses, ..common::settings(IpFamily::V4) };
    let one = with_settings(&one, &BOTH, "");
    assert_eq!(fate(&one, CLIENT, NODE_PORT).len(), 2);
    assert_eq!(fate(&one, CLIENT, "10.244.1.1:30080"), expect([("untouched", 100)]));
}

#[test]
fn loopback_cannot_be_reached_from_the_network() {
    let web = service(&BOTH, "");
    assert_eq!(fate(&web, CLIENT, "127.0.0.1:9090"), expect([("dropped", 100)]));
    assert_eq!(fate(&web, "127.0.0.1", "127.0.0.1:9090"), expect([("untouched", 100)]));
}

#[test]
fn a_known_client_returns_to_its_endpoint() {
    let yaml = common::service(
        "web",
        &[SPEC, "sessionAffinity: ClientIP\n"].concat(),
        STATUS,
        &BOTH.map(|(address, node)| common::endpoint(address, node, "ready")),
    );
    let forwarding = common::forwarding(&yaml, IpFamily::V4);
    let sticky = common::ruleset(&common::settings(IpFamily::V4), &forwarding);
    let (name, port) = forwarding.ports.first_key_value().unwrap();
    let remembered_by = vec![PortNames::new(name).sep(&port.endpoints[1])];
    let known = Surroundings { remembered_by, ..surroundings() };
    assert_eq!(tell(trace(&sticky, &packet(POD, CLUSTER_IP), &known)), expect([(REMOTE, 100)]));
    assert_eq!(fate(&sticky, POD, CLUSTER_IP), expect([(LOCAL, 50), (REMOTE, 50)]));
}

#[test]
fn invalid_packets_are_not_forwarded_unless_the_kernel_is_to_be_liberal() {
    let invalid = Surroundings { invalid: true, ..surroundings() };
    let strict = service(&BOTH, "");
    let through = packet(CLIENT, "10.244.1.2:8080");
    assert_eq!(tell(trace(&strict, &through, &invalid)), expect([("dropped", 100)]));
    let liberal = Settings { drop_invalid: false, ..common::settings(IpFamily::V4) };
    assert_eq!(
        tell(trace(&with_settings(&liberal, &BOTH, ""), &through, &invalid)),
        expect([("untouched", 100)])
    );
}

#[test]
fn other_ports_and_other_protocols_are_left_alone() {
    let web = service(&BOTH, "");
    assert_eq!(fate(&web, POD, "10.96.0.10:81"), expect([("untouched", 100)]));
    let udp = Packet { protocol: Protocol::Udp, ..packet(POD, CLUSTER_IP) };
    assert_eq!(tell(trace(&web, &udp, &surroundings())), expect([("untouched", 100)]));
}

#[test]
fn health_checks_of_load_balancers_are_let_in() {
    let web = service(&BOTH, "externalTrafficPolicy: Local\nhealthCheckNodePort: 32000\n");
    assert_eq!(fate(&web, CLIENT, "192.168.56.11:32000"), expect([("untouched", 100)]));
    let outcomes = trace(&web, &packet(CLIENT, "192.168.56.11:32000"), &surroundings());
    let (place, index) = *outcomes[0].path.last().unwrap();
    assert!(web.saved(place)[index].contains("health check node port"));
}
