//! Who asks for what, and which node decides: from the words of a command line to addresses.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use switchyard_api::{IpFamily, Node, Protocol, Service, ServiceType};
use thiserror::Error;

use super::cluster::{Cluster, Pod};

/// A first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub from: Place,
    pub source: IpAddr,
    pub destination: SocketAddr,
    pub protocol: Protocol,
    /// The node whose rules see the packet first.
    pub node: String,
    /// The source stands for any address outside.
    pub is_source_made_up: bool,
}

/// Where the packet comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Pod {
        namespace: String,
        name: String,
        node: String,
    },
    /// An address out of a node's pod range, of a pod that nobody knows.
    PodAddress {
        node: String,
    },
    /// A process of the node itself, or of a pod that uses its network.
    Node {
        name: String,
    },
    Outside,
}

impl Place {
    /// The node that it is a part of.
    pub fn node(&self) -> Option<&str> {
        match self {
            Place::Pod { node, .. } | Place::PodAddress { node } | Place::Node { name: node } => Some(node),
            Place::Outside => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Pod { namespace, name, node } => write!(f, "pod {namespace}/{name} on {node}"),
            Place::PodAddress { node } => write!(f, "a pod on {node}"),
            Place::Node { name } => write!(f, "{name} itself"),
            Place::Outside => f.write_str("outside the cluster"),
        }
    }
}

/// Words that name nothing that there is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuestionError {
    #[error("there is no {what} {name:?}; there is {known}")]
    Unknown { what: &'static str, name: String, known: String },
    #[error("pod {0} has no address yet; `kubectl describe pod` tells why")]
    PodWithoutAddress(String),
    #[error("{what} has no {family} address")]
    Family { what: String, family: IpFamily },
    #[error("{0:?} has no port; write it as HOST:PORT")]
    NoPort(String),
    #[error("service {service} has several ports; give one of {known}")]
    SeveralPorts { service: String, known: String },
    #[error("service {service} has no port {port:?}; it has {known}")]
    NoSuchPort { service: String, port: String, known: String },
    #[error(
        "service {service} has no virtual address: it is {kind}, so DNS leads its clients to {to} directly"
    )]
    NotVirtual { service: String, kind: &'static str, to: &'static str },
}

/// What of the command line shapes a question besides its two ends.
#[derive(Debug, Clone, Copy)]
pub struct Defaults<'a> {
    /// Of names without one.
    pub namespace: &'a str,
    /// Of ports that no service tells it of.
    pub protocol: Protocol,
    /// Decides where several nodes could.
    pub node: Option<&'a str>,
    /// Decides where no Node object is.
    pub host: &'a str,
    /// The address that `outside` stands for, by family.
    pub outside: [IpAddr; 2],
}

impl Cluster {
    /// # Errors
    /// If either end names nothing that there is, or nothing with an address.
    pub fn question(&self, from: &str, to: &str, defaults: &Defaults<'_>) -> Result<Question, QuestionError> {
        let (from, addresses) = self.place(from, defaults)?;
        let (destination, protocol) = self.destination(to, &from, &addresses, defaults)?;
        let family = IpFamily::of(destination.ip());
        let source = addresses.into_iter().find(|address| IpFamily::of(*address) == family);
        let source = source.ok_or_else(|| QuestionError::Family { what: from.to_string(), family })?;
        let node = match (self.node_at(destination.ip()), from.node()) {
            // A node's address is that node's business, wherever the packet comes from.
            (Some(node), _) => node.metadata.name.to_string(),
            (None, Some(node)) => node.to_owned(),
            (None, None) => self.entry(destination.ip(), defaults)?,
        };
        let is_source_made_up = from == Place::Outside && defaults.outside.contains(&source);
        Ok(Question { from, source, destination, protocol, node, is_source_made_up })
    }

    /// Where a packet from outside comes in: at the node of the pod that it is sent to, else at any.
    fn entry(&self, destination: IpAddr, defaults: &Defaults<'_>) -> Result<String, QuestionError> {
        if let Some(node) = self.node_of_pods_at(destination) {
            return Ok(node.metadata.name.to_string());
        }
        match defaults.node {
            Some(name) => Ok(self.known_node(name)?.metadata.name.to_string()),
            None => {
                let first = self.nodes.first().map(|node| node.metadata.name.to_string());
                Ok(first.unwrap_or_else(|| defaults.host.to_owned()))
            }
        }
    }

