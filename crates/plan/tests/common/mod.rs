//! Settings and small clusters for the tests of this crate.
#![allow(dead_code, clippy::unwrap_used)] // each test binary uses its own part

use switchyard_model::{Forwarding, IpFamily, testing};
use switchyard_plan::iptables::{Ruleset, Settings, check};
use switchyard_plan::node::{DetectLocal, NodePortAddresses};

/// kube-proxy's defaults on node-1 of the recorded scene.
pub(crate) fn settings(family: IpFamily) -> Settings {
    let (node_ip, pods) = match family {
        IpFamily::V4 => ("192.168.56.11", "10.244.0.0/16"),
        IpFamily::V6 => ("fd00:56::11", "fd00:10:244::/56"),
    };
    Settings {
        family,
        masquerade_mark: 1 << 14,
        masquerade_all: false,
        localhost_node_ports: true,
        detect_local: DetectLocal::Source(pods.parse().unwrap()),
        node_ip: node_ip.parse().unwrap(),
        node_port_addresses: NodePortAddresses::MatchAll,
        random_fully: true,
        drop_invalid: true,
        count_invalid: true,
        count_localhost_node_ports: true,
    }
}

pub(crate) fn forwarding(yaml: &str, family: IpFamily) -> Forwarding {
    testing::forwarding_from_yaml(yaml, "node-1", "z1", family)
}

/// The ruleset of a cluster, after a look at what must hold for any.
pub(crate) fn ruleset(settings: &Settings, forwarding: &Forwarding) -> Ruleset {
    let ruleset = Ruleset::new(settings, forwarding);
    let violations: Vec<String> = check::check(&ruleset).iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{violations:#?}");
    ruleset
}

/// An endpoint of a slice: `ready`, `serving` (but terminating) or `gone` (terminating and not serving).
pub(crate) fn endpoint(address: &str, node: &str, condition: &str) -> String {
    let (ready, serving, terminating) = match condition {
        "ready" => (true, true, false),
        "serving" => (false, true, true),
        _ => (false, false, true),
    };
    format!(
        "- addresses: ['{address}']\n  nodeName: {node}\n  \
         conditions: {{ready: {ready}, serving: {serving}, terminating: {terminating}}}\n"
    )
}

/// A Service with one port named p and its slice. `spec` and `status` are lines of YAML, endpoints from [`endpoint`].
pub(crate) fn service(name: &str, spec: &str, status: &str, endpoints: &[String]) -> String {
    let indent = |text: &str| text.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let (spec, status) = (indent(spec), indent(status));
    let status = if status.is_empty() { String::new() } else { format!("status:\n{status}") };
    let endpoints = if endpoints.is_empty() {
        "endpoints: []\n".into()
    } else {
        format!("endpoints:\n{}", endpoints.concat())
    };
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n{spec}{status}---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-1\n  namespace: default\n  \
         labels: {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\nports: [{{name: p, port: 8080, protocol: TCP}}]\n\
         {endpoints}---\n"
    )
}
