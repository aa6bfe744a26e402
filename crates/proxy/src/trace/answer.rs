//! What a node's plan does with a first packet, in terms that people use.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use switchyard_api::{IpFamily, Node, TrafficPolicy};
use switchyard_model::{Forwarding, PortForwarding, ServicePortName};
use switchyard_plan::iptables::trace::{Outcome, Packet, PacketVerdict, Surroundings};
use switchyard_plan::iptables::{ChainRef, Ruleset, Settings, Target};
use switchyard_plan::node::{DetectLocal, NodePortAddresses};

use super::cluster::{Cluster, pod_cidrs};
use super::question::{Place, Question};
use crate::inspect::AddressKind;

/// Everything that a question has for an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub from: String,
    pub source: IpAddr,
    pub destination: SocketAddr,
    pub protocol: String,
    /// The node that decides.
    pub node: String,
    pub mode: &'static str,
    /// The service port that has this virtual address; `None` if none has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceView>,
    /// What can become of the packet. The chances add up to 1.
    pub ways: Vec<Way>,
    /// Endpoints of the service that this packet cannot go to.
    pub unused: Vec<Unused>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// `namespace/name` or `namespace/name:port`.
    pub name: String,
    pub kind: AddressKind,
    pub policy: TrafficPolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<u32>,
}

/// One thing that can become of the packet.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    pub chance: f64,
    pub verdict: WayVerdict,
    /// Where it goes; `None` if it goes nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_pod: Option<String>,
    /// What the backend takes for the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// The rules that take it there, in their order, as the host's tools list them.
    pub rules: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum WayVerdict {
    /// The destination becomes a backend's.
    Forwarded,
    /// The rules leave it as it is.
    Untouched,
    Rejected,
    Dropped,
}

/// The source address at the backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    pub masqueraded: bool,
    /// `None` if this cannot be known from the cluster's objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    pub why: &'static str,
}

/// An endpoint that the packet cannot go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unused {
    pub backend: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub why: String,
}

/// What the deciding node does with the packet.
pub(super) fn answer(
    cluster: &Cluster,
    question: &Question,
    forwarding: &Forwarding,
    settings: &Settings,
) -> Answer {
    let node = cluster.node(&question.node);
    let local_addresses = node.map(Node::ips).unwrap_or_default();
    let found = find(forwarding, question, settings, &local_addresses);
    let ruleset = Ruleset::new(settings, forwarding);
    let packet = Packet {
        source: question.source,
        in_interface: interface(question, &settings.detect_local),
        destination: question.destination,
        protocol: question.protocol,
    };
    let surroundings = Surroundings { local_addresses, ..Surroundings::default() };
    let outcomes = switchyard_plan::iptables::trace::trace(&ruleset, &packet, &surroundings);
    let asked = Asked { cluster, question, node, family: settings.family };
    let mut ways: Vec<Way> =
        outcomes.iter().map(|outcome| asked.way(outcome, &ruleset, found.as_ref())).collect();
    ways.sort_by(|one, other| other.chance.total_cmp(&one.chance).then(one.backend.cmp(&other.backend)));
    let unused = found.as_ref().map(|found| unused(found.port, &ways)).unwrap_or_default();
    Answer {
        from: question.from.to_string(),
        source: question.source,
        destination: question.destination,
        protocol: question.protocol.to_string(),
        node: question.node.clone(),
        mode: "iptables",
        service: found.as_ref().map(Found::view),
        ways,
        unused,
    }
}

/// The interface of the deciding node that the packet comes in through, in a name that the rules know pods by.
fn interface(question: &Question, detect_local: &DetectLocal) -> Option<String> {
    let is_here = question.from.node() == Some(question.node.as_str());
    match (&question.from, detect_local) {
        (Place::Node { .. }, _) if is_here => None,
        (Place::Pod { .. } | Place::PodAddress { .. }, DetectLocal::Interface(pattern)) if is_here => {
            Some(pattern.trim_end_matches('+').to_owned())
        }
        _ => Some("uplink".to_owned()),
    }
}

/// The service port behind a virtual address.
struct Found<'a> {
    name: &'a ServicePortName,
    port: &'a PortForwarding,
    kind: AddressKind,
}

impl Found<'_> {
    fn view(&self) -> ServiceView {
        let port = &self.port.service_port;
        let policy = match self.kind {
            AddressKind::ClusterIP => port.internal_policy,
            _ => port.external_policy,
        };
        ServiceView {
            name: self.name.to_string(),
            kind: self.kind,
            policy,
            affinity_seconds: port.affinity_seconds,
        }
    }
}

fn find<'a>(
    forwarding: &'a Forwarding,
    question: &Question,
    settings: &Settings,
    local_addresses: &[IpAddr],
) -> Option<Found<'a>> {
    let (ip, number) = (question.destination.ip(), question.destination.port());
    let answers_node_ports = match &settings.node_port_addresses {
        NodePortAddresses::MatchAll => local_addresses.contains(&ip),
        NodePortAddresses::Addresses(addresses) => addresses.contains(&ip),
    } || (ip.is_loopback() && settings.serves_localhost());
    forwarding.ports.iter().find_map(|(name, port)| {
        let service_port = &port.service_port;
        if service_port.protocol != question.protocol {
            return None;
        }
        let is_port = service_port.port == number;
        let kind = if is_port && service_port.cluster_ip == ip {
            AddressKind::ClusterIP
        } else if is_port && service_port.external_ips.contains(&ip) {
            AddressKind::ExternalIP
        } else if is_port && service_port.load_balancer_ips.contains(&ip) {
            AddressKind::LoadBalancer
        } else if answers_node_ports && service_port.node_port == Some(number) {
            AddressKind::NodePort
        } else {
            return None;
        };
        Some(Found { name, port, kind })
    })
}

