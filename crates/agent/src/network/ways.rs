//! The ways to the pods of other nodes: a route for each of their ranges, through the node's own address. Nodes have to share a link
//! for that.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use switchyard_kernel::link::{LinkError, Links};

use crate::node::pod_cidrs;

/// Marks our routes, as `ip route show proto 83` lists them. No number of another program's that iproute2 knows.
const PROTOCOL: u8 = 83;

/// By range of pods, the address of the node that has them.
pub(super) type Ways = BTreeMap<IpNet, IpAddr>;

/// The ways from a node to the pods of all others. A node that has told no address of a family is not reached in it.
pub(super) fn ways<'a>(own: &str, nodes: impl IntoIterator<Item = &'a Node>) -> Ways {
    let others = nodes.into_iter().filter(|node| node.name_any() != own);
    let ways = others.flat_map(|node| {
        let addresses = addresses(node);
        pod_cidrs(node).into_iter().filter_map(move |range| {
            let of_family = |address: &&IpAddr| address.is_ipv4() == range.addr().is_ipv4();
            Some((range.trunc(), *addresses.iter().find(of_family)?))
        })
    });
    ways.collect()
}

fn addresses(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).collect()
}

/// Leads packets these ways, and none of those that were ours before. Goes on past errors.
pub(super) fn lead(wanted: &Ways) -> Vec<LinkError> {
    let links = match Links::open_here() {
        Ok(links) => links,
        Err(error) => return vec![error],
    };
    let found: Ways = match links.routes() {
        Ok(routes) => {
            let own = routes.into_iter().filter(|route| route.protocol == PROTOCOL);
            own.filter_map(|route| Some((route.destination, route.gateway?))).collect()
        }
        Err(error) => return vec![error],
    };
    let stale = found.iter().filter(|(range, _)| !wanted.contains_key(*range));
    let removed = stale.map(|(range, gateway)| links.remove_route(*range, *gateway, PROTOCOL));
    let new = wanted.iter().filter(|(range, gateway)| found.get(*range) != Some(*gateway));
    let led = new.map(|(range, gateway)| links.set_route(*range, *gateway, PROTOCOL));
    removed.chain(led).filter_map(Result::err).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ranges: &[&str], addresses: &[&str]) -> Node {
        let addresses: Vec<_> =
            addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": name}, "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
            "status": {"addresses": addresses},
        }))
        .unwrap()
    }

    #[test]
    fn every_range_of_every_other_node_has_a_way_in_its_family() {
        let nodes = [
            node("n1", &["10.244.1.0/24"], &["192.0.2.1"]),
            node("n2", &["10.244.2.0/24", "fd00:2::/64"], &["192.0.2.2", "fd01::2"]),
            node("n3", &["10.244.3.0/24", "fd00:3::/64"], &["192.0.2.3"]),
            node("n4", &[], &["192.0.2.4"]),
        ];
        let expected =
            [("10.244.2.0/24", "192.0.2.2"), ("10.244.3.0/24", "192.0.2.3"), ("fd00:2::/64", "fd01::2")];
        let expected: Ways =
            expected.iter().map(|(range, way)| (range.parse().unwrap(), way.parse().unwrap())).collect();
        assert_eq!(ways("n1", &nodes), expected);
    }
}
