//! Objects as API servers send them: with nulls, with fields nobody here knows, with half of their parts left out.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on stops

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use switchyard_api::{
    AddressType, EndpointAddress, EndpointSlice, IpFamily, Node, Protocol, Service, ServiceCidr, ServiceType,
    SessionAffinity, TrafficPolicy, label,
};

/// Through text, as objects arrive: borrowing from the input takes other paths than reading a `Value`.
fn decode<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_str(&object.to_string()).unwrap()
}

/// Every way to write `object` with one of its fields, at any depth, replaced by null.
fn with_each_field_null(object: &Value) -> Vec<Value> {
    let mut variants = Vec::new();
    let children: Vec<(String, Value)> = match object {
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(n, v)| (n.to_string(), v.clone())).collect(),
        _ => return variants,
    };
    for (place, child) in children {
        let mut put = |value: Value| {
            let mut variant = object.clone();
            match &mut variant {
                Value::Array(items) => items[place.parse::<usize>().unwrap()] = value,
                fields => fields[place.as_str()] = value,
            }
            variants.push(variant);
        };
        with_each_field_null(&child).into_iter().for_each(&mut put);
        if object.is_object() {
            put(Value::Null);
        }
    }
    variants
}

fn assert_null_is_absence<T: DeserializeOwned>(object: &Value, required: &[&str]) {
    for variant in with_each_field_null(object) {
        let text = variant.to_string();
        if required.iter().any(|field| text.contains(&format!("\"{field}\":null"))) {
            continue;
        }
        if let Err(error) = serde_json::from_str::<T>(&text) {
            panic!("{error}: {text}");
        }
    }
}

fn service() -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": "cart", "uid": "u1", "resourceVersion": "7",
            "deletionTimestamp": null, "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::10"],
            "ipFamilies": ["IPv4", "IPv6"], "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080, "targetPort": "web"}],
            "externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
            "loadBalancerSourceRanges": ["198.51.100.0/24"], "healthCheckNodePort": 32000,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP", "hostname": "lb.test"}]}},
    })
}

fn slice() -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": "cart-x7", "labels": {label::SERVICE_NAME: "cart"}},
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": ["10.244.1.5"], "nodeName": "node-1", "zone": "zone-a",
            "conditions": {"ready": false, "serving": true, "terminating": true},
            "hints": {"forZones": [{"name": "zone-a"}], "forNodes": [{"name": "node-1"}]},
            "targetRef": {"kind": "Pod", "name": "cart-0"},
        }],
        "ports": [{"name": "http", "protocol": "UDP", "port": 8080, "appProtocol": "h2c"}],
    })
}

fn node() -> Value {
    json!({
        "metadata": {"name": "node-1", "labels": {label::ZONE: "zone-a"}},
        "spec": {"podCIDRs": ["10.244.1.0/24"], "taints": [{"key": "k", "effect": "NoSchedule"}]},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.18.0.2"}]},
    })
}

fn node_with(addresses: &[(&str, &str)]) -> Node {
    let addresses: Vec<Value> =
        addresses.iter().map(|(kind, address)| json!({"type": kind, "address": address})).collect();
    decode(json!({"metadata": {"name": "node-1"}, "status": {"addresses": addresses}}))
}

#[test]
fn null_means_absent_wherever_a_field_is_optional() {
    assert_null_is_absence::<Service>(&service(), &["port"]);
    assert_null_is_absence::<EndpointSlice>(&slice(), &[]);
    assert_null_is_absence::<Node>(&node(), &[]);
    let cidr = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}});
    assert_null_is_absence::<ServiceCidr>(&cidr, &[]);
    assert_eq!(&*decode::<ServiceCidr>(cidr).spec.cidrs[0], "10.96.0.0/16");
}

#[test]
fn an_empty_object_is_an_object_with_defaults() {
    assert_eq!(decode::<Service>(json!({})), Service::default());
    assert_eq!(decode::<EndpointSlice>(json!({})), EndpointSlice::default());
    assert_eq!(decode::<Node>(json!({})), Node::default());
    assert_eq!(decode::<ServiceCidr>(json!({})), ServiceCidr::default());
}

