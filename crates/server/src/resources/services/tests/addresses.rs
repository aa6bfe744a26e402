//! Cluster IPs: taken with the Service, given back with it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{Cluster, port};
use crate::handlers::Verb;

#[tokio::test]
async fn a_service_gets_an_address_of_the_upper_band_and_its_ipaddress() {
    let cluster = Cluster::single_stack().await;
    let service = cluster.create("web", json!({"ports": port(80), "selector": {"app": "web"}})).await;
    let address: Ipv4Addr = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    assert!((17..=254).contains(&address.octets()[3]), "{address}");
    assert_eq!(service["spec"]["clusterIPs"], json!([address.to_string()]));
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(service["spec"]["ipFamilyPolicy"], "SingleStack");
    assert_eq!(service["spec"]["internalTrafficPolicy"], "Cluster");
    assert_eq!(service["spec"]["sessionAffinity"], "None");
    assert_eq!(service["status"], json!({"loadBalancer": {}}));
    assert_eq!(service["metadata"].get("generation"), None);
    let taken =
        cluster.write(Verb::Get, "ipaddresses", &address.to_string(), "", Value::Null).await.unwrap().0;
    assert_eq!(
        taken["metadata"]["labels"],
        json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
    );
    assert_eq!(
        taken["spec"]["parentRef"],
        json!({"resource": "services", "namespace": "default", "name": "web"})
    );

    assert_eq!(cluster.delete("web").await["metadata"]["name"], "web");
    assert_eq!(cluster.addresses().await, []);
}

#[tokio::test]
async fn an_address_may_be_asked_for_once_and_within_the_range() {
    let cluster = Cluster::single_stack().await;
    cluster.create("a", json!({"ports": port(80), "clusterIP": "10.0.0.5"})).await;
    let told = |address: &str| json!({"ports": port(80), "clusterIP": address});
    assert_eq!(
        cluster.refused(told("10.0.0.5")).await,
        "spec.clusterIPs: Invalid value: [\"10.0.0.5\"]: failed to allocate IP 10.0.0.5: provided IP is already allocated"
    );
    for outside in ["10.9.0.5", "10.0.0.0", "10.0.0.255"] {
        assert_eq!(
            cluster.refused(told(outside)).await,
            format!(
                "spec.clusterIPs: Invalid value: [\"{outside}\"]: failed to allocate IP {outside}: the provided network does \
                 not match the current range"
            )
        );
    }
    // Nothing is left of what was refused.
    assert_eq!(cluster.addresses().await, [("10.0.0.5".to_owned(), "a".to_owned())]);
    cluster.delete("a").await;
    cluster.create("b", told("10.0.0.5")).await;
}

#[tokio::test]
async fn every_address_is_given_out_once_and_then_the_range_is_full() {
    let cluster = Cluster::with(&["10.0.0.0/28"], 30_000..=32_767).await;
    let mut given = BTreeSet::new();
    for number in 0..14 {
        let service = cluster.create(&format!("s{number}"), json!({"ports": port(80)})).await;
        given.insert(service["spec"]["clusterIP"].as_str().unwrap().to_owned());
    }
    assert_eq!(given.len(), 14);
    let full = "Internal error occurred: failed to allocate a serviceIP for Service \"x\": range is full";
    assert_eq!(cluster.refused(json!({"ports": port(80)})).await, full);
    // A second range helps.
    let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.1.0.0/28"]}});
    cluster.write(Verb::Create, "servicecidrs", "", "", more).await.unwrap();
    let service = cluster.create("x", json!({"ports": port(80)})).await;
    assert!(service["spec"]["clusterIP"].as_str().unwrap().starts_with("10.1.0."));
}

#[tokio::test]
async fn headless_and_external_name_services_take_none() {
    let cluster = Cluster::single_stack().await;
    let headless = cluster.create("h", json!({"clusterIP": "None", "selector": {"a": "b"}})).await;
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(headless["spec"]["ipFamilies"], json!(["IPv4"]));
    let bare = cluster.create("bare", json!({"clusterIP": "None"})).await;
    assert_eq!(bare["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(bare["spec"]["ipFamilyPolicy"], "RequireDualStack");
    let elsewhere =
        cluster.create("e", json!({"type": "ExternalName", "externalName": "db.example.com"})).await;
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
        assert_eq!(elsewhere["spec"].get(field), None, "{field}");
    }
    assert_eq!(cluster.addresses().await, []);
}

#[tokio::test]
async fn two_families_are_had_where_the_cluster_has_them() {
    let dual = Cluster::dual_stack().await;
    let service = dual.create("both", json!({"ports": port(80), "ipFamilyPolicy": "RequireDualStack"})).await;
    let addresses = service["spec"]["clusterIPs"].as_array().unwrap();
    assert_eq!(service["spec"]["clusterIP"], addresses[0]);
    assert!(addresses[0].as_str().unwrap().starts_with("10.0.0."));
    assert!(addresses[1].as_str().unwrap().starts_with("fd00:10::"));
    assert_eq!(dual.addresses().await.len(), 2);
    let first = dual.create("v6", json!({"ports": port(80), "ipFamilies": ["IPv6"]})).await;
    assert!(first["spec"]["clusterIP"].as_str().unwrap().starts_with("fd00:10::"));

    let single = Cluster::single_stack().await;
    let prefers = single.create("p", json!({"ports": port(80), "ipFamilyPolicy": "PreferDualStack"})).await;
    assert_eq!(prefers["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(prefers["spec"]["ipFamilyPolicy"], "PreferDualStack");
}

#[tokio::test]
async fn families_that_cannot_be_had_are_refused() {
    let single = Cluster::single_stack().await;
    let cases = [
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            json!({"clusterIP": "fd00::1"}),
            "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when \
             multiple IP families are specified",
        ),
        (
            json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "fd00::9"], "ipFamilyPolicy": "SingleStack"}),
            "[spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when \
             multiple cluster IPs are specified, spec.clusterIPs[1]: Invalid value: [\"10.0.0.9\",\"fd00::9\"]: IPv6 is not \
             configured on this cluster]",
        ),
    ];
    for (mut spec, expected) in cases {
        spec["ports"] = port(80);
        assert_eq!(single.refused(spec).await, expected);
    }
    assert_eq!(single.addresses().await, []);
}

