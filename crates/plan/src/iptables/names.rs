//! Tables, chains, and how the chains of service ports get their names.

use std::fmt;
use std::net::SocketAddr;

use data_encoding::BASE32;
use sha2::{Digest, Sha256};
use switchyard_model::{Endpoint, Protocol, ServicePortName};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Mangle,
    Filter,
    Nat,
}

impl Table {
    pub fn as_str(self) -> &'static str {
        match self {
            Table::Mangle => "mangle",
            Table::Filter => "filter",
            Table::Nat => "nat",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The distinguishing end of a chain's name: 16 characters of base32. The kernel allows 28 characters a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameHash([u8; 16]);

impl NameHash {
    /// The first 16 base32 characters of the SHA-256 of all parts, put together.
    fn of(parts: &[&str]) -> NameHash {
        let mut sha = Sha256::new();
        for part in parts {
            sha.update(part);
        }
        let mut hash = [0; 16];
        BASE32.encode_mut(&sha.finalize()[..10], &mut hash); // 10 bytes are exactly 16 characters of 5 bits
        NameHash(hash)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // always ASCII
    }
}

impl fmt::Debug for NameHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the names of service ports' chains begin, in the order in which chains may be deleted: a chain only ever jumps
/// to one whose prefix comes later.
const OWN_PREFIXES: [&str; 5] = ["KUBE-FW-", "KUBE-EXT-", "KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-"];

/// Where a chain found in the kernel stands in the order of deletion; `None` if it belongs to no service port.
/// Upstream goes by the prefix alone; so do we, and either cleans up after the other.
pub(super) fn deletion_rank(name: &str) -> Option<usize> {
    OWN_PREFIXES.iter().position(|prefix| name.starts_with(prefix))
}

/// A chain, whichever table it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chain {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    KubeServices,
    KubeExternalServices,
    KubeNodePorts,
    KubeForward,
    KubeProxyFirewall,
    /// Shared with the kubelet, which creates the same chain with the same rule.
    KubeFirewall,
    KubePostrouting,
    KubeMarkMasq,
    /// Always empty: it is there to be missed when somebody flushes everything.
    KubeProxyCanary,
    /// Load balancer source ranges of a service port.
    Fw(NameHash),
    /// A service port's traffic from outside the cluster.
    Ext(NameHash),
    /// Load balancing over endpoints all over the cluster.
    Svc(NameHash),
    /// Load balancing over endpoints on this node.
    Svl(NameHash),
    /// One endpoint of one service port.
    Sep(NameHash),
}

impl Chain {
    /// The name, in two parts for the chains that end in a hash.
    fn parts(&self) -> (&'static str, Option<&NameHash>) {
        match self {
            Chain::Prerouting => ("PREROUTING", None),
            Chain::Input => ("INPUT", None),
            Chain::Forward => ("FORWARD", None),
            Chain::Output => ("OUTPUT", None),
            Chain::Postrouting => ("POSTROUTING", None),
            Chain::KubeServices => ("KUBE-SERVICES", None),
            Chain::KubeExternalServices => ("KUBE-EXTERNAL-SERVICES", None),
            Chain::KubeNodePorts => ("KUBE-NODEPORTS", None),
            Chain::KubeForward => ("KUBE-FORWARD", None),
            Chain::KubeProxyFirewall => ("KUBE-PROXY-FIREWALL", None),
            Chain::KubeFirewall => ("KUBE-FIREWALL", None),
            Chain::KubePostrouting => ("KUBE-POSTROUTING", None),
            Chain::KubeMarkMasq => ("KUBE-MARK-MASQ", None),
            Chain::KubeProxyCanary => ("KUBE-PROXY-CANARY", None),
            Chain::Fw(hash) => (OWN_PREFIXES[0], Some(hash)),
            Chain::Ext(hash) => (OWN_PREFIXES[1], Some(hash)),
            Chain::Svc(hash) => (OWN_PREFIXES[2], Some(hash)),
            Chain::Svl(hash) => (OWN_PREFIXES[3], Some(hash)),
            Chain::Sep(hash) => (OWN_PREFIXES[4], Some(hash)),
        }
    }

    pub fn is_built_in(self) -> bool {
        self <= Chain::Postrouting
    }

    /// Whether the chain belongs to one service port.
    pub fn is_own(self) -> bool {
        self > Chain::KubeProxyCanary
    }

