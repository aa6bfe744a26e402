//! What changes of the Node object mean while the proxy runs.

use std::net::IpAddr;

use switchyard_api::Node;

/// The facts that rules were made from at the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeWatch {
    ips: Vec<IpAddr>,
    pod_cidrs: Vec<Box<str>>,
    /// Whether pods are recognised by the node's own ranges (`--detect-local-mode=NodeCIDR`).
    depends_on_pod_cidrs: bool,
}

/// A change that cannot be followed at run time, or only noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeChange {
    /// The rules stand on ranges that are not the node's any more: only a new start makes new ones.
    PodCidrs { old: Vec<Box<str>>, new: Vec<Box<str>> },
    /// Worth a line only: the addresses of the start stay in use.
    Ips { old: Vec<IpAddr>, new: Vec<IpAddr> },
}

impl NodeWatch {
    pub fn new(node: Option<&Node>, depends_on_pod_cidrs: bool) -> NodeWatch {
        let facts = node.map(|node| (node.ips(), node.spec.pod_cidrs.clone()));
        let (ips, pod_cidrs) = facts.unwrap_or_default();
        NodeWatch { ips, pod_cidrs, depends_on_pod_cidrs }
    }

    pub fn see(&self, node: &Node) -> Option<NodeChange> {
        if self.depends_on_pod_cidrs && node.spec.pod_cidrs != self.pod_cidrs {
            return Some(NodeChange::PodCidrs {
                old: self.pod_cidrs.clone(),
                new: node.spec.pod_cidrs.clone(),
            });
        }
        let ips = node.ips();
        (ips != self.ips).then(|| NodeChange::Ips { old: self.ips.clone(), new: ips })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ip: &str, pod_cidr: &str) -> Node {
        let mut node = Node::default();
        node.spec.pod_cidrs = vec![pod_cidr.into()];
        node.status.addresses =
            vec![switchyard_api::NodeAddress { address_type: "InternalIP".into(), address: ip.into() }];
        node
    }

    #[test]
    fn pod_ranges_matter_only_where_pods_are_recognised_by_them() {
        let (old, new) = (node("192.168.56.11", "10.244.1.0/24"), node("192.168.56.11", "10.244.9.0/24"));
        assert_eq!(NodeWatch::new(Some(&old), false).see(&new), None);
        assert!(matches!(NodeWatch::new(Some(&old), true).see(&new), Some(NodeChange::PodCidrs { .. })));
    }

    #[test]
    fn another_address_is_noted() {
        let (old, new) = (node("192.168.56.11", "10.244.1.0/24"), node("192.168.56.99", "10.244.1.0/24"));
        let watch = NodeWatch::new(Some(&old), true);
        assert!(matches!(watch.see(&new), Some(NodeChange::Ips { .. })));
        assert_eq!(watch.see(&old), None);
    }
}