/// The question with what the answers are read by.
struct Asked<'a> {
    cluster: &'a Cluster,
    question: &'a Question,
    node: Option<&'a Node>,
    family: IpFamily,
}

impl Asked<'_> {
    fn way(&self, outcome: &Outcome, ruleset: &Ruleset, found: Option<&Found<'_>>) -> Way {
        let (verdict, backend, masqueraded) = match outcome.verdict {
            PacketVerdict::Passed { destination, translated: true, masqueraded } => {
                (WayVerdict::Forwarded, Some(destination), masqueraded)
            }
            PacketVerdict::Passed { destination, masqueraded, .. } => {
                (WayVerdict::Untouched, Some(destination), masqueraded)
            }
            PacketVerdict::Rejected => (WayVerdict::Rejected, None, false),
            PacketVerdict::Dropped => (WayVerdict::Dropped, None, false),
        };
        let backend_node = backend.and_then(|backend| self.node_of(backend, found));
        let seen =
            backend.map(|backend| self.seen(backend.ip(), backend_node.as_deref(), masqueraded, found));
        let pod = backend.and_then(|backend| self.cluster.pod_at(backend.ip()));
        Way {
            chance: outcome.probability,
            verdict,
            backend,
            backend_node,
            backend_pod: pod.map(|pod| format!("{}/{}", pod.namespace, pod.name)),
            seen,
            rules: rules(ruleset, &outcome.path),
        }
    }

    fn node_of(&self, backend: SocketAddr, found: Option<&Found<'_>>) -> Option<String> {
        let endpoints = found.map(|found| &found.port.endpoints[..]).unwrap_or_default();
        let endpoint = endpoints.iter().find(|own| own.address == backend.ip() && own.port == backend.port());
        if let Some(node) = endpoint.and_then(|endpoint| endpoint.node.as_ref()) {
            return Some(node.to_string());
        }
        let node = self.cluster.node_at(backend.ip()).or_else(|| self.cluster.node_of_pods_at(backend.ip()));
        node.map(|node| node.metadata.name.to_string())
    }

    fn seen(
        &self,
        backend: IpAddr,
        node: Option<&str>,
        masqueraded: bool,
        found: Option<&Found<'_>>,
    ) -> Seen {
        if !masqueraded {
            return Seen { masqueraded, address: Some(self.question.source), why: "its own" };
        }
        let is_external = found.is_some_and(|found| found.kind != AddressKind::ClusterIP);
        let why = match &self.question.from {
            _ if self.question.source == backend => "the backend itself must not see its own address",
            _ if is_external => "so that answers come back through this node",
            Place::Pod { .. } | Place::PodAddress { .. } => "everything to cluster IPs is masqueraded",
            _ => "it comes from outside the pods' range",
        };
        Seen { masqueraded, address: self.own_address_towards(node), why }
    }

    /// Masquerading takes the address of the interface that the packet leaves by.
    fn own_address_towards(&self, node: Option<&str>) -> Option<IpAddr> {
        let own = self.node?;
        if node == Some(self.question.node.as_str()) {
            // The bridge of the node's pods, which bridge plugins give the first address of the range.
            let range = pod_cidrs(own).into_iter().find(|range| IpFamily::of_net(range) == self.family)?;
            return range.hosts().find(|address| *address != range.network());
        }
        own.ips().into_iter().find(|address| IpFamily::of(*address) == self.family)
    }
}

/// The rules of a path that did something: without jumps into chains where no rule was for the packet.
fn rules(ruleset: &Ruleset, path: &[(ChainRef, usize)]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut next = None;
    for (place, index) in path.iter().rev() {
        let rule = ruleset.rules(place.table, place.chain).get(*index);
        if let Some(Target::Jump(chain)) = rule.map(|rule| rule.target)
            && next != Some(ChainRef { chain, ..*place })
        {
            continue;
        }
        next = Some(*place);
        let saved = ruleset.saved(*place);
        texts.push(format!("-t {} {}", place.table, saved.get(*index).map_or("", String::as_str)));
    }
    texts.reverse();
    texts
}

fn unused(port: &PortForwarding, ways: &[Way]) -> Vec<Unused> {
    let is_used = |endpoint: &str| {
        ways.iter().any(|way| way.backend.is_some_and(|backend| backend.to_string() == endpoint))
    };
    let endpoints = port.endpoints.iter().enumerate();
    let unused = endpoints.filter(|(_, endpoint)| !is_used(&endpoint.to_string()));
    unused
        .map(|(index, endpoint)| {
            let reachable = port.reachable.contains(&(index as u32));
            Unused {
                backend: endpoint.to_string(),
                node: endpoint.node.as_deref().map(str::to_owned),
                why: match reachable {
                    // Other packets do go there.
                    true => "not for this client: the policy is Local, and it is on another node".to_owned(),
                    false => port.explain(index).to_string(),
                },
            }
        })
        .collect()
}
