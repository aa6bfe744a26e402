//! One port of one Service, in one address family.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use switchyard_api::{Name, ObjectKey, Protocol, TrafficPolicy};

/// What joins a service's ports with its endpoints' ports: all four parts must be equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    pub service: ObjectKey,
    /// The port's name; empty where a Service has only one, unnamed port.
    pub port: Name,
    pub protocol: Protocol,
}

/// `namespace/name`, or `namespace/name:port` for a named port. The protocol is not shown: this is the text that
/// upstream puts into rule comments, log lines and chain name hashes.
impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// The addresses and policies of a service port, in one family. Addresses of the other family are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    pub cluster_ip: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    pub node_port: Option<u16>,
    pub external_ips: Vec<IpAddr>,
    /// Load balancer addresses that arrive at the node unchanged (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer addresses; empty means everybody.
    pub source_ranges: Vec<IpNet>,
    /// Answers load balancers' health checks: only for LoadBalancers with a Local external policy.
    pub health_check_node_port: Option<u16>,
    /// Seconds for which a client stays with its endpoint; `None` without ClientIP affinity.
    pub affinity_seconds: Option<u32>,
    pub internal_policy: TrafficPolicy,
    /// `Local` only where the type makes it count (NodePort, LoadBalancer, or a ClusterIP with external IPs).
    pub external_policy: TrafficPolicy,
    /// Whether any node port, load balancer address or external IP exists in this family.
    pub externally_accessible: bool,
}

impl ServicePort {
    /// Whether any traffic may go to endpoints all over the cluster. External addresses with a Local policy count
    /// too: pods and the node itself reach those through the cluster-wide endpoints.
    pub fn uses_cluster_endpoints(&self) -> bool {
        self.internal_policy == TrafficPolicy::Cluster || self.externally_accessible
    }

    /// Whether any traffic must stay on this node.
    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_policy == TrafficPolicy::Local
            || (self.external_policy == TrafficPolicy::Local && self.externally_accessible)
    }
}

/// `clusterIP:port/PROTOCOL`, IPv6 without brackets: the form operators grep kube-proxy's log for.
impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.cluster_ip, self.port, self.protocol)
    }
}