    fn place(&self, word: &str, defaults: &Defaults<'_>) -> Result<(Place, Vec<IpAddr>), QuestionError> {
        if word == "outside" {
            return Ok((Place::Outside, defaults.outside.to_vec()));
        }
        if let Ok(address) = word.parse() {
            return Ok((self.place_at(address), vec![address]));
        }
        if let Some(name) = word.strip_prefix("node/") {
            return Ok(node_place(self.known_node(name)?));
        }
        match (self.node(word), word.strip_prefix("pod/")) {
            (Some(node), _) => Ok(node_place(node)),
            (None, name) => self.pod_place(name.unwrap_or(word), defaults),
        }
    }

    fn place_at(&self, address: IpAddr) -> Place {
        if let Some(pod) = self.pod_at(address) {
            return pod_place(pod);
        }
        if let Some(node) = self.node_at(address) {
            return Place::Node { name: node.metadata.name.to_string() };
        }
        let node = self.node_of_pods_at(address);
        node.map_or(Place::Outside, |node| Place::PodAddress { node: node.metadata.name.to_string() })
    }

    fn pod_place(&self, word: &str, defaults: &Defaults<'_>) -> Result<(Place, Vec<IpAddr>), QuestionError> {
        let (namespace, name) = word.split_once('/').unwrap_or((defaults.namespace, word));
        let found = self.pods.iter().find(|pod| pod.namespace == namespace && pod.name == name);
        let pod = found.ok_or_else(|| {
            let pods = self.pods.iter().filter(|pod| pod.namespace == namespace).map(|pod| pod.name.clone());
            let nodes = self.nodes.iter().map(|node| node.metadata.name.to_string());
            QuestionError::Unknown {
                what: "pod or node",
                name: format!("{namespace}/{name}"),
                known: listed(pods.chain(nodes)),
            }
        })?;
        if pod.addresses.is_empty() || pod.node.is_empty() {
            return Err(QuestionError::PodWithoutAddress(format!("{namespace}/{name}")));
        }
        Ok((pod_place(pod), pod.addresses.clone()))
    }

    fn known_node(&self, name: &str) -> Result<&Node, QuestionError> {
        self.node(name).ok_or_else(|| QuestionError::Unknown {
            what: "node",
            name: name.to_owned(),
            known: listed(self.nodes.iter().map(|node| node.metadata.name.to_string())),
        })
    }

    fn destination(
        &self,
        word: &str,
        from: &Place,
        sources: &[IpAddr],
        defaults: &Defaults<'_>,
    ) -> Result<(SocketAddr, Protocol), QuestionError> {
        if let Ok(address) = word.parse() {
            return Ok((address, self.protocol_at(address, defaults.protocol)));
        }
        let (host, port) = word.rsplit_once(':').map_or((word, None), |(host, port)| (host, Some(port)));
        let number = port.and_then(|port| port.parse::<u16>().ok());
        let families: Vec<IpFamily> = sources.iter().map(|source| IpFamily::of(*source)).collect();
        let is_service = host.starts_with("svc/") || host.starts_with("service/");
        let name = host.split_once('/').filter(|_| is_service).map_or(host, |(_, name)| name);
        if let (false, Some(address)) = (is_service, self.host(host, from)) {
            let ips = address.into_iter().find(|address| families.contains(&IpFamily::of(*address)));
            let family = families.first().copied().unwrap_or(IpFamily::V4);
            let ip = ips.ok_or(QuestionError::Family { what: host.to_owned(), family })?;
            let port = number.ok_or_else(|| QuestionError::NoPort(word.to_owned()))?;
            let address = SocketAddr::new(ip, port);
            return Ok((address, self.protocol_at(address, defaults.protocol)));
        }
        self.service_destination(self.service(name, defaults.namespace)?, port, &families, defaults)
    }

