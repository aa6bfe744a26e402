use super::*;
use crate::testing::{forwarding_from_yaml, table_from_yaml};
use crate::{PortChange, Protocol, WithoutLocalEndpoints};

const V4: IpFamily = IpFamily::V4;
const V6: IpFamily = IpFamily::V6;

fn table() -> ServiceTable {
    ServiceTable::new(TableOptions { node_name: "n1".into(), allow_external_ips: true })
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn service(name: &str, cluster_ip: &str) -> Service {
    serde_json::from_value(serde_json::json!({
        "metadata": {"namespace": "default", "name": name},
        "spec": {"clusterIP": cluster_ip, "ports": [{"port": 80}]},
    }))
    .unwrap()
}

/// A slice of `service` with port 80 and endpoints on this node.
fn slice(name: &str, service: &str, addresses: &[&str]) -> EndpointSlice {
    let entry = |address: &&str| serde_json::json!({"addresses": [address], "nodeName": "n1"});
    serde_json::from_value(serde_json::json!({
        "metadata": {
            "namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 80}],
        "endpoints": addresses.iter().map(entry).collect::<Vec<_>>(),
    }))
    .unwrap()
}

/// The endpoints of each service port, as text.
fn lines(forwarding: &Forwarding) -> Vec<String> {
    let line = |(name, port): (&crate::ServicePortName, &std::sync::Arc<crate::PortForwarding>)| {
        let endpoints: Vec<String> = port.endpoints.iter().map(ToString::to_string).collect();
        format!("{name} {} -> {}", port.service_port, endpoints.join(" "))
    };
    forwarding.ports.iter().map(line).collect()
}

fn names(commit: &Commit) -> Vec<String> {
    commit.changed.iter().map(ToString::to_string).collect()
}

#[test]
fn a_commit_tells_what_changed_since_the_last_one_and_nothing_else() {
    let mut table = table();
    table.set_service(&service("a", "10.96.0.1"));
    table.set_service(&service("b", "10.96.0.2"));
    table.set_slice(&slice("a-1", "a", &["10.0.0.1"]));
    let first = table.commit(V4);
    assert_eq!(names(&first), ["default/a", "default/b"]);
    assert_eq!(
        lines(&first.forwarding),
        ["default/a 10.96.0.1:80/TCP -> 10.0.0.1:80", "default/b 10.96.0.2:80/TCP -> "]
    );

    table.set_slice(&slice("a-2", "a", &["10.0.0.2"]));
    let second = table.commit(V4);
    assert_eq!(names(&second), ["default/a"]);
    assert_eq!(second.endpoint_changes.len(), 1);
    assert_eq!(second.port_changes, []);

    table.remove_service(&key("b"));
    let third = table.commit(V4);
    assert_eq!(names(&third), ["default/b"]);
    assert!(matches!(&third.port_changes[..], [PortChange::Removed(name, _)] if name.service == key("b")));

    assert!(table.commit(V4).changed.is_empty());
}

#[test]
fn endpoints_may_come_before_their_service() {
    let mut table = table();
    table.set_slice(&slice("a-1", "a", &["10.0.0.1"]));
    assert!(table.commit(V4).changed.is_empty());
    table.set_service(&service("a", "10.96.0.1"));
    assert_eq!(lines(&table.commit(V4).forwarding), ["default/a 10.96.0.1:80/TCP -> 10.0.0.1:80"]);
}

#[test]
fn each_family_is_committed_on_its_own() {
    let mut table = table();
    table.set_service(&service("a", "10.96.0.1"));
    table.set_service(&service("b", "fd00::1"));
    assert_eq!(names(&table.commit(V6)), ["default/b"]);
    assert_eq!((table.pending_services(V4), table.pending_services(V6)), (1, 0));
    assert_eq!(names(&table.commit(V4)), ["default/a"]);
}

#[test]
fn a_service_changed_and_changed_back_leaves_nothing_pending() {
    let mut table = table();
    table.set_service(&service("a", "10.96.0.1"));
    table.commit(V4);
    assert!(table.set_service(&service("a", "10.96.0.9")).sync.contains(&V4));
    assert_eq!(table.pending_services(V4), 1);
    let noticed = table.set_service(&service("a", "10.96.0.1"));
    assert!(!noticed.sync.contains(&V4));
    assert_eq!(table.pending_services(V4), 0);
    let commit = table.commit(V4);
    assert!(commit.changed.is_empty() && commit.port_changes.is_empty());
}

#[test]
fn a_service_asks_for_a_sync_while_any_other_is_pending() {
    let mut table = table();
    table.set_service(&service("a", "10.96.0.1"));
    let unchanged = table.set_service(&service("headless", "None"));
    assert_eq!(unchanged.sync, [V4].into());
    assert_eq!(unchanged.concerned, [V4, V6].into());
}

#[test]
fn a_slice_asks_for_a_sync_only_if_it_changed() {
    let mut table = table();
    assert_eq!(table.set_slice(&slice("a-1", "a", &["10.0.0.1"])).sync, [V4].into());
    let again = table.set_slice(&slice("a-1", "a", &["10.0.0.1"]));
    assert_eq!((again.sync, again.concerned), ([].into(), [V4].into()));
    assert_eq!(table.pending_endpoints(V4), 1);
    assert_eq!(table.remove_slice(&key("a-1")).sync, [V4].into());
    assert_eq!(table.remove_slice(&key("a-1")), Noticed::default());
    assert_eq!(table.pending_endpoints(V4), 2);
    table.commit(V4);
    assert_eq!(table.pending_endpoints(V4), 0);
}

#[test]
fn a_slice_that_moves_to_another_service_leaves_the_old_one() {
    let mut table = table();
    table.set_service(&service("a", "10.96.0.1"));
    table.set_service(&service("b", "10.96.0.2"));
    table.set_slice(&slice("x", "a", &["10.0.0.1"]));
    table.commit(V4);
    table.set_slice(&slice("x", "b", &["10.0.0.1"]));
    let commit = table.commit(V4);
    assert_eq!(names(&commit), ["default/a", "default/b"]);
    assert_eq!(
        lines(&commit.forwarding),
        ["default/a 10.96.0.1:80/TCP -> ", "default/b 10.96.0.2:80/TCP -> 10.0.0.1:80"]
    );
}

#[test]
fn a_slice_that_becomes_headless_or_orphaned_is_gone() {
    for (label, value) in [(label::HEADLESS, ""), (label::SERVICE_NAME, "")] {
        let mut table = table();
        table.set_service(&service("a", "10.96.0.1"));
        table.set_slice(&slice("x", "a", &["10.0.0.1"]));
        table.commit(V4);
        let mut changed = slice("x", "a", &["10.0.0.1"]);
        changed.metadata.labels.insert(label, value.into());
        assert_eq!(table.set_slice(&changed).sync, [V4].into(), "{label}");
        assert_eq!(lines(&table.commit(V4).forwarding), ["default/a 10.96.0.1:80/TCP -> "], "{label}");
    }
}

#[test]
fn a_service_that_becomes_malformed_is_taken_out_and_told_once() {
    let mut table = table();
    table.set_service(&service("a", "10.96.0.1"));
    table.commit(V4);
    let noticed = table.set_service(&service("a", "10.96.0"));
    assert_eq!(noticed.problems.len(), 1);
    assert_eq!(noticed.problems[0].object(), ("Service", &key("a")));
    assert!(table.commit(V4).forwarding.ports.is_empty());
}

#[test]
fn two_services_may_claim_one_address() {
    let mut table = table();
    table.set_service(&service("b", "10.96.0.1"));
    table.set_service(&service("a", "10.96.0.1"));
    assert_eq!(
        lines(&table.commit(V4).forwarding),
        ["default/a 10.96.0.1:80/TCP -> ", "default/b 10.96.0.1:80/TCP -> "]
    );
}

#[test]
fn a_new_zone_changes_the_ports_whose_hints_it_decides() {
    let mut hinted = slice("a-1", "a", &["10.0.0.1", "10.0.0.2"]);
    for (endpoint, zone) in hinted.endpoints.iter_mut().zip(["za", "zb"]) {
        let hints = switchyard_api::Hints { for_zones: vec![zone.into()], for_nodes: Vec::new() };
        endpoint.hints = Some(Box::new(hints));
    }
    let mut table = table();
    table.set_service(&service("a", "10.96.0.1"));
    table.set_service(&service("b", "10.96.0.2"));
    table.set_slice(&hinted);
    table.set_slice(&slice("b-1", "b", &["10.0.0.3"]));
    table.commit(V4);

    assert_eq!(table.set_zone(Some("zb".into())).sync, [V4, V6].into());
    let commit = table.commit(V4);
    assert!(commit.topology_changed);
    assert_eq!(names(&commit), ["default/a"]);
    let port = commit.forwarding.ports.values().next().unwrap();
    assert_eq!(port.cluster_endpoints().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.2:80"]);

    assert!(table.set_zone(Some("zb".into())).sync.is_empty());
    assert!(!table.commit(V4).topology_changed);
}

#[test]
fn flows_need_a_look_only_where_endpoints_of_a_udp_port_change() {
    let mut udp = slice("dns-1", "dns", &["10.0.0.1"]);
    udp.ports[0].protocol = Protocol::Udp;
    let mut table = table();
    table.set_slice(&slice("a-1", "a", &["10.0.0.1"]));
    assert!(!table.commit(V4).udp_endpoints_changed);
    table.set_slice(&udp);
    assert!(table.commit(V4).udp_endpoints_changed);
    table.remove_slice(&key("dns-1"));
    assert!(table.commit(V4).udp_endpoints_changed);
    assert!(!table.commit(V4).udp_endpoints_changed);
}

#[test]
fn trigger_times_are_kept_until_the_commit_and_dropped_with_a_removal() {
    let triggered = |name: &str, addresses: &[&str], time: &str| {
        let mut slice = slice(name, "a", addresses);
        slice.metadata.annotations.insert(label::TRIGGER_TIME, time.into());
        slice
    };
    let mut table = table();
    table.set_slice(&triggered("x", &["10.0.0.1"], "2026-01-01T00:00:00Z"));
    table.set_slice(&triggered("x", &["10.0.0.2"], "2026-01-01T00:00:01.5Z"));
    table.set_slice(&triggered("x", &["10.0.0.2"], "2026-01-01T00:00:02Z"));
    let times: Vec<String> = table.commit(V4).trigger_times.iter().map(|(_, at)| at.to_string()).collect();
    assert_eq!(times, ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01.5Z"]);
    assert!(table.commit(V4).trigger_times.is_empty());

    table.set_slice(&triggered("x", &["10.0.0.3"], "2026-01-01T00:00:03Z"));
    table.remove_slice(&key("x"));
    assert!(table.commit(V4).trigger_times.is_empty());

    let noticed = table.set_slice(&triggered("x", &["10.0.0.4"], "yesterday"));
    assert!(noticed.problems[0].to_string().contains("yesterday"));
    assert_eq!(table.commit(V4).endpoint_changes.len(), 1);
}

#[test]
fn a_family_that_nobody_commits_does_not_gather_trigger_times_for_ever() {
    let mut table = table();
    let mut changing = slice("x", "a", &["10.0.0.1"]);
    changing.metadata.annotations.insert(label::TRIGGER_TIME, "2026-01-01T00:00:00Z".into());
    for port in 1..=5_000 {
        changing.ports[0].port = port;
        table.set_slice(&changing);
    }
    assert!(table.commit(V4).trigger_times.len() < 1_000);
}

const LOAD_BALANCER: &str = r#"
kind: Service
metadata: {name: lb}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  externalTrafficPolicy: Local
  healthCheckNodePort: 31000
  ports: [{name: http, port: 80, nodePort: 30080}, {name: https, port: 443, nodePort: 30443}]
---
kind: EndpointSlice
metadata: {name: lb-1, labels: {kubernetes.io/service-name: lb}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: https, port: 8443}]
endpoints:
- {addresses: [10.0.0.1], nodeName: n1}
- {addresses: [10.0.0.2], nodeName: n1}
- {addresses: [10.0.0.3], nodeName: n1, conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.4], nodeName: n2}
"#;

#[test]
fn health_checks_count_the_ready_pods_of_this_node_once_however_many_ports_they_have() {
    let forwarding = forwarding_from_yaml(LOAD_BALANCER, "n1", "", V4);
    assert_eq!(forwarding.health_check_ports(), [(key("lb"), 31000)].into());
    assert_eq!(forwarding.local_ready_endpoint_counts(), [(key("lb"), 2)].into());
    assert_eq!((forwarding.ports.len(), forwarding.endpoint_count()), (2, 8));
    let elsewhere = forwarding_from_yaml(LOAD_BALANCER, "n3", "", V4);
    assert_eq!(elsewhere.local_ready_endpoint_counts(), [].into());
    assert_eq!(elsewhere.health_check_ports(), [(key("lb"), 31000)].into());
}

#[test]
fn ports_without_a_local_endpoint_are_counted_by_the_policy_that_wants_one() {
    let counts = |yaml: &str, node| forwarding_from_yaml(yaml, node, "", V4).ports_without_local_endpoints();
    assert_eq!(counts(LOAD_BALANCER, "n1"), WithoutLocalEndpoints { internal: 0, external: 0 });
    assert_eq!(counts(LOAD_BALANCER, "n3"), WithoutLocalEndpoints { internal: 0, external: 2 });
    let both = LOAD_BALANCER.replace("healthCheck", "internalTrafficPolicy: Local\n  healthCheck");
    assert_eq!(counts(&both, "n3"), WithoutLocalEndpoints { internal: 2, external: 2 });
    // Without any endpoint the traffic is rejected, which is no matter of the policy.
    let none = both.replace("kind: EndpointSlice", "kind: ConfigMap");
    assert_eq!(counts(&none, "n3"), WithoutLocalEndpoints { internal: 0, external: 0 });
}

#[test]
fn a_table_can_be_asked_for_its_last_commit() {
    let mut table = table_from_yaml(LOAD_BALANCER, "n1", "");
    assert!(table.forwarding(V4).ports.is_empty());
    let commit = table.commit(V4);
    assert_eq!(table.forwarding(V4), &commit.forwarding);
}
