//! What an update keeps, changes, and must not change.

use serde_json::{Value, json};

use super::{Cluster, port};

fn spec(fields: Value) -> Value {
    let mut spec = fields;
    spec["ports"] = port(80);
    spec
}

#[tokio::test]
async fn the_first_manifest_can_be_sent_again() {
    let cluster = Cluster::single_stack().await;
    let manifest = spec(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}));
    let created = cluster.create("web", manifest.clone()).await;
    let replaced = cluster.replace("web", manifest).await.unwrap();
    assert_eq!(created["spec"], replaced["spec"]);
    assert_eq!(created["metadata"]["uid"], replaced["metadata"]["uid"]);
}

#[tokio::test]
async fn addresses_stay() {
    let cluster = Cluster::single_stack().await;
    cluster.create("web", spec(json!({"clusterIP": "10.0.0.5"}))).await;
    assert_eq!(
        cluster.replace("web", spec(json!({"clusterIP": "10.0.0.6"}))).await.unwrap_err(),
        "Service \"web\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.0.0.6\"]: may not change once set"
    );
    assert_eq!(
        cluster.try_patch("web", json!({"spec": {"clusterIP": "None"}})).await.unwrap_err(),
        "Service \"web\" is invalid: spec.clusterIPs[0]: Invalid value: [\"None\"]: may not change once set"
    );
    assert_eq!(cluster.addresses().await, [("10.0.0.5".to_owned(), "web".to_owned())]);
}

