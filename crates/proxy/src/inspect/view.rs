//! The Forwarding as plain data, for people and for `jq`.

use serde::Serialize;
use switchyard_model::{
    Endpoint, Forwarding, IpFamily, PortForwarding, ServicePortName, TrafficPolicy, Verdict,
};

/// One service port in one address family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePortView {
    /// `namespace/name` or `namespace/name:port`, as rule comments have it.
    pub name: String,
    pub protocol: &'static str,
    pub family: IpFamily,
    pub addresses: Vec<AddressView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<u32>,
    /// The topology hint in force: empty, `PreferSameZone` or `PreferSameNode`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub topology: String,
    /// Who may use the load balancer addresses; empty means everybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_ranges: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<u16>,
    /// All that are known, whether they get traffic or not.
    pub endpoints: Vec<EndpointView>,
}

/// One virtual address of a service port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressView {
    pub kind: AddressKind,
    /// `IP:port`; for a node port `*:port`.
    pub address: String,
    pub policy: TrafficPolicy,
    /// What happens to a new connection from outside this node: `forward`, `reject` or `drop`.
    pub verdict: &'static str,
    /// `IP:port` of the endpoints that it can reach.
    pub endpoints: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum AddressKind {
    ClusterIP,
    ExternalIP,
    LoadBalancer,
    NodePort,
}

impl AddressKind {
    pub fn as_str(self) -> &'static str {
        match self {
            AddressKind::ClusterIP => "ClusterIP",
            AddressKind::ExternalIP => "ExternalIP",
            AddressKind::LoadBalancer => "LoadBalancer",
            AddressKind::NodePort => "NodePort",
        }
    }
}

/// One endpoint, and whether it gets traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    pub address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub used: bool,
    /// Why it is in or out, in a few words.
    pub why: String,
}

/// All service ports of a family, by name.
pub fn view(forwarding: &Forwarding) -> Vec<ServicePortView> {
    forwarding.ports.iter().map(|(name, port)| view_port(forwarding.family, name, port)).collect()
}

fn view_port(family: IpFamily, name: &ServicePortName, port: &PortForwarding) -> ServicePortView {
    let service_port = &port.service_port;
    ServicePortView {
        name: name.to_string(),
        protocol: service_port.protocol.as_str(),
        family,
        addresses: view_addresses(port),
        affinity_seconds: service_port.affinity_seconds,
        topology: port.topology.to_string(),
        source_ranges: service_port.source_ranges.iter().map(ToString::to_string).collect(),
        health_check_node_port: service_port.health_check_node_port,
        endpoints: port
            .endpoints
            .iter()
            .enumerate()
            .map(|(index, e)| view_endpoint(port, index, e))
            .collect(),
    }
}

fn view_addresses(port: &PortForwarding) -> Vec<AddressView> {
    let service_port = &port.service_port;
    let join = |ip| switchyard_api::address::join_host_port(ip, service_port.port);
    let external = |kind, address| {
        address_view(port, kind, address, service_port.external_policy, port.external_verdict())
    };
    let cluster_ip = address_view(
        port,
        AddressKind::ClusterIP,
        join(service_port.cluster_ip),
        service_port.internal_policy,
        port.internal_verdict(),
    );
    let external_ips =
        service_port.external_ips.iter().map(|ip| external(AddressKind::ExternalIP, join(*ip)));
    let load_balancer_ips = service_port.load_balancer_ips.iter();
    let load_balancer_ips = load_balancer_ips.map(|ip| external(AddressKind::LoadBalancer, join(*ip)));
    let node_port =
        service_port.node_port.map(|number| external(AddressKind::NodePort, format!("*:{number}")));
    std::iter::once(cluster_ip).chain(external_ips).chain(load_balancer_ips).chain(node_port).collect()
}

fn address_view(
    port: &PortForwarding,
    kind: AddressKind,
    address: String,
    policy: TrafficPolicy,
    verdict: Verdict,
) -> AddressView {
    let endpoints = match policy {
        TrafficPolicy::Cluster => port.cluster_endpoints().map(Endpoint::to_string).collect(),
        TrafficPolicy::Local => port.local_endpoints().map(Endpoint::to_string).collect(),
    };
    let verdict = match verdict {
        Verdict::Forward => "forward",
        Verdict::Reject => "reject",
        Verdict::Drop => "drop",
    };
    AddressView { kind, address, policy, verdict, endpoints }
}

fn view_endpoint(port: &PortForwarding, index: usize, endpoint: &Endpoint) -> EndpointView {
    EndpointView {
        address: endpoint.to_string(),
        node: endpoint.node.as_deref().map(str::to_owned),
        used: port.reachable.contains(&(index as u32)),
        why: port.explain(index).to_string(),
    }
}
