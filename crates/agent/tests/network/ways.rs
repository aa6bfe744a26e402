//! Nodes come, change and go, and the ways to them with them.

use std::net::SocketAddr;

use crate::nodes::{Cluster, OneNode, bridge, eventually, network_configuration, run};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("nodes_on_one_link_reach_each_others_pods_by_routes", routes),
    ("nodes_that_share_no_link_reach_each_others_pods_through_a_tunnel", tunnel),
    ("a_route_of_somebody_elses_goes_before_ours", somebody_elses),
];

fn pod(range: u8) -> SocketAddr {
    format!("10.244.{range}.5:80").parse().unwrap()
}

fn lan() -> (Cluster, Vec<OneNode>) {
    bridge("lan", "192.0.2.254");
    let cluster = Cluster::start();
    let nodes = (1..=2).map(|number| {
        OneNode::make(&format!("node-{number}"), &format!("192.0.2.{number}"), "lan", "192.0.2.254")
    });
    (cluster, nodes.collect())
}

fn routes() {
    let (cluster, mut nodes) = lan();
    for (i, node) in nodes.iter_mut().enumerate() {
        node.start_agent(&cluster, &format!("192.0.2.{}", i + 1), "routes");
    }
    let second = cluster.range("node-2");
    let _pod = nodes[1].listen(pod(second));
    eventually("the pod is reached", || nodes[0].reaches(pod(second)).then_some(()));
    assert_eq!(nodes[0].routes().trim(), format!("10.244.{second}.0/24 via 192.0.2.2 dev eth0"));
    let configuration = network_configuration(&cluster, "node-2");
    assert_eq!(configuration["plugins"][0]["ranges"][0], format!("10.244.{second}.0/24"));
    assert_eq!(run("ip netns exec node-2 sysctl -n net.ipv4.ip_forward").trim(), "1");

    // One that somebody has removed comes back when the nodes change; here because another one comes.
    run(&format!("ip -n node-1 route del 10.244.{second}.0/24"));
    let mut third = OneNode::make("node-3", "192.0.2.3", "lan", "192.0.2.254");
    third.start_agent(&cluster, "192.0.2.3", "routes");
    eventually("both are known", || (nodes[0].routes().lines().count() == 2).then_some(()));

    third.stop_agent();
    cluster.delete_node("node-3");
    eventually("the node is forgotten", || (nodes[0].routes().lines().count() == 1).then_some(()));

    // What an agent left behind is taken up, or away, by the next.
    nodes[0].stop_agent();
    assert_eq!(nodes[0].routes().lines().count(), 1);
    nodes[0].start_agent(&cluster, "192.0.2.1", "none");
    eventually("routes are left to others", || nodes[0].routes().is_empty().then_some(()));
}

fn tunnel() {
    bridge("left", "192.0.2.254");
    bridge("right", "203.0.113.254");
    let cluster = Cluster::start();
    let mut one = OneNode::make("node-1", "192.0.2.1", "left", "192.0.2.254");
    let mut two = OneNode::make("node-2", "203.0.113.2", "right", "203.0.113.254");
    one.start_agent(&cluster, "192.0.2.1", "routes");
    two.start_agent(&cluster, "203.0.113.2", "routes");
    let complaint = eventually("somebody complains", || cluster.events("FailedPodNetwork").pop());
    assert!(complaint.contains("--network vxlan"), "{complaint}");
    for (node, address) in [(&mut one, "192.0.2.1"), (&mut two, "203.0.113.2")] {
        node.stop_agent();
        node.start_agent(&cluster, address, "vxlan");
    }
    let second = cluster.range("node-2");
    let _pod = two.listen(pod(second));
    eventually("the pod is reached", || one.reaches(pod(second)).then_some(()));
    eventually("pods send no larger packets than fit", || {
        (network_configuration(&cluster, "node-1")["plugins"][0]["mtu"] == 1450).then_some(())
    });
    let link = run("ip -n node-1 -d link show switchyard.vx");
    assert!(link.contains("mtu 1450") && link.contains("id 4096") && link.contains("dstport 4789"), "{link}");

    one.stop_agent();
    one.start_agent(&cluster, "192.0.2.1", "none");
    eventually("the tunnel is gone", || {
        (!run("ip -n node-1 link show").contains("switchyard.vx")).then_some(())
    });
}

fn somebody_elses() {
    let (cluster, mut nodes) = lan();
    nodes[1].start_agent(&cluster, "192.0.2.2", "routes");
    let second = cluster.range("node-2");
    run(&format!("ip -n node-1 route add 10.244.{second}.0/24 via 192.0.2.254"));
    nodes[0].start_agent(&cluster, "192.0.2.1", "routes");
    let mut third = OneNode::make("node-3", "192.0.2.3", "lan", "192.0.2.254");
    third.start_agent(&cluster, "192.0.2.3", "routes");
    let number = cluster.range("node-3");
    eventually("the other's is there", || {
        nodes[0].routes().contains(&format!("10.244.{number}.0/24")).then_some(())
    });
    assert!(!nodes[0].routes().contains(&format!("10.244.{second}.0/24")));
    assert!(run("ip -n node-1 route show").contains(&format!("10.244.{second}.0/24 via 192.0.2.254")));
}