#[tokio::test]
async fn a_change_of_type_takes_and_gives_back() {
    let cluster = Cluster::single_stack().await;
    let created = cluster.create("web", spec(json!({}))).await;
    let node_port = |service: &Value| service["spec"]["ports"][0]["nodePort"].as_i64();
    assert_eq!(node_port(&created), None);

    let as_node_port = cluster.patch("web", json!({"type": "NodePort"})).await;
    let given = node_port(&as_node_port).unwrap();
    let as_balancer =
        cluster.patch("web", json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"})).await;
    assert_eq!(node_port(&as_balancer), Some(given));
    let health = as_balancer["spec"]["healthCheckNodePort"].as_i64().unwrap();

    let back = cluster.patch("web", json!({"type": "ClusterIP"})).await;
    assert_eq!(back["spec"]["clusterIP"], created["spec"]["clusterIP"]);
    for field in ["healthCheckNodePort", "externalTrafficPolicy", "allocateLoadBalancerNodePorts"] {
        assert_eq!(back["spec"].get(field), None, "{field}");
    }
    assert_eq!(node_port(&back), None);
    // Both ports are free again.
    let both = json!({"type": "NodePort", "ports": [
        {"name": "a", "port": 1, "nodePort": given}, {"name": "b", "port": 2, "nodePort": health}]});
    cluster.create("other", both).await;

    let name = json!({"type": "ExternalName", "externalName": "a.b"});
    let elsewhere = cluster.patch("web", name).await;
    assert_eq!(elsewhere["spec"].get("clusterIP"), None);
    assert_eq!(elsewhere["spec"].get("ipFamilies"), None);
    assert_eq!(cluster.addresses().await.len(), 1);
    let again = cluster.patch("web", json!({"type": "ClusterIP"})).await;
    assert!(again["spec"]["clusterIP"].as_str().unwrap().starts_with("10.0.0."));
    assert_eq!(cluster.addresses().await.len(), 2);
}

#[tokio::test]
async fn a_second_family_comes_and_goes() {
    let cluster = Cluster::dual_stack().await;
    let created = cluster.create("web", spec(json!({}))).await;
    let both = cluster.patch("web", json!({"ipFamilyPolicy": "RequireDualStack"})).await;
    assert_eq!(both["spec"]["clusterIPs"][0], created["spec"]["clusterIP"]);
    assert_eq!(both["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(cluster.addresses().await.len(), 2);

    let only_first = json!({"clusterIPs": [created["spec"]["clusterIP"]], "ipFamilies": ["IPv4"]});
    assert_eq!(
        cluster.try_patch("web", json!({"spec": only_first})).await.unwrap_err(),
        "Service \"web\" is invalid: [spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to \
         release the secondary cluster IP, spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to \
         release the secondary IP family]"
    );
    let one = cluster.patch("web", json!({"ipFamilyPolicy": "SingleStack"})).await;
    assert_eq!(one["spec"]["clusterIPs"], json!([created["spec"]["clusterIP"]]));
    assert_eq!(cluster.addresses().await.len(), 1);
    assert_eq!(
        cluster.try_patch("web", json!({"spec": {"ipFamilies": ["IPv6"]}})).await.unwrap_err(),
        format!(
            "Service \"web\" is invalid: spec.clusterIPs[0]: Invalid value: {}: expected an IPv6 value as indicated by \
             `ipFamilies[0]`",
            created["spec"]["clusterIP"]
        )
    );
}

#[tokio::test]
async fn node_ports_follow_the_ports_of_their_names() {
    let cluster = Cluster::single_stack().await;
    let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
    let created = cluster.create("web", json!({"type": "NodePort", "ports": ports})).await;
    let of = |service: &Value, index: usize| service["spec"]["ports"][index]["nodePort"].as_i64().unwrap();
    let turned = json!([{"name": "b", "port": 91}, {"name": "c", "port": 92}]);
    let replaced = cluster.replace("web", json!({"type": "NodePort", "ports": turned})).await.unwrap();
    assert_eq!(of(&replaced, 0), of(&created, 1));
    // The first one's is free, and may be the new one's or anybody's.
    if of(&replaced, 1) != of(&created, 0) {
        let again = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": of(&created, 0)}]});
        cluster.create("other", again).await;
    }
    let same = of(&replaced, 0);
    let twice =
        json!([{"name": "b", "port": 1, "nodePort": same}, {"name": "c", "port": 2, "nodePort": same}]);
    assert_eq!(
        cluster.replace("web", json!({"type": "NodePort", "ports": twice})).await.unwrap_err(),
        format!("duplicate nodePort: {{TCP {same}}}")
    );
}

#[tokio::test]
async fn a_load_balancer_keeps_its_class_and_its_health_port() {
    let cluster = Cluster::single_stack().await;
    let manifest =
        spec(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "a/b",
                               "healthCheckNodePort": 30_500}));
    cluster.create("lb", manifest).await;
    assert_eq!(
        cluster.try_patch("lb", json!({"spec": {"loadBalancerClass": "a/c"}})).await.unwrap_err(),
        "Service \"lb\" is invalid: spec.loadBalancerClass: Invalid value: \"a/c\": may not change once set"
    );
    assert_eq!(
        cluster.try_patch("lb", json!({"spec": {"healthCheckNodePort": 30_501}})).await.unwrap_err(),
        "Service \"lb\" is invalid: spec.healthCheckNodePort: Forbidden: field is immutable"
    );
}

#[tokio::test]
async fn what_was_accepted_once_stays_good() {
    let cluster = Cluster::single_stack().await;
    cluster.create("web", spec(json!({"externalIPs": ["192.0.2.1"]}))).await;
    assert_eq!(
        cluster
            .try_patch("web", json!({"spec": {"externalIPs": ["192.0.2.1", "192.0.2.02"]}}))
            .await
            .unwrap_err(),
        "Service \"web\" is invalid: spec.externalIPs[1]: Invalid value: \"192.0.2.02\": must not have leading 0s"
    );
}

#[tokio::test]
async fn an_update_of_something_else_takes_nothing() {
    let cluster = Cluster::single_stack().await;
    let created = cluster.create("web", spec(json!({"type": "NodePort"}))).await;
    let patched = cluster.try_patch("web", json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    assert_eq!(created["spec"], patched["spec"]);
    assert_eq!(cluster.addresses().await.len(), 1);
    cluster.delete("web").await;
    assert_eq!(cluster.addresses().await, []);
}