#[test]
fn every_field_of_a_service_is_read() {
    let service: Service = decode(service());
    let spec = &service.spec;
    assert_eq!(service.metadata.key().to_string(), "shop/cart");
    assert_eq!((&*service.metadata.uid, &*service.metadata.resource_version), ("u1", "7"));
    assert_eq!(spec.service_type, ServiceType::LoadBalancer);
    assert_eq!(&*spec.cluster_ip, "10.96.0.10");
    assert_eq!(&*spec.cluster_ips[1], "fd00::10");
    assert_eq!(spec.ip_families, [IpFamily::V4, IpFamily::V6]);
    let port = &spec.ports[0];
    assert_eq!((&*port.name, port.protocol, port.port, port.node_port), ("http", Protocol::Tcp, 80, 30080));
    assert_eq!(&*spec.external_ips[0], "192.0.2.1");
    assert_eq!(spec.external_traffic_policy, TrafficPolicy::Local);
    assert_eq!(spec.internal_traffic_policy, TrafficPolicy::Local);
    assert_eq!(&*spec.load_balancer_source_ranges[0], "198.51.100.0/24");
    assert_eq!((spec.health_check_node_port, spec.affinity_seconds()), (32000, Some(60)));
    let ingress = &service.status.ingress()[0];
    assert_eq!((&*ingress.ip, ingress.ip_mode.as_deref()), ("203.0.113.1", Some("VIP")));
}

#[test]
fn a_service_that_says_little_gets_what_the_api_defaults_to() {
    let service: Service = decode(json!({"spec": {"ports": [{"port": 53}]}}));
    let port = &service.spec.ports[0];
    assert_eq!((&*port.name, port.protocol, port.node_port), ("", Protocol::Tcp, 0));
    assert_eq!(service.spec.service_type, ServiceType::ClusterIP);
    assert_eq!(service.spec.internal_traffic_policy, TrafficPolicy::Cluster);
    assert_eq!(service.spec.external_traffic_policy, TrafficPolicy::Cluster);
}

#[test]
fn client_ip_affinity_lasts_three_hours_unless_told_otherwise() {
    let affinity = |spec: Value| decode::<Service>(json!({"spec": spec})).spec.affinity_seconds();
    assert_eq!(affinity(json!({})), None);
    assert_eq!(affinity(json!({"sessionAffinity": "None"})), None);
    assert_eq!(affinity(json!({"sessionAffinity": "ClientIP"})), Some(10_800));
    let config = json!({"clientIP": {"timeoutSeconds": 5}});
    assert_eq!(affinity(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config})), Some(5));
    // A time-out left over from an affinity that was switched off means nothing.
    assert_eq!(affinity(json!({"sessionAffinityConfig": config})), None);

    let mut spec = decode::<Service>(json!({})).spec;
    spec.set_affinity_seconds(Some(9));
    assert_eq!((spec.session_affinity, spec.affinity_seconds()), (SessionAffinity::ClientIP, Some(9)));
    spec.set_affinity_seconds(None);
    assert_eq!((spec.session_affinity, spec.affinity_seconds()), (SessionAffinity::None, None));
}

#[test]
fn what_nobody_reads_is_skipped_whatever_its_shape() {
    let junk = json!([{"deep": [1, 2.5, {"er": null}]}, "text", true]);
    let mut object = service();
    object["apiVersion"] = json!("v1");
    object["spec"]["selector"] = json!({"app": "cart"});
    object["spec"]["notYetInvented"] = junk.clone();
    object["metadata"]["ownerReferences"] = junk.clone();
    object["metadata"]["managedFields"] =
        json!([{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:ports": {"k:{\"port\":80}": junk}}}}]);
    assert_eq!(decode::<Service>(object), decode::<Service>(service()));
}

#[test]
fn only_labels_that_matter_are_kept() {
    let labels = json!({"app": "cart", label::SERVICE_NAME: "cart", label::HEADLESS: "", "escaped\n": "x"});
    let slice: EndpointSlice = decode(json!({"metadata": {"labels": labels, "annotations": null}}));
    let labels = &slice.metadata.labels;
    assert_eq!(labels.get(label::SERVICE_NAME).map(|name| &**name), Some("cart"));
    assert!(labels.contains(label::HEADLESS), "a label counts whatever its value");
    assert!(!labels.contains("app") && !labels.contains("escaped\n"));
    assert!(!slice.metadata.annotations.contains(label::TRIGGER_TIME));
}

#[test]
fn a_deletion_is_seen_by_the_presence_of_its_time() {
    let deleted = |time: Value| {
        let node: Node = decode(json!({"metadata": {"name": "n", "deletionTimestamp": time}}));
        node.metadata.deletion_timestamp
    };
    assert!(deleted(json!("2026-01-01T00:00:00Z")));
    assert!(!deleted(Value::Null));
}

