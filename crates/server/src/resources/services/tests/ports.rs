//! Node ports, and the port of health checks.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Cluster, port};

fn node_ports(service: &Value) -> Vec<i64> {
    let ports = service["spec"]["ports"].as_array().unwrap().iter();
    ports.map(|port| port["nodePort"].as_i64().unwrap_or_default()).collect()
}

#[tokio::test]
async fn ports_come_from_the_upper_band() {
    let cluster = Cluster::single_stack().await;
    for number in 0..50 {
        let service =
            cluster.create(&format!("s{number}"), json!({"type": "NodePort", "ports": port(80)})).await;
        let [port] = node_ports(&service)[..] else { panic!("not one port") };
        assert!((30_086..=32_767).contains(&port), "{port}");
        assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
    }
}

#[tokio::test]
async fn the_protocols_of_one_port_share_a_node_port() {
    let cluster = Cluster::single_stack().await;
    let dns = json!([{"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 53}]);
    let service = cluster.create("dns", json!({"type": "NodePort", "ports": dns})).await;
    let [udp, tcp] = node_ports(&service)[..] else { panic!("not two ports") };
    assert_eq!(udp, tcp);
    // An explicit one counts for both, wherever it stands.
    let dns = json!([{"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 53, "nodePort": 30_053}]);
    let service = cluster.create("dns2", json!({"type": "NodePort", "ports": dns})).await;
    assert_eq!(node_ports(&service), [30_053, 30_053]);
}

#[tokio::test]
async fn a_port_may_be_asked_for_once_and_within_the_range() {
    let cluster = Cluster::single_stack().await;
    let spec = |number: i64| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]});
    cluster.create("a", spec(30_500)).await;
    assert_eq!(
        cluster.refused(spec(30_500)).await,
        "spec.ports[0].nodePort: Invalid value: 30500: provided port is already allocated"
    );
    assert_eq!(
        cluster.refused(spec(20)).await,
        "spec.ports[0].nodePort: Invalid value: 20: provided port is not in the valid range. The range of valid ports is \
         30000-32767"
    );
    // The address that came first was given back.
    assert_eq!(cluster.addresses().await.len(), 1);
    cluster.delete("a").await;
    cluster.create("b", spec(30_500)).await;
}

#[tokio::test]
async fn the_range_can_be_used_up() {
    let cluster = Cluster::with(&["10.0.0.0/24"], 30_000..=30_003).await;
    let mut given = BTreeSet::new();
    for number in 0..4 {
        let service =
            cluster.create(&format!("s{number}"), json!({"type": "NodePort", "ports": port(80)})).await;
        given.extend(node_ports(&service));
    }
    assert_eq!(given, (30_000..=30_003).collect());
    assert_eq!(
        cluster.refused(json!({"type": "NodePort", "ports": port(80)})).await,
        "Internal error occurred: failed to allocate a nodePort: range is full"
    );
    cluster.delete("s0").await;
    cluster.create("x", json!({"type": "NodePort", "ports": port(80)})).await;
}

#[tokio::test]
async fn load_balancers_may_do_without_node_ports() {
    let cluster = Cluster::single_stack().await;
    let with = cluster.create("with", json!({"type": "LoadBalancer", "ports": port(80)})).await;
    assert_eq!(with["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_ne!(node_ports(&with), [0]);
    let spec = json!({"type": "LoadBalancer", "ports": port(80), "allocateLoadBalancerNodePorts": false});
    assert_eq!(node_ports(&cluster.create("without", spec).await), [0]);
}

#[tokio::test]
async fn local_load_balancers_get_a_port_for_health_checks() {
    let cluster = Cluster::single_stack().await;
    let spec = |number: i64| json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": port(80), "healthCheckNodePort": number});
    let service = cluster.create("a", spec(0)).await;
    let given = service["spec"]["healthCheckNodePort"].as_i64().unwrap();
    assert!((30_000..=32_767).contains(&given));
    cluster.create("b", spec(30_500)).await;
    assert_eq!(
        cluster.refused(spec(30_500)).await,
        "Internal error occurred: failed to allocate requested HealthCheck NodePort 30500: provided port is already allocated"
    );
    assert_eq!(
        cluster.refused(spec(5)).await,
        "Internal error occurred: failed to allocate requested HealthCheck NodePort 5: provided port is not in the valid range. \
         The range of valid ports is 30000-32767"
    );
    cluster.delete("b").await;
    cluster.create("c", spec(30_500)).await;
}