    pub(super) fn write(&self, out: &mut String) {
        let (prefix, hash) = self.parts();
        out.push_str(prefix);
        out.push_str(hash.map_or("", NameHash::as_str));
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = String::with_capacity(28);
        self.write(&mut name);
        f.pad(&name)
    }
}

/// A service port's name as rules show it, and its chains. All but those of endpoints share one hash.
#[derive(Debug, Clone)]
pub struct PortNames {
    /// `namespace/name:port`.
    pub text: String,
    protocol: Protocol,
    hash: NameHash,
}

impl PortNames {
    pub fn new(name: &ServicePortName) -> PortNames {
        let text = name.to_string();
        let hash = NameHash::of(&[&text, name.protocol.lower()]);
        PortNames { text, protocol: name.protocol, hash }
    }

    pub fn fw(&self) -> Chain {
        Chain::Fw(self.hash)
    }

    pub fn ext(&self) -> Chain {
        Chain::Ext(self.hash)
    }

    pub fn svc(&self) -> Chain {
        Chain::Svc(self.hash)
    }

    pub fn svl(&self) -> Chain {
        Chain::Svl(self.hash)
    }

    pub fn sep(&self, endpoint: &Endpoint) -> Chain {
        self.sep_at(SocketAddr::new(endpoint.address, endpoint.port))
    }

    fn sep_at(&self, endpoint: SocketAddr) -> Chain {
        Chain::Sep(NameHash::of(&[&self.text, self.protocol.lower(), &endpoint.to_string()]))
    }
}

#[cfg(test)]
mod tests {
    use switchyard_model::ObjectKey;

    use super::*;

    fn names(namespace: &str, name: &str, port: &str, protocol: Protocol) -> PortNames {
        PortNames::new(&ServicePortName {
            service: ObjectKey::new(namespace, name),
            port: port.into(),
            protocol,
        })
    }

    #[test]
    fn chain_names_are_those_of_upstream() {
        for (names, hash) in [
            (names("default", "mysql", "", Protocol::Tcp), "R2CEXK5KF4QS4EYR"),
            (names("default", "web", "http", Protocol::Tcp), "CDGGSHYLG3RE2FKL"),
            (names("kube-system", "dns", "dns", Protocol::Udp), "2KKYJRIGYGQNRODB"),
            (names("kube-system", "dns", "dns-tcp", Protocol::Tcp), "3RVWGMRXZPMMAFG6"),
        ] {
            assert_eq!(names.svc().to_string(), format!("KUBE-SVC-{hash}"));
            assert_eq!(names.svl().to_string(), format!("KUBE-SVL-{hash}"));
            assert_eq!(names.ext().to_string(), format!("KUBE-EXT-{hash}"));
            assert_eq!(names.fw().to_string(), format!("KUBE-FW-{hash}"));
        }
    }

    #[test]
    fn endpoint_chain_names_hash_the_address_with_brackets_around_ipv6() {
        for (names, endpoint, hash) in [
            (names("default", "mysql", "", Protocol::Tcp), "10.244.1.2:3306", "X7WU4FSZWYMTFUJQ"),
            (names("default", "web", "http", Protocol::Tcp), "10.244.2.3:8080", "VQGOCFX4X6FWJPNR"),
            (names("ns14", "v6", "p80", Protocol::Tcp), "[fd00:10:244:1::5]:8080", "6F7UR2QSDPNT5ILR"),
        ] {
            assert_eq!(names.sep_at(endpoint.parse().unwrap()).to_string(), format!("KUBE-SEP-{hash}"));
        }
    }

    #[test]
    fn only_chains_of_service_ports_may_be_deleted() {
        assert!(deletion_rank("KUBE-EXT-R2CEXK5KF4QS4EYR") < deletion_rank("KUBE-SVC-R2CEXK5KF4QS4EYR"));
        assert!(deletion_rank("KUBE-SVL-R2CEXK5KF4QS4EYR") < deletion_rank("KUBE-SEP-X7WU4FSZWYMTFUJQ"));
        for name in ["KUBE-SERVICES", "KUBE-XLB-R2CEXK5KF4QS4EYR", "PREROUTING", "", "KUBE-SEP"] {
            assert_eq!(deletion_rank(name), None, "{name}");
        }
    }
}
