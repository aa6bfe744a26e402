//! From the pods of a Service to its endpoints, by address family and set of ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::controllers::pods;

pub(super) const ZONE: &str = "topology.kubernetes.io/zone";

/// `IPv4` or `IPv6`, as in `addressType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// Endpoints whose pods have the same ports: what one slice can hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// What follows from the pods, and whether one of them names a node that is not known yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Endpoints {
    pub(super) groups: Vec<Group>,
    pub(super) node_is_missing: bool,
}

/// The families a Service has endpoints of.
pub(super) fn families(service: &Service) -> Vec<Family> {
    let spec = service.spec.clone().unwrap_or_default();
    let named: Vec<Family> = spec
        .ip_families
        .unwrap_or_default()
        .iter()
        .filter_map(|family| match family.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    // Written before Services had families: their address tells, and one without an address has both.
    match spec.cluster_ip.as_deref().and_then(|address| address.parse().ok()) {
        Some(address) => vec![Family::of(address)],
        None => vec![Family::V4, Family::V6],
    }
}

/// Pods that are done or have no address are left out.
pub(super) fn endpoints<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    node: impl Fn(&str) -> Option<std::sync::Arc<Node>>,
    family: Family,
) -> Endpoints {
    let publishes_all =
        service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or_default();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut node_is_missing = false;
    for pod in pods {
        let addresses = pods::addresses(pod);
        if addresses.is_empty() || pods::is_done(pod) {
            continue;
        }
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).and_then(&node);
        if node.is_none() && !publishes_all {
            node_is_missing = true;
            continue;
        }
        let ports = ports(service, pod);
        let group = groups
            .entry(port_key(&ports))
            .or_insert_with(|| Group { ports: ports.clone(), endpoints: Vec::new() });
        let addresses: Vec<String> = addresses
            .into_iter()
            .filter(|address| Family::of(*address) == family)
            .map(|address| address.to_string())
            .collect();
        if !addresses.is_empty() {
            group.endpoints.push(endpoint(service, pod, node.as_deref(), addresses, publishes_all));
        }
    }
    Endpoints { groups: groups.into_values().collect(), node_is_missing }
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    node: Option<&Node>,
    addresses: Vec<String>,
    publishes_all: bool,
) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let spec = pod.spec.clone().unwrap_or_default();
    let zone = node.and_then(|node| node.labels().get(ZONE)).filter(|zone| !zone.is_empty());
    // Only pods that say so have a name of their own below the Service's.
    let has_name = spec.subdomain.as_deref() == Some(&service.name_any());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publishes_all || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec.hostname.filter(|name| has_name && !name.is_empty()),
        node_name: spec.node_name.filter(|name| !name.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone: zone.cloned(),
        ..Endpoint::default()
    }
}

/// The ports of a Service as a pod has them. A named port that the pod lacks is left out.
pub(in crate::controllers) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let of_service = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    of_service
        .iter()
        .filter_map(|port| {
            let number = match &port.target_port {
                Some(IntOrString::Int(number)) if *number != 0 => *number,
                Some(IntOrString::String(name)) if !name.is_empty() => named_port(pod, name, protocol(port))?,
                _ => port.port,
            };
            Some(EndpointPort {
                app_protocol: port.app_protocol.clone(),
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number),
                protocol: Some(protocol(port).to_owned()),
            })
        })
        .collect()
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// Looked for in the containers, then in those init containers that stay.
fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(stays);
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let mut matching = ports.filter(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    });
    matching.next().map(|port| port.container_port)
}

/// Equal for equal sets of ports, in whatever order.
pub(in crate::controllers) fn port_key(ports: &[EndpointPort]) -> String {
    let mut texts: Vec<String> = ports.iter().map(|port| format!("{port:?}")).collect();
    texts.sort();
    texts.join(";")
}
