//! Which UDP flows are forgotten, and which are left in peace.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on stops

mod common;

use switchyard_model::IpFamily;
use switchyard_plan::conntrack::StaleFlows;

const DNS: &str = "
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: kube-system}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  externalIPs: [192.0.2.53]
  ports: [{name: dns, port: 53, protocol: UDP, nodePort: 30053}, {name: web, port: 80, protocol: TCP, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: 198.51.100.53}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, port: 5353, protocol: UDP}, {name: web, port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.244.1.2], nodeName: node-1, conditions: {ready: true}}
- {addresses: [10.244.2.2], nodeName: node-2, conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.244.3.2], nodeName: node-3, conditions: {ready: false, serving: false, terminating: true}}
---
apiVersion: v1
kind: Service
metadata: {name: silent, namespace: default}
spec: {clusterIP: 10.96.0.11, ports: [{name: p, port: 53, protocol: UDP}]}
";

fn is_stale(destination: &str, reply: &str) -> bool {
    let flows = StaleFlows::new(&common::forwarding(DNS, IpFamily::V4));
    assert!(!flows.is_empty());
    flows.is_stale(destination.parse().unwrap(), reply.parse().unwrap())
}

#[test]
fn a_flow_to_an_endpoint_that_is_gone_is_stale_whatever_address_it_came_by() {
    for destination in
        ["10.96.0.10:53", "192.0.2.53:53", "198.51.100.53:53", "192.168.56.11:30053", "10.9.9.9:30053"]
    {
        assert!(is_stale(destination, "10.244.9.9:5353"), "{destination}");
        assert!(is_stale(destination, "10.244.3.2:5353"), "{destination}: it serves no more");
        assert!(!is_stale(destination, "10.244.1.2:5353"), "{destination}");
        assert!(!is_stale(destination, "10.244.2.2:5353"), "{destination}: it terminates, but serves");
    }
}

#[test]
fn a_flow_that_was_never_translated_is_stale_once_there_is_an_endpoint() {
    assert!(is_stale("10.96.0.10:53", "10.96.0.10:53"));
}

#[test]
fn flows_of_others_are_left_alone() {
    assert!(!is_stale("10.96.0.11:53", "10.244.9.9:53"), "a service without a serving endpoint");
    assert!(!is_stale("10.96.0.10:80", "10.244.9.9:8080"), "a TCP port");
    assert!(!is_stale("10.96.0.10:54", "10.244.9.9:5353"), "a port that is no service");
    assert!(!is_stale("8.8.8.8:53", "8.8.8.8:53"), "no service at all");
}

#[test]
fn nothing_can_be_stale_without_udp_services() {
    let tcp_only = DNS.replace("UDP", "TCP");
    assert!(StaleFlows::new(&common::forwarding(&tcp_only, IpFamily::V4)).is_empty());
}
