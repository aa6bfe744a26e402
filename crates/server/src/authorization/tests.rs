use serde_json::{Value, json};

use super::*;
use crate::object::Object;

fn user(name: &str, groups: &[&str]) -> UserInfo {
    let groups = groups.iter().copied().chain(["system:authenticated"]).map(str::to_owned).collect();
    UserInfo { name: name.to_owned(), groups, ..UserInfo::default() }
}

fn read(line: &str) -> (RequestInfo, Action) {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (method, query) = (method.parse().unwrap(), Query::parse(query));
    let info = RequestInfo::parse(&method, path, &query).unwrap();
    let action = Action::of(&info, &method, &query);
    (info, action)
}

fn told(user: &UserInfo, line: &str) -> Result<(), String> {
    authorize(user, &read(line).1).map_err(|error| error.message)
}

#[test]
fn refusals_have_the_known_words() {
    let alice = user("alice", &[]);
    let refused = |line: &str| told(&alice, line).unwrap_err();
    assert_eq!(
        refused("GET /api/v1/namespaces/default/services"),
        r#"services is forbidden: User "alice" cannot list resource "services" in API group "" in the namespace "default""#
    );
    assert_eq!(
        refused("GET /api/v1/services"),
        r#"services is forbidden: User "alice" cannot list resource "services" in API group "" at the cluster scope"#
    );
    assert_eq!(
        refused("GET /api/v1/namespaces/default/services/x"),
        r#"services "x" is forbidden: User "alice" cannot get resource "services" in API group "" in the namespace "default""#
    );
    assert_eq!(
        refused("PUT /api/v1/namespaces/default/services/x/status"),
        r#"services "x" is forbidden: User "alice" cannot update resource "services/status" in API group "" in the namespace "default""#
    );
    assert_eq!(
        refused("GET /apis/discovery.k8s.io/v1/endpointslices"),
        r#"endpointslices.discovery.k8s.io is forbidden: User "alice" cannot list resource "endpointslices" in API group "discovery.k8s.io" at the cluster scope"#
    );
    assert_eq!(refused("GET /metrics"), r#"forbidden: User "alice" cannot get path "/metrics""#);
    let error = authorize(&alice, &read("GET /metrics").1).unwrap_err();
    assert_eq!(error.to_json()["details"], json!({}));
    let error = authorize(&alice, &read("GET /api/v1/namespaces/a/services/x").1).unwrap_err();
    assert_eq!(error.to_json()["details"], json!({"name": "x", "kind": "services"}));
}

/// Who may do what; `-` in front of what they may not.
#[test]
fn the_policy_is_what_is_documented() {
    let anonymous = UserInfo::anonymous();
    let admin = user("admin", &["system:masters"]);
    let alice = user("alice", &[]);
    let node = user("system:node:n1", &["system:nodes"]);
    let proxy = user("system:kube-proxy", &[]);
    let account = user("system:serviceaccount:default:default", &["system:serviceaccounts"]);
    let dns = user("system:serviceaccount:kube-system:coredns", &["system:serviceaccounts"]);
    let table: [(&UserInfo, &[&str]); 7] = [
        (
            &anonymous,
            &["GET /healthz", "GET /readyz", "GET /livez", "GET /version", "-GET /api", "-GET /metrics"],
        ),
        (&anonymous, &["-GET /api/v1/services", "-GET /openapi/v3", "-POST /version", "-GET /readyz/ping"]),
        (&admin, &["GET /metrics", "DELETE /api/v1/nodes", "POST /api/v1/namespaces", "PUT /api/v1/x/y/z"]),
        (
            &alice,
            &[
                "GET /api",
                "GET /apis/discovery.k8s.io/v1",
                "GET /openapi/v3/api/v1",
                "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
                "-POST /apis/authorization.k8s.io/v1/subjectaccessreviews",
                "-GET /api/v1/namespaces/default/configmaps",
            ],
        ),
        (
            &node,
            &[
                "GET /api/v1/services?watch=1",
                "GET /apis/discovery.k8s.io/v1/endpointslices",
                "GET /api/v1/nodes/n2",
                "PATCH /api/v1/nodes/n1/status",
                "-PATCH /api/v1/nodes/n2/status",
                "POST /api/v1/nodes",
                "-DELETE /api/v1/nodes/n2",
                "-DELETE /api/v1/nodes",
                "GET /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1",
                "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1",
                "-PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2",
                "-PUT /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/n1",
                "POST /api/v1/namespaces/default/events",
                "-POST /api/v1/namespaces/default/pods",
                "-PUT /api/v1/namespaces/default/services/web",
                "GET /api/v1/namespaces/default/secrets/s",
                "GET /api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Ds&watch=1",
                "-GET /api/v1/secrets",
            ],
        ),
        (
            &proxy,
            &[
                "GET /api/v1/services?watch=true",
                "GET /apis/networking.k8s.io/v1/servicecidrs",
                "POST /apis/events.k8s.io/v1/namespaces/default/events",
                "-GET /api/v1/pods",
                "-PATCH /api/v1/nodes/n1",
            ],
        ),
        (
            &account,
            &["GET /api", "-GET /api/v1/namespaces/default/pods", "-POST /api/v1/namespaces/default/events"],
        ),
    ];
    let dns_may: (&UserInfo, &[&str]) = (&dns, &["GET /api/v1/services", "-GET /api/v1/configmaps"]);
    for (user, lines) in table.into_iter().chain([dns_may]) {
        for line in lines {
            let (line, expected) = line.strip_prefix('-').map_or((*line, true), |line| (line, false));
            assert_eq!(told(user, line).is_ok(), expected, "{}: {line}", user.name);
        }
    }
}

/// A cluster with a pod on each of two nodes.
struct Cluster;

impl node::Objects for Cluster {
    fn get(&self, resource: &str, _namespace: &str, name: &str) -> Option<Object> {
        match resource {
            "nodes" => Some(object(json!({"metadata": {"name": name}, "spec": {"taints": [{"key": "a"}]}}))),
            _ => self.pods("").into_iter().find(|pod| pod.name() == name),
        }
    }

    fn pods(&self, _namespace: &str) -> Vec<Object> {
        let pod = |name: &str, node: &str, secret: &str| {
            let volumes = json!([{"name": "v", "secret": {"secretName": secret}}]);
            let spec = json!({"nodeName": node, "serviceAccountName": "default", "volumes": volumes});
            object(json!({"metadata": {"name": name, "uid": name}, "spec": spec}))
        };
        vec![pod("p1", "n1", "s1"), pod("p2", "n2", "s2")]
    }
}

fn object(value: Value) -> Object {
    serde_json::from_value(value).map(Object).unwrap()
}

#[test]
fn nodes_write_about_themselves_only() {
    let check = |line: &str, body: Value| {
        let info = read(line).0.resource.unwrap();
        node::check("n1", &info, &info.name, Some(&body), &Cluster).map_err(|error| error.message)
    };
    let named = |name: &str| json!({"metadata": {"name": name}});
    assert_eq!(check("POST /api/v1/nodes", named("n1")), Ok(()));
    assert_eq!(
        check("POST /api/v1/nodes", named("n2")),
        Err(r#"nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2""#.to_owned())
    );
    let mut own = json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "a"}]}});
    assert_eq!(check("PUT /api/v1/nodes/n1", own.clone()), Ok(()));
    own["metadata"]["labels"] = json!({"x.node-restriction.kubernetes.io/a": "b"});
    assert!(check("PUT /api/v1/nodes/n1", own).is_err());
    assert!(check("PUT /api/v1/nodes/n1", named("n1")).is_err(), "the taint is gone");
    assert_eq!(check("PATCH /api/v1/nodes/n1", json!({"metadata": {"labels": {"a": "b"}}})), Ok(()));
    for patch in [
        json!({"spec": {"taints": []}}),
        json!({"spec": null}),
        json!({"$patch": "replace"}),
        json!({"metadata": {"$patch": "replace"}}),
        json!({"metadata": null}),
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"labels": {"node-restriction.kubernetes.io/a": null}}}),
        json!([{"op": "remove", "path": "/spec/taints"}]),
        json!([{"op": "remove", "path": "/metadata"}]),
        json!([{"op": "add", "path": "/metadata/labels/node-restriction.kubernetes.io~1a", "value": ""}]),
        json!([{"op": "add"}]),
        json!("x"),
    ] {
        assert!(check("PATCH /api/v1/nodes/n1", patch.clone()).is_err(), "{patch}");
    }
    let labels = json!([{"op": "add", "path": "/metadata/labels/acme.com~1a", "value": ""}]);
    assert_eq!(check("PATCH /api/v1/nodes/n1", labels), Ok(()));

    const PODS: &str = "/api/v1/namespaces/default/pods";
    assert_eq!(check(&format!("PATCH {PODS}/p1/status"), json!({})), Ok(()));
    assert!(check(&format!("PATCH {PODS}/p2/status"), json!({})).is_err());
    assert!(check(&format!("DELETE {PODS}/p2"), Value::Null).is_err());
    assert_eq!(check(&format!("DELETE {PODS}/p1"), Value::Null), Ok(()));

    const SECRETS: &str = "/api/v1/namespaces/default/secrets";
    assert_eq!(check(&format!("GET {SECRETS}/s1"), Value::Null), Ok(()));
    assert!(check(&format!("GET {SECRETS}/s2"), Value::Null).is_err());

    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(check(&format!("POST {LEASES}"), named("n1")), Ok(()));
    assert!(check(&format!("POST {LEASES}"), named("n2")).is_err());

    const TOKEN: &str = "POST /api/v1/namespaces/default/serviceaccounts/default/token";
    let bound = |pod: &str| json!({"spec": {"boundObjectRef": {"kind": "Pod", "name": pod, "uid": pod}}});
    assert_eq!(check(TOKEN, bound("p1")), Ok(()));
    assert!(check(TOKEN, bound("p2")).is_err() && check(TOKEN, json!({})).is_err());
}
