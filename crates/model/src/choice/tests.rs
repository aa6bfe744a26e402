//! Endpoints are written as `A R L {zone za,node n1}`: a letter, then R(eady), T(erminating but serving) or N(ot
//! serving), then L for those on node n1, then hints. This node is n1 in zone za.

use switchyard_api::{Protocol, TrafficPolicy};

use super::*;
use crate::{Conditions, Verdict};

const CLUSTER: TrafficPolicy = TrafficPolicy::Cluster;
const LOCAL: TrafficPolicy = TrafficPolicy::Local;

/// Internal policy, external policy, and whether there is a node port.
type Policies = (TrafficPolicy, TrafficPolicy, bool);

const INTERNAL_CLUSTER: Policies = (CLUSTER, CLUSTER, false);
const INTERNAL_LOCAL: Policies = (LOCAL, CLUSTER, false);
const NODE_PORT_LOCAL: Policies = (CLUSTER, LOCAL, true);
const HIDDEN_LOCAL: Policies = (CLUSTER, LOCAL, false);
const BOTH_LOCAL: Policies = (LOCAL, LOCAL, true);

fn service_port((internal_policy, external_policy, exposed): Policies) -> ServicePort {
    ServicePort {
        cluster_ip: "10.96.0.1".parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
        node_port: exposed.then_some(30080),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        health_check_node_port: None,
        affinity_seconds: None,
        internal_policy,
        external_policy,
        externally_accessible: exposed,
    }
}

fn endpoint(text: &str) -> Endpoint {
    let (words, hints) = text.split_once('{').unwrap_or((text, "}"));
    let words: Vec<&str> = words.split_whitespace().collect();
    let hinted = |level: &str| {
        let hints = hints.trim_end_matches('}').split(',');
        hints.filter_map(|hint| hint.strip_prefix(level)?.strip_prefix(' ')).map(Name::from).collect()
    };
    let (ready, serving, terminating) = match words[1] {
        "R" => (true, true, false),
        "T" => (false, true, true),
        "N" => (false, false, false),
        state => panic!("no such state: {state}"),
    };
    let is_local = words.contains(&"L");
    Endpoint {
        address: [10, 1, 0, words[0].as_bytes()[0] - b'A'].into(),
        port: 80,
        conditions: Conditions { ready, serving, terminating },
        is_local,
        node: Some(if is_local { "n1" } else { "n2" }.into()),
        zone_hints: hinted("zone"),
        node_hints: hinted("node"),
    }
}

fn chosen(policies: Policies, endpoints: &str, zone: Option<&str>) -> PortForwarding {
    let endpoints = endpoints.split(", ").filter(|text| !text.is_empty()).map(endpoint).collect();
    choose(service_port(policies), endpoints, Place { node: "n1", zone })
}

fn letters<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> String {
    let letter = |endpoint: &Endpoint| match endpoint.address {
        std::net::IpAddr::V4(v4) => char::from(b'A' + v4.octets()[3]),
        std::net::IpAddr::V6(_) => '?',
    };
    endpoints.map(letter).collect()
}

/// Policies, endpoints, then the expected cluster, local and reachable lists and whether there is any endpoint.
type Vector = (Policies, &'static str, [&'static str; 3], bool);

const VECTORS: &[Vector] = &[
    (INTERNAL_CLUSTER, "A R, B R", ["AB", "", "AB"], true),
    (INTERNAL_CLUSTER, "A R {zone za}, B R {zone zb}", ["A", "", "A"], true),
    (INTERNAL_CLUSTER, "A R {zone za}, B R", ["AB", "", "AB"], true),
    (INTERNAL_CLUSTER, "A N {zone za}, B R {zone zb}", ["B", "", "B"], true),
    (INTERNAL_CLUSTER, "A R {node n1,zone za}, B R {node n2,zone za}", ["A", "", "A"], true),
    (INTERNAL_CLUSTER, "A R {node n2,zone za}, B R {node n3,zone zb}", ["A", "", "A"], true),
    (INTERNAL_CLUSTER, "A R {node n1}, B R {zone za}", ["AB", "", "AB"], true),
    (INTERNAL_CLUSTER, "A R {zone za,zone zb}, B R {zone zb}", ["A", "", "A"], true),
    (INTERNAL_CLUSTER, "A T, B N", ["A", "", "A"], true),
    (INTERNAL_CLUSTER, "A T {zone zb}, B T {zone za}", ["AB", "", "AB"], true),
    (INTERNAL_CLUSTER, "A R, B T", ["A", "", "A"], true),
    (INTERNAL_CLUSTER, "A N", ["", "", ""], false),
    (INTERNAL_CLUSTER, "", ["", "", ""], false),
    (INTERNAL_LOCAL, "A R", ["", "", ""], true),
    (INTERNAL_LOCAL, "A N", ["", "", ""], false),
    (INTERNAL_LOCAL, "A R L, B R", ["", "A", "A"], true),
    (INTERNAL_LOCAL, "A R L {zone zb}, B R L {zone za}", ["", "AB", "AB"], true),
    (NODE_PORT_LOCAL, "A T L, B R", ["B", "A", "AB"], true),
    (NODE_PORT_LOCAL, "A R L {zone zb}, B R {zone za}", ["B", "A", "AB"], true),
    (NODE_PORT_LOCAL, "A R, B R", ["AB", "", "AB"], true),
    (HIDDEN_LOCAL, "A R L, B R", ["AB", "", "AB"], true),
    (BOTH_LOCAL, "A T, B T", ["AB", "", "AB"], true),
];

