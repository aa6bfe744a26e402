//! What is refused, in upstream's words, and what is only warned of.

use serde_json::{Value, json};

use super::{Cluster, port};
use crate::handlers::Verb;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
    end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
    must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

async fn all_refused(cases: Vec<(Value, String)>) {
    let cluster = Cluster::single_stack().await;
    for (spec, expected) in cases {
        assert_eq!(cluster.refused(spec.clone()).await, expected, "{spec}");
    }
    assert_eq!(cluster.addresses().await, [], "what was refused keeps its address");
}

/// With a port, where the case is about something else.
fn with_port(mut spec: Value) -> Value {
    spec["ports"] = port(80);
    spec
}

#[tokio::test]
async fn the_type_says_what_a_service_may_have() {
    let external = |more: Value| {
        let mut spec = json!({"type": "ExternalName", "externalName": "a.b"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    all_refused(vec![
        (json!({}), "spec.ports: Required value".to_owned()),
        (
            with_port(json!({"type": "LoadBalancer", "clusterIP": "None"})),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services".to_owned(),
        ),
        (
            with_port(json!({"type": "NodePort", "clusterIP": "None"})),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services".to_owned(),
        ),
        (
            external(json!({"clusterIP": "10.0.0.9"})),
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services".to_owned(),
        ),
        (
            external(json!({"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"})),
            "[spec.ipFamilies: Forbidden: may not be set for ExternalName services, spec.ipFamilyPolicy: Forbidden: may not be \
             set for ExternalName services]"
                .to_owned(),
        ),
        (json!({"type": "ExternalName"}), "spec.externalName: Required value".to_owned()),
        (
            json!({"type": "ExternalName", "externalName": "a_b."}),
            format!("spec.externalName: Invalid value: \"a_b\": {SUBDOMAIN}"),
        ),
        (
            with_port(json!({"type": "Foo"})),
            "spec.type: Unsupported value: \"Foo\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \
             \"NodePort\""
                .to_owned(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn ports_are_well_formed_and_differ() {
    let ports = |ports: Value| json!({"ports": ports});
    let one = |mut extra: Value| {
        extra.as_object_mut().unwrap().entry("port").or_insert(80.into());
        json!({"ports": [extra]})
    };
    all_refused(vec![
        (
            ports(json!([{"port": 80}, {"port": 81, "name": "b"}])),
            "spec.ports[0].name: Required value".to_owned(),
        ),
        (one(json!({"name": "A"})), format!("spec.ports[0].name: Invalid value: \"A\": {LABEL}")),
        (
            ports(json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}])),
            "spec.ports[1].name: Duplicate value: \"a\"".to_owned(),
        ),
        (
            one(json!({"port": 65_536, "targetPort": 1})),
            "spec.ports[0].port: Invalid value: 65536: must be between 1 and 65535, inclusive".to_owned(),
        ),
        (
            one(json!({"protocol": "ICMP"})),
            "spec.ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"".to_owned(),
        ),
        (
            one(json!({"targetPort": 99_999})),
            "spec.ports[0].targetPort: Invalid value: 99999: must be between 1 and 65535, inclusive".to_owned(),
        ),
        (
            one(json!({"targetPort": "a--b"})),
            "spec.ports[0].targetPort: Invalid value: \"a--b\": must not contain consecutive hyphens".to_owned(),
        ),
        (
            one(json!({"appProtocol": "a b"})),
            format!("spec.ports[0].appProtocol: Invalid value: \"a b\": {NAME_PART}"),
        ),
        (
            one(json!({"nodePort": 30_080})),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'".to_owned(),
        ),
        (
            ports(json!([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}])),
            "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\
             \"TargetPort\":0,\"NodePort\":0}"
                .to_owned(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn other_fields_have_their_rules() {
    let cases = [
        (json!({"selector": {"a": "x y"}}), {
            "spec.selector: Invalid value: \"x y\": a valid label must be an empty string or consist of alphanumeric characters, \
             '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
             '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        }),
        (
            json!({"sessionAffinity": "Foo"}),
            "spec.sessionAffinity: Unsupported value: \"Foo\": supported values: \"ClientIP\", \"None\"",
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86_401}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
        ),
        (
            json!({"externalIPs": ["abc"]}),
            "spec.externalIPs[0]: Invalid value: \"abc\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"externalIPs": ["192.0.2.1", "127.0.0.1"]}),
            "spec.externalIPs[1]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            json!({"allocateLoadBalancerNodePorts": true}),
            "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({"loadBalancerClass": "a/b"}),
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({"externalTrafficPolicy": "Local"}),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
        (
            json!({"type": "NodePort", "externalTrafficPolicy": "Foo"}),
            "spec.externalTrafficPolicy: Unsupported value: \"Foo\": supported values: \"Cluster\", \"Local\"",
        ),
        (
            json!({"healthCheckNodePort": 30_002}),
            "spec.healthCheckNodePort: Invalid value: 30002: may only be set when `type` is 'LoadBalancer' and \
             `externalTrafficPolicy` is 'Local'",
        ),
        (
            json!({"internalTrafficPolicy": "Foo"}),
            "spec.internalTrafficPolicy: Unsupported value: \"Foo\": supported values: \"Cluster\", \"Local\"",
        ),
        (
            json!({"trafficDistribution": "Foo"}),
            "spec.trafficDistribution: Unsupported value: \"Foo\": supported values: \"PreferClose\", \"PreferSameZone\", \
             \"PreferSameNode\"",
        ),
    ];
    all_refused(cases.map(|(spec, expected)| (with_port(spec), expected.to_owned())).into()).await;
}

#[tokio::test]
async fn source_ranges_are_ranges() {
    let spec = |range: &str| with_port(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [range]}));
    let class = with_port(json!({"type": "LoadBalancer", "loadBalancerClass": "a b"}));
    all_refused(vec![
        (spec("abc"), format!("spec.LoadBalancerSourceRanges[0]: Invalid value: \"abc\": {CIDR}")),
        (
            spec("10.0.0.1/8"),
            "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length"
                .to_owned(),
        ),
        (class, format!("spec.loadBalancerClass: Invalid value: \"a b\": {NAME_PART}")),
    ])
    .await;
    Cluster::single_stack().await.create("x", spec(" 10.0.0.0/8 ")).await;
}

#[tokio::test]
async fn names_and_annotations_have_their_rules() {
    let cluster = Cluster::single_stack().await;
    let told = |metadata: Value| {
        let body = json!({"metadata": metadata, "spec": {"ports": port(80)}});
        cluster.write(Verb::Create, "services", "", "", body)
    };
    assert_eq!(
        told(json!({"name": "a.b"})).await.unwrap_err(),
        "Service \"a.b\" is invalid: metadata.name: Invalid value: \"a.b\": must not contain dots"
    );
    assert_eq!(
        told(json!({})).await.unwrap_err(),
        "Service \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    assert_eq!(
        told(json!({"name": "x", "annotations": {
            "service.kubernetes.io/topology-mode": "Auto", "service.kubernetes.io/topology-aware-hints": "Disabled"}}))
        .await
        .unwrap_err(),
        "Service \"x\" is invalid: metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: \"Auto\": must \
         match annotations[service.kubernetes.io/topology-aware-hints] when both are specified"
    );
    let ranges = "service.beta.kubernetes.io/load-balancer-source-ranges";
    assert_eq!(
        told(json!({"name": "x", "annotations": {ranges: "10.0.0.0/8, x"}})).await.unwrap_err(),
        format!(
            "Service \"x\" is invalid: [metadata.annotations[{ranges}]: Forbidden: may only be used when `type` is \
             'LoadBalancer', metadata.annotations[{ranges}]: Invalid value: \"x\": {CIDR}]"
        )
    );
    assert_eq!(told(json!({"name": "1st"})).await.unwrap().0["metadata"]["name"], "1st");
}

#[tokio::test]
async fn what_is_unwise_is_warned_of() {
    let cluster = Cluster::dual_stack().await;
    let warned = async |name: &str, metadata: Value, spec: Value| {
        let mut metadata = metadata;
        metadata["name"] = name.into();
        let body = json!({"metadata": metadata, "spec": spec});
        cluster.write(Verb::Create, "services", "", "", body).await.unwrap().1
    };
    assert_eq!(warned("a", json!({}), with_port(json!({}))).await, [""; 0]);
    assert_eq!(
        warned("b", json!({}), with_port(json!({"clusterIP": "FD00:10::9"}))).await,
        [
            "spec.clusterIPs[0]: IPv6 address \"FD00:10::9\" should be in RFC 5952 canonical format (\"fd00:10::9\")"
        ]
    );
    let hints = json!({"annotations": {"service.kubernetes.io/topology-aware-hints": "Auto"}});
    assert_eq!(
        warned("c", hints, with_port(json!({"trafficDistribution": "PreferClose"}))).await,
        [
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use \
             service.kubernetes.io/topology-mode instead",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ]
    );
    let headless = json!({"clusterIP": "None", "loadBalancerIP": "x", "externalIPs": ["192.0.2.1"],
                          "sessionAffinity": "ClientIP"});
    assert_eq!(
        warned("d", json!({}), headless).await,
        [
            "spec.loadBalancerIP is ignored for headless services",
            "spec.externalIPs is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services",
        ]
    );
    assert_eq!(
        warned("e", json!({}), with_port(json!({"externalIPs": ["192.0.2.1"], "externalName": "a.b"}))).await,
        [
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ]
    );
}

#[tokio::test]
async fn the_status_is_a_load_balancers() {
    let cluster = Cluster::single_stack().await;
    cluster.create("lb", with_port(json!({"type": "LoadBalancer"}))).await;
    cluster.create("plain", with_port(json!({}))).await;
    let status = |name: &str, ingress: Value| {
        let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let name = format!("{name}/status");
        let cluster = &cluster;
        async move { cluster.write(Verb::Patch, "services", &name, "", patch).await }
    };
    let set = status("lb", json!([{"ip": "192.0.2.7"}])).await.unwrap().0;
    assert_eq!(set["status"]["loadBalancer"]["ingress"], json!([{"ip": "192.0.2.7", "ipMode": "VIP"}]));
    let refused = [
        (
            json!([{"ip": "x"}]),
            "ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!([{"hostname": "a.b", "ipMode": "VIP"}]),
            "ingress[0].ipMode: Forbidden: may not be specified when `ip` is not set",
        ),
        (
            json!([{"ip": "192.0.2.8", "ipMode": "Bad"}]),
            "ingress[0].ipMode: Unsupported value: \"Bad\": supported values: \"Proxy\", \"VIP\"",
        ),
        (
            json!([{"hostname": "192.0.2.8"}]),
            "ingress[0].hostname: Invalid value: \"192.0.2.8\": must be a DNS name, not an IP address",
        ),
    ];
    for (ingress, expected) in refused {
        let expected = format!("Service \"lb\" is invalid: status.loadBalancer.{expected}");
        assert_eq!(status("lb", ingress).await.unwrap_err(), expected);
    }
    assert_eq!(
        status("plain", json!([{"ip": "192.0.2.7"}])).await.unwrap_err(),
        "Service \"plain\" is invalid: status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is \
         'LoadBalancer'"
    );
    // The status does not touch the spec, nor the other way round.
    let patch = json!({"spec": {"type": "NodePort"}, "status": {"loadBalancer": {}}});
    let kept = cluster.write(Verb::Patch, "services", "lb/status", "", patch).await.unwrap().0;
    assert_eq!(kept["spec"]["type"], "LoadBalancer");
}
