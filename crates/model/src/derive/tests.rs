use serde_json::{Value, json};

use super::*;
use crate::Protocol;

/// A Service `default/web` with port 80, `changes` put over its spec.
fn service(changes: Value) -> Service {
    let mut spec = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
    for (field, value) in changes.as_object().unwrap() {
        spec[field] = value.clone();
    }
    object(json!({"metadata": {"namespace": "default", "name": "web"}, "spec": spec}))
}

fn object(value: Value) -> Service {
    serde_json::from_value(value).unwrap()
}

fn load_balancer(changes: Value, ingress: Value) -> Service {
    let mut service = service(changes);
    service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": ingress}})).unwrap();
    service
}

/// The ports in IPv4, and the problems as text.
fn v4(service: &Service) -> (Vec<ServicePort>, Vec<String>) {
    let (ports, problems) = service_ports(service, IpFamily::V4, true);
    (ports.into_values().collect(), problems.iter().map(ToString::to_string).collect())
}

/// The only port in `family` of a Service without problems.
fn only(service: &Service, family: IpFamily) -> ServicePort {
    let (ports, problems) = service_ports(service, family, true);
    assert_eq!((ports.len(), problems), (1, Vec::new()));
    ports.into_values().next().unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn services_that_need_no_proxy_have_no_ports() {
    for changes in [
        json!({"clusterIP": "None"}),
        json!({"clusterIP": ""}),
        json!({"type": "ExternalName"}),
        json!({"ports": []}),
        json!({"ports": null}),
    ] {
        assert_eq!(v4(&service(changes.clone())), (vec![], vec![]), "{changes}");
    }
}

#[test]
fn a_service_of_another_proxy_is_left_alone() {
    let mut service = service(json!({}));
    service.metadata.labels.insert(label::SERVICE_PROXY_NAME, "".into());
    assert_eq!(v4(&service), (vec![], vec![]));
}

#[test]
fn each_family_takes_its_own_addresses() {
    let dual = load_balancer(
        json!({
            "type": "LoadBalancer",
            "clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.96.0.1"], "ipFamilies": ["IPv6", "IPv4"],
            "externalIPs": ["192.0.2.1", "2001:db8::1", "192.0.2.2"],
            "loadBalancerSourceRanges": ["198.51.100.0/24", "2001:db8:1::/48"],
        }),
        json!([{"ip": "203.0.113.1"}, {"ip": "2001:db8::2"}, {"hostname": "lb.example"}]),
    );
    let four = only(&dual, IpFamily::V4);
    assert_eq!(four.to_string(), "10.96.0.1:80/TCP");
    assert_eq!(four.external_ips, ips(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(four.load_balancer_ips, ips(&["203.0.113.1"]));
    assert_eq!(four.source_ranges, ["198.51.100.0/24".parse::<IpNet>().unwrap()]);
    let six = only(&dual, IpFamily::V6);
    assert_eq!(six.to_string(), "fd00::1:80/TCP");
    assert_eq!(six.external_ips, ips(&["2001:db8::1"]));
    assert_eq!(six.load_balancer_ips, ips(&["2001:db8::2"]));
    assert_eq!(six.source_ranges, ["2001:db8:1::/48".parse::<IpNet>().unwrap()]);
}

#[test]
fn a_single_stack_service_is_unknown_to_the_other_family() {
    for changes in [json!({}), json!({"ipFamilies": ["IPv4"], "clusterIPs": ["10.96.0.1"]})] {
        let service = service(changes);
        only(&service, IpFamily::V4);
        assert!(service_ports(&service, IpFamily::V6, true).0.is_empty());
    }
}

#[test]
fn a_broken_cluster_ip_takes_the_service_out_and_is_told() {
    let (ports, problems) = v4(&service(json!({"clusterIP": "10.96.0.300"})));
    assert!(ports.is_empty());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("10.96.0.300"), "{problems:?}");
}

#[test]
fn a_broken_address_is_left_out_and_told_while_the_others_serve() {
    let broken = load_balancer(
        json!({"externalIPs": ["nonsense", " ", "192.0.2.1"], "loadBalancerSourceRanges": ["10.0.0.0/99", " 10.1.0.0/16 ", ""]}),
        json!([{"ip": "x.y"}, {"ip": ""}, {"ip": "203.0.113.1"}]),
    );
    let (ports, problems) = v4(&broken);
    assert_eq!(ports[0].external_ips, ips(&["192.0.2.1"]));
    assert_eq!(ports[0].load_balancer_ips, ips(&["203.0.113.1"]));
    assert_eq!(ports[0].source_ranges, ["10.1.0.0/16".parse::<IpNet>().unwrap()]);
    assert_eq!(problems.len(), 3, "{problems:?}");
    for (problem, told) in problems.iter().zip(["nonsense", "x.y", "10.0.0.0/99"]) {
        assert!(problem.contains(told), "{problem}");
    }
}

#[test]
fn one_range_of_everybody_opens_the_load_balancer() {
    let ranges = json!({"loadBalancerSourceRanges": ["10.0.0.0/8", "0.0.0.0/0"]});
    assert_eq!(only(&service(ranges), IpFamily::V4).source_ranges, []);
    let ranges = json!({"loadBalancerSourceRanges": ["10.0.0.0/8", "::/0"]});
    assert_eq!(only(&service(ranges), IpFamily::V4).source_ranges.len(), 1);
}

#[test]
fn addresses_that_the_load_balancer_rewrites_are_not_ours() {
    let ingress = json!([
        {"ip": "203.0.113.1", "ipMode": "VIP"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}, {"ip": "203.0.113.3"},
    ]);
    let port = only(&load_balancer(json!({"type": "LoadBalancer"}), ingress), IpFamily::V4);
    assert_eq!(port.load_balancer_ips, ips(&["203.0.113.1", "203.0.113.3"]));
}

#[test]
fn hidden_external_ips_still_make_a_service_externally_accessible() {
    let service = service(json!({"externalIPs": ["192.0.2.1"], "internalTrafficPolicy": "Local"}));
    let (ports, _) = service_ports(&service, IpFamily::V4, false);
    let port = ports.into_values().next().unwrap();
    assert_eq!(port.external_ips, ips(&[]));
    assert!(port.externally_accessible && port.uses_cluster_endpoints());
}

#[test]
fn an_external_policy_counts_only_for_types_that_can_be_reached_from_outside() {
    let policy = |mut changes: Value| {
        changes["externalTrafficPolicy"] = "Local".into();
        only(&service(changes), IpFamily::V4).external_policy
    };
    assert_eq!(policy(json!({})), TrafficPolicy::Cluster);
    assert_eq!(policy(json!({"externalIPs": ["192.0.2.1"]})), TrafficPolicy::Local);
    assert_eq!(policy(json!({"type": "NodePort"})), TrafficPolicy::Local);
    assert_eq!(policy(json!({"type": "LoadBalancer", "healthCheckNodePort": 31000})), TrafficPolicy::Local);
}

#[test]
fn health_checks_are_answered_for_load_balancers_with_a_local_policy() {
    let mut changes = json!({"type": "LoadBalancer", "healthCheckNodePort": 31000});
    assert_eq!(only(&service(changes.clone()), IpFamily::V4).health_check_node_port, None);
    changes["externalTrafficPolicy"] = "Local".into();
    assert_eq!(only(&service(changes.clone()), IpFamily::V4).health_check_node_port, Some(31000));
    changes["healthCheckNodePort"] = 0.into();
    let (ports, problems) = v4(&service(changes));
    assert_eq!((ports[0].health_check_node_port, problems.len()), (None, 1));
}

#[test]
fn client_ip_affinity_lasts_three_hours_unless_told_otherwise() {
    let seconds = |changes| only(&service(changes), IpFamily::V4).affinity_seconds;
    assert_eq!(seconds(json!({})), None);
    assert_eq!(seconds(json!({"sessionAffinity": "ClientIP"})), Some(10_800));
    let config = json!({"clientIP": {"timeoutSeconds": 30}});
    assert_eq!(seconds(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config})), Some(30));
    assert_eq!(seconds(json!({"sessionAffinityConfig": config})), None);
}

#[test]
fn ports_are_told_apart_by_name_and_protocol_and_the_last_of_equals_counts() {
    let service = service(json!({"ports": [
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns", "port": 53, "protocol": "TCP"},
        {"name": "web", "port": 80, "nodePort": 30080}, {"name": "web", "port": 81},
    ]}));
    let (ports, problems) = service_ports(&service, IpFamily::V4, true);
    let listed: Vec<_> = ports.iter().map(|(name, port)| (name.to_string(), port.to_string())).collect();
    let expected = [
        ("default/web:dns", "10.96.0.1:53/TCP"),
        ("default/web:dns", "10.96.0.1:53/UDP"),
        ("default/web:web", "10.96.0.1:81/TCP"),
    ];
    assert_eq!(listed, expected.map(|(name, port)| (name.to_owned(), port.to_owned())));
    assert_eq!(problems, []);
    assert!(ports.keys().any(|name| name.protocol == Protocol::Udp));
}