    /// The addresses of a host that is no service.
    fn host(&self, host: &str, from: &Place) -> Option<Vec<IpAddr>> {
        if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Some(vec![ip]);
        }
        match (host, from) {
            ("localhost", Place::Node { .. }) => Some(vec![IpAddr::from([127, 0, 0, 1])]),
            _ => self.node(host.strip_prefix("node/").unwrap_or(host)).map(Node::ips),
        }
    }

    /// By `NAME`, `NAMESPACE/NAME`, or a DNS name of it.
    fn service(&self, word: &str, namespace: &str) -> Result<&Service, QuestionError> {
        let (namespace, name) = match word.split_once('/') {
            Some(both) => both,
            None => {
                let mut parts = word.split('.');
                let name = parts.next().unwrap_or_default();
                (parts.next().unwrap_or(namespace), name)
            }
        };
        let in_namespace = |service: &&Service| *service.metadata.namespace == *namespace;
        let mut services = self.services.iter().filter(in_namespace);
        services.find(|service| *service.metadata.name == *name).ok_or_else(|| QuestionError::Unknown {
            what: "service or node",
            name: format!("{namespace}/{name}"),
            known: listed(
                self.services.iter().filter(in_namespace).map(|service| service.metadata.name.to_string()),
            ),
        })
    }

    fn service_destination(
        &self,
        service: &Service,
        port: Option<&str>,
        families: &[IpFamily],
        defaults: &Defaults<'_>,
    ) -> Result<(SocketAddr, Protocol), QuestionError> {
        let name = service.metadata.key().to_string();
        let not_virtual = |kind, to| Err(QuestionError::NotVirtual { service: name.clone(), kind, to });
        let addresses = match (service.spec.service_type, &*service.spec.cluster_ip) {
            (ServiceType::ExternalName, _) => return not_virtual("of type ExternalName", "that name"),
            (_, "None") => return not_virtual("headless", "its pods"),
            (_, first) if service.spec.cluster_ips.is_empty() => vec![first],
            _ => service.spec.cluster_ips.iter().map(|address| &**address).collect(),
        };
        let parsed = addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
        let ip = parsed.into_iter().find(|address| families.contains(&IpFamily::of(*address)));
        let family = families.first().copied().unwrap_or(IpFamily::V4);
        let ip = ip.ok_or_else(|| QuestionError::Family { what: format!("service {name}"), family })?;
        let ports = &service.spec.ports;
        let found = match port {
            None if ports.len() == 1 => ports.first(),
            None => None,
            Some(port) => {
                let matching = |protocol| {
                    ports.iter().find(|own| {
                        (*own.name == *port || own.port.to_string() == port) && protocol == own.protocol
                    })
                };
                let others = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
                matching(defaults.protocol).or_else(|| others.into_iter().find_map(matching))
            }
        };
        let found = found.ok_or_else(|| {
            let known = listed(ports.iter().map(|port| match &*port.name {
                "" => port.port.to_string(),
                name => format!("{} ({name})", port.port),
            }));
            let service = name.clone();
            match port {
                None => QuestionError::SeveralPorts { service, known },
                Some(port) => QuestionError::NoSuchPort { service, port: port.to_owned(), known },
            }
        })?;
        Ok((SocketAddr::new(ip, found.port), found.protocol))
    }

    /// That of the only service port with such an address, if it is not the usual one.
    fn protocol_at(&self, address: SocketAddr, usual: Protocol) -> Protocol {
        let is_node = self.node_at(address.ip()).is_some();
        let ports = self.services.iter().flat_map(|service| {
            let own = service.spec.cluster_ips.iter().any(|ip| ip.parse() == Ok(address.ip()));
            let ports = service.spec.ports.iter();
            ports.filter(move |port| {
                (own && port.port == address.port()) || (is_node && port.node_port == address.port())
            })
        });
        let protocols: Vec<Protocol> = ports.map(|port| port.protocol).collect();
        match protocols[..] {
            [] => usual,
            _ if protocols.contains(&usual) => usual,
            [other, ..] => other,
        }
    }
}

fn node_place(node: &Node) -> (Place, Vec<IpAddr>) {
    (Place::Node { name: node.metadata.name.to_string() }, node.ips())
}

fn pod_place(pod: &Pod) -> Place {
    if pod.host_network {
        return Place::Node { name: pod.node.clone() };
    }
    Place::Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), node: pod.node.clone() }
}

/// A few names, for a message.
fn listed(names: impl Iterator<Item = String>) -> String {
    const MOST: usize = 8;
    let mut names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}