#[test]
fn every_field_of_a_slice_is_read() {
    let slice: EndpointSlice = decode(slice());
    assert_eq!(slice.address_type, AddressType::IPv4);
    let endpoint = &slice.endpoints[0];
    assert_eq!(endpoint.address, EndpointAddress::Ip("10.244.1.5".parse().unwrap()));
    assert_eq!((endpoint.ready(), endpoint.serving(), endpoint.terminating()), (false, true, true));
    assert_eq!(endpoint.node_name.as_deref(), Some("node-1"));
    let hints = endpoint.hints.as_deref().unwrap();
    assert_eq!((&*hints.for_zones[0], &*hints.for_nodes[0]), ("zone-a", "node-1"));
    let port = &slice.ports[0];
    assert_eq!((&*port.name, port.protocol, port.port), ("http", Protocol::Udp, 8080));
}

#[test]
fn conditions_that_are_unknown_count_as_those_of_a_ready_endpoint() {
    for conditions in [Value::Null, json!({}), json!({"ready": null, "serving": null, "terminating": null})] {
        let slice: EndpointSlice = decode(json!({"endpoints": [{"conditions": conditions}]}));
        let endpoint = &slice.endpoints[0];
        assert_eq!((endpoint.ready(), endpoint.serving(), endpoint.terminating()), (true, true, false));
    }
}

#[test]
fn only_the_first_address_of_an_endpoint_is_kept() {
    let address = |addresses: Value| {
        let slice: EndpointSlice = decode(json!({"endpoints": [{"addresses": addresses}]}));
        slice.endpoints[0].address.clone()
    };
    let ip = |text: &str| EndpointAddress::Ip(text.parse().unwrap());
    assert_eq!(address(json!(["10.0.0.1", "10.0.0.2", 3])), ip("10.0.0.1"));
    assert_eq!(address(json!(["010.000.0.1"])), ip("10.0.0.1"));
    assert_eq!(address(json!(["FD00:0::5"])), ip("fd00::5"));
    assert_eq!(address(json!(["pod.test"])), EndpointAddress::Other("pod.test".into()));
    assert_eq!(address(json!([])), EndpointAddress::default());
    assert_eq!(address(Value::Null), EndpointAddress::default());
}

#[test]
fn a_port_without_a_number_is_port_zero() {
    let slice: EndpointSlice = decode(json!({"ports": [{}, {"name": null, "port": null}]}));
    for port in &slice.ports {
        assert_eq!((&*port.name, port.protocol, port.port), ("", Protocol::Tcp, 0));
    }
}

#[test]
fn a_node_has_one_address_of_each_family_internal_before_external() {
    let ips = |addresses: &[(&str, &str)]| node_with(addresses).ips();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(ips(&[]), [] as [IpAddr; 0]);
    assert_eq!(
        ips(&[("Hostname", "10.0.0.9"), ("InternalDNS", "node-1"), ("InternalIP", "node-1")]),
        [] as [IpAddr; 0]
    );
    assert_eq!(ips(&[("ExternalIP", "192.0.2.1"), ("InternalIP", "10.0.0.1")]), [ip("10.0.0.1")]);
    assert_eq!(ips(&[("ExternalIP", "192.0.2.1")]), [ip("192.0.2.1")]);
    let dual = [("InternalIP", "fd00::1"), ("InternalIP", "fd00::2"), ("InternalIP", "10.0.0.1")];
    assert_eq!(ips(&dual), [ip("fd00::1"), ip("10.0.0.1")], "the order of the object decides the primary");
    let mixed = [("ExternalIP", "2001:db8::1"), ("InternalIP", "10.0.0.1"), ("InternalIP", "10.0.0.2")];
    assert_eq!(ips(&mixed), [ip("10.0.0.1"), ip("2001:db8::1")]);
}

#[test]
fn a_node_tells_its_zone_and_pod_ranges() {
    let node: Node = decode(node());
    assert_eq!(node.zone().map(|zone| &**zone), Some("zone-a"));
    assert_eq!(&*node.spec.pod_cidrs[0], "10.244.1.0/24");
    assert_eq!(node_with(&[]).zone(), None);
}

#[test]
fn a_node_that_is_being_removed_is_not_eligible() {
    let eligible = |object: Value| decode::<Node>(object).is_eligible();
    assert!(eligible(node()), "other taints do not matter");
    assert!(eligible(json!({"metadata": {"name": "n"}})));
    assert!(!eligible(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})));
    let taint = json!({"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"});
    assert!(!eligible(json!({"spec": {"taints": [{"key": "k"}, taint]}})));
}

#[test]
fn values_that_mean_nothing_make_an_object_unreadable() {
    for spec in [json!({"type": "Magic"}), json!({"ports": [{"port": 70_000}]}), json!({"ports": [{}]})] {
        let text = json!({"spec": spec}).to_string();
        assert!(serde_json::from_str::<Service>(&text).is_err(), "{text}");
    }
    assert!(serde_json::from_str::<EndpointSlice>(r#"{"addressType": "IPX"}"#).is_err());
}