#[test]
fn every_combination_of_policies_conditions_and_hints_gives_the_specified_lists() {
    for (policies, endpoints, [cluster, local, reachable], has_any) in VECTORS {
        let port = chosen(*policies, endpoints, Some("za"));
        let lists = [
            letters(port.cluster_endpoints()),
            letters(port.local_endpoints()),
            letters(port.reachable_endpoints()),
        ];
        assert_eq!(lists, [*cluster, *local, *reachable], "{endpoints:?} under {policies:?}");
        assert_eq!(port.has_any_endpoint, *has_any, "{endpoints:?} under {policies:?}");
    }
}

#[test]
fn a_node_without_a_zone_ignores_zone_hints() {
    let port = chosen(INTERNAL_CLUSTER, "A R {zone za}, B R {zone zb}", None);
    assert_eq!((letters(port.cluster_endpoints()), port.topology), ("AB".to_owned(), Topology::None));
}

#[test]
fn hints_of_the_node_come_before_hints_of_the_zone() {
    let topology = |endpoints| chosen(INTERNAL_CLUSTER, endpoints, Some("za")).topology;
    assert_eq!(topology("A R {node n1,zone zb}, B R {node n2,zone za}"), Topology::SameNode);
    assert_eq!(topology("A R {node n3,zone zb}, B R {node n2,zone za}"), Topology::SameZone);
    assert_eq!(topology("A R {node n3,zone zb}, B R {node n2,zone zc}"), Topology::None);
}

#[test]
fn a_local_policy_without_local_endpoints_drops_and_nothing_at_all_rejects() {
    let verdicts = |policies, endpoints| {
        let port = chosen(policies, endpoints, None);
        (port.internal_verdict(), port.external_verdict())
    };
    assert_eq!(verdicts(INTERNAL_LOCAL, "A R"), (Verdict::Drop, Verdict::Forward));
    assert_eq!(verdicts(NODE_PORT_LOCAL, "A R"), (Verdict::Forward, Verdict::Drop));
    assert_eq!(verdicts(BOTH_LOCAL, "A T, B T"), (Verdict::Drop, Verdict::Drop));
    assert_eq!(verdicts(BOTH_LOCAL, "A N, B N"), (Verdict::Reject, Verdict::Reject));
    assert_eq!(verdicts(BOTH_LOCAL, "A T L"), (Verdict::Forward, Verdict::Forward));
}

#[test]
fn each_endpoint_can_say_why_it_is_in_or_out() {
    let explain = |policies, endpoints| {
        let port = chosen(policies, endpoints, Some("za"));
        (0..port.endpoints.len()).map(|index| port.explain(index)).collect::<Vec<_>>()
    };
    use EndpointUse::*;
    assert_eq!(explain(INTERNAL_CLUSTER, "A R, B T, C N"), [Ready, Terminating, NotReady]);
    assert_eq!(explain(INTERNAL_CLUSTER, "A T, B N"), [LastResort, NotReady]);
    assert_eq!(explain(INTERNAL_CLUSTER, "A R {zone za}, B R {zone zb}"), [Ready, OtherZone]);
    assert_eq!(explain(INTERNAL_CLUSTER, "A R {node n1}, B R {node n2}"), [Ready, OtherNode]);
    assert_eq!(explain(INTERNAL_LOCAL, "A R L, B R, C T L, D T"), [Ready, NotLocal, Terminating, NotLocal]);
    assert_eq!(explain(NODE_PORT_LOCAL, "A T L, B R"), [LocalLastResort, Ready]);
    assert_eq!(explain(NODE_PORT_LOCAL, "A R L {zone zb}, B R {zone za}"), [LocalOnly, Ready]);
}

#[test]
fn an_endpoint_is_said_to_be_used_exactly_when_it_is_reachable() {
    for (policies, endpoints, ..) in VECTORS {
        let port = chosen(*policies, endpoints, Some("za"));
        for index in 0..port.endpoints.len() {
            let used = port.explain(index).is_used();
            assert_eq!(used, port.reachable.contains(&(index as u32)), "{index} of {endpoints:?}");
        }
    }
}