#[tokio::test]
async fn cluster_ips_families_and_policy_fit_one_another() {
    let cluster = Cluster::dual_stack().await;
    let cases = [
        (
            json!({"clusterIPs": ["10.0.0.9"]}),
            "spec.clusterIPs: Invalid value: [\"10.0.0.9\"]: must be empty when `clusterIP` is not specified",
        ),
        (
            json!({"clusterIP": "10.0.0.8", "clusterIPs": ["10.0.0.9"]}),
            "spec.clusterIPs: Invalid value: [\"10.0.0.9\"]: first value must match `clusterIP`",
        ),
        (
            json!({"ipFamilies": ["IPv5"]}),
            "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
        ),
        (
            json!({"ipFamilyPolicy": "Foo"}),
            "spec.ipFamilyPolicy: Unsupported value: \"Foo\": supported values: \"PreferDualStack\", \"RequireDualStack\", \
             \"SingleStack\"",
        ),
        (
            json!({"clusterIP": "abc"}),
            "spec.clusterIPs[0]: Invalid value: \"abc\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"clusterIP": "010.0.0.9"}),
            "spec.clusterIPs[0]: Invalid value: \"010.0.0.9\": must not have leading 0s",
        ),
        (
            json!({"clusterIP": "::ffff:10.0.0.9"}),
            "spec.clusterIPs[0]: Invalid value: \"::ffff:10.0.0.9\": must not be an IPv4-mapped IPv6 address",
        ),
        (
            json!({"clusterIP": "10.0.0.8", "clusterIPs": ["10.0.0.8", "10.0.0.9"], "ipFamilyPolicy": "RequireDualStack"}),
            "spec.clusterIPs: Invalid value: [\"10.0.0.8\",\"10.0.0.9\"]: may specify no more than one IP for each IP family",
        ),
        (
            json!({"clusterIP": "10.0.0.8", "clusterIPs": ["10.0.0.8", "fd00:10::8", "10.0.0.9"],
                   "ipFamilyPolicy": "RequireDualStack"}),
            "spec.clusterIPs: Invalid value: [\"10.0.0.8\",\"fd00:10::8\",\"10.0.0.9\"]: may only hold up to 2 values",
        ),
        (
            json!({"clusterIP": "10.0.0.8", "ipFamilies": ["IPv6"]}),
            "spec.clusterIPs[0]: Invalid value: \"10.0.0.8\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
    ];
    for (mut spec, expected) in cases {
        spec["ports"] = port(80);
        assert_eq!(cluster.refused(spec).await, expected);
    }
    assert_eq!(
        cluster.refused(json!({"clusterIP": "None", "clusterIPs": ["None", "10.0.0.8"]})).await,
        "[spec.clusterIPs: Invalid value: [\"None\",\"10.0.0.8\"]: 'None' must be the first and only value]"
            .trim_matches(['[', ']'])
    );
}

#[tokio::test]
async fn a_dry_run_takes_nothing() {
    let cluster = Cluster::single_stack().await;
    let dry = |spec: Value| {
        let body = json!({"metadata": {"name": "x"}, "spec": spec});
        cluster.write(Verb::Create, "services", "", "dryRun=All", body)
    };
    assert_eq!(dry(json!({"ports": port(80)})).await.unwrap().0["spec"]["clusterIP"], "10.0.0.0");
    cluster.create("a", json!({"ports": port(80), "clusterIP": "10.0.0.5"})).await;
    dry(json!({"ports": port(80), "clusterIP": "10.0.0.5"})).await.unwrap();
    assert_eq!(
        dry(json!({"ports": port(80), "clusterIP": "10.1.0.5"})).await.unwrap_err(),
        "Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"10.1.0.5\"]: failed to allocate IP 10.1.0.5: the provided \
         IP (10.1.0.5) is not in the valid range. The range of valid IPs is 10.0.0.0/24"
    );
    assert_eq!(cluster.addresses().await.len(), 1);
}

#[tokio::test]
async fn an_address_that_somebody_reserved_is_taken() {
    let cluster = Cluster::with(&["10.0.0.0/28"], 30_000..=32_767).await;
    let reserved =
        json!({"metadata": {"name": "10.0.0.3"}, "spec": {"parentRef": {"resource": "things", "name": "t"}}});
    cluster.write(Verb::Create, "ipaddresses", "", "", reserved).await.unwrap();
    for number in 0..13 {
        let service = cluster.create(&format!("s{number}"), json!({"ports": port(80)})).await;
        assert_ne!(service["spec"]["clusterIP"], "10.0.0.3");
    }
}

#[tokio::test]
async fn many_at_once_get_addresses_of_their_own() {
    let cluster = Cluster::single_stack().await;
    let specs =
        (0..100).map(|number| {
            let cluster = &cluster;
            async move {
                cluster.create(&format!("s{number}"), json!({"ports": port(80), "type": "NodePort"})).await
            }
        });
    let services = futures_util::future::join_all(specs).await;
    let all = |path: &str| {
        services.iter().map(|service| service.pointer(path).unwrap().to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(all("/spec/clusterIP").len(), 100);
    assert_eq!(all("/spec/ports/0/nodePort").len(), 100);
    assert_eq!(cluster.addresses().await.len(), 100);
}
