//! The objects that every cluster of the recorded cases holds besides the case's own.

use std::fmt::Display;
use std::net::IpAddr;

use switchyard_lab::topology::{Node, Topology};

/// The Service through which pods reach the API server, and its one endpoint. The API server writes this
/// slice itself, for its own address and in IPv4 only.
const API_SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: kubernetes
  namespace: default
  labels:
    component: apiserver
    provider: kubernetes
spec:
  type: ClusterIP
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1]
  ipFamilies: [IPv4]
  ports:
  - name: https
    port: 443
    protocol: TCP
    targetPort: 6443
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kubernetes
  namespace: default
  labels:
    kubernetes.io/service-name: kubernetes
addressType: IPv4
ports:
- name: https
  port: 6443
  protocol: TCP
endpoints:
- addresses: [192.168.56.1]
  conditions:
    ready: true
";

/// The API server's Service and EndpointSlice and a Node for every node of the scene, as one YAML file.
#[must_use]
pub fn manifests(topology: &Topology) -> String {
    let nodes = topology.nodes.iter().map(|node| format!("---\n{}", node_manifest(node)));
    std::iter::once(API_SERVICE.to_owned()).chain(nodes).collect()
}

fn node_manifest(node: &Node) -> String {
    let Node { name, zone, pod_cidrs, .. } = node;
    let addresses: Vec<IpAddr> = node.addresses.iter().map(ipnet::IpNet::addr).collect();
    let addresses: String = addresses
        .iter()
        .map(|address| format!("  - type: InternalIP\n    address: {}\n", quoted(address)))
        .collect();
    let pod_cidrs: Vec<String> = pod_cidrs.iter().map(quoted).collect();
    format!(
        "\
apiVersion: v1
kind: Node
metadata:
  name: {name}
  labels:
    kubernetes.io/hostname: {name}
    topology.kubernetes.io/zone: {zone}
spec:
  podCIDR: {}
  podCIDRs: [{}]
status:
  addresses:
{addresses}  - type: Hostname
    address: {name}
",
        pod_cidrs.first().map_or("", String::as_str),
        pod_cidrs.join(", "),
    )
}

/// In quotes, since YAML takes a bare `fd00::1` in a flow list for a mapping.
fn quoted(value: &impl Display) -> String {
    format!("\"{value}\"")
}
