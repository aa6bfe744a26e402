use std::sync::Arc;

use http_body_util::BodyExt;

use super::*;
use crate::registry::Resource;
use crate::registry::SubresourceWrite;

#[derive(Debug)]
struct Slices;

#[derive(Debug)]
struct Services;

#[derive(Debug)]
struct Accounts;

const fn names(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
) -> Names {
    let (scope, verbs) = (Scope::Namespaced, Names::ALL_VERBS);
    Names { group, version: "v1", plural, singular, kind, short: &[], categories: &[], scope, verbs }
}

const STATUS: Subresource = Subresource {
    name: "status",
    verbs: &["get", "patch", "update"],
    group: "",
    version: "",
    kind: "",
    write: SubresourceWrite::Status,
};

impl Resource for Slices {
    fn names(&self) -> &Names {
        const NAMES: Names = names("discovery.k8s.io", "endpointslices", "endpointslice", "EndpointSlice");
        &NAMES
    }

    fn schema(&self) -> &'static str {
        ""
    }
}

impl Resource for Services {
    fn names(&self) -> &Names {
        const NAMES: Names =
            Names { short: &["svc"], categories: &["all"], ..names("", "services", "service", "Service") };
        &NAMES
    }

    fn schema(&self) -> &'static str {
        ""
    }

    fn subresources(&self) -> &'static [Subresource] {
        const PROXY: Subresource =
            Subresource { name: "proxy", write: SubresourceWrite::Forwarded, ..STATUS };
        &[STATUS, PROXY]
    }
}

impl Resource for Accounts {
    fn names(&self) -> &Names {
        const NAMES: Names = names("", "serviceaccounts", "serviceaccount", "ServiceAccount");
        &NAMES
    }

    fn schema(&self) -> &'static str {
        ""
    }
}

fn discovery() -> Discovery {
    let registry = Registry::new(vec![Arc::new(Services), Arc::new(Accounts), Arc::new(Slices)]);
    Discovery::new(&registry, "192.0.2.1:6443")
}

async fn get(path: &str, accept: &str, etag: &str) -> (u16, HeaderMap, Value) {
    let mut headers = HeaderMap::new();
    headers.insert(IF_NONE_MATCH, HeaderValue::from_str(etag).unwrap());
    let answer = discovery().answer(path, accept, &headers, false).unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap_or_default())
}

const AT_ONCE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

#[tokio::test]
async fn groups_and_resources_are_listed_one_by_one() {
    let (_, _, api) = get("/api", "application/json", "").await;
    assert_eq!(
        api,
        json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "192.0.2.1:6443"}]})
    );
    let (_, _, apis) = get("/apis/", "", "").await;
    let groups: Vec<_> =
        apis["groups"].as_array().unwrap().iter().map(|group| group["name"].clone()).collect();
    assert_eq!(groups, ["discovery.k8s.io", "authentication.k8s.io", "authorization.k8s.io"]);
    let (_, _, group) = get("/apis/discovery.k8s.io", "", "").await;
    let version = json!({"groupVersion": "discovery.k8s.io/v1", "version": "v1"});
    assert_eq!(
        group,
        json!({"kind": "APIGroup", "apiVersion": "v1", "name": "discovery.k8s.io", "versions": [version],
            "preferredVersion": version})
    );
    let (_, _, list) = get("/api/v1", "", "").await;
    assert!(list.get("apiVersion").is_none(), "the core list has none");
    let entries: Vec<_> =
        list["resources"].as_array().unwrap().iter().map(|entry| entry["name"].clone()).collect();
    assert_eq!(
        entries,
        ["serviceaccounts", "serviceaccounts/token", "services", "services/proxy", "services/status"]
    );
    assert_eq!(
        list["resources"][1],
        json!({"name": "serviceaccounts/token", "singularName": "", "namespaced": true, "group": "authentication.k8s.io",
            "version": "v1", "kind": "TokenRequest", "verbs": ["create"]})
    );
    assert_eq!(
        list["resources"][2],
        json!({"name": "services", "singularName": "service", "namespaced": true, "kind": "Service",
            "verbs": Names::ALL_VERBS, "shortNames": ["svc"], "categories": ["all"]})
    );
    assert!(discovery().answer("/apis/nope", "", &HeaderMap::new(), false).is_none());
}

#[tokio::test]
async fn everything_can_be_had_at_once() {
    let (code, headers, apis) = get("/apis", AT_ONCE, "").await;
    assert_eq!((code, &headers[CONTENT_TYPE]), (200, &HeaderValue::from_static(AGGREGATED)));
    assert_eq!(
        (&headers[VARY], &headers[CACHE_CONTROL]),
        (&"Accept".parse().unwrap(), &"public".parse().unwrap())
    );
    assert_eq!(apis["items"][0]["metadata"], json!({"name": "discovery.k8s.io"}));
    assert_eq!(
        apis["items"][0]["versions"][0]["resources"][0]["responseKind"],
        json!({"group": "", "version": "", "kind": "EndpointSlice"})
    );
    let (_, _, api) = get("/api", AT_ONCE, "").await;
    assert_eq!(api["items"][0]["metadata"], json!({}));
    let services = &api["items"][0]["versions"][0]["resources"][1];
    assert_eq!(
        services["subresources"],
        json!([
            {"subresource": "proxy", "responseKind": {"group": "", "version": "", "kind": "Service"},
                "verbs": ["get", "patch", "update"]},
            {"subresource": "status", "responseKind": {"group": "", "version": "", "kind": "Service"},
                "verbs": ["get", "patch", "update"]},
        ])
    );
    let etag = headers[ETAG].to_str().unwrap().to_owned();
    let (code, _, nothing) = get("/apis", AT_ONCE, &etag).await;
    assert_eq!((code, nothing), (304, Value::Null));
}

#[tokio::test]
async fn other_forms_are_settled_on_by_what_is_accepted() {
    assert_eq!(get("/apis/discovery.k8s.io/v1", AT_ONCE, "").await.2["kind"], "APIResourceList");
    let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    assert_eq!(get("/apis", beta, "").await.0, 406);
    let (_, headers, _) = get("/apis", "application/vnd.kubernetes.protobuf,application/yaml", "").await;
    assert_eq!(headers[CONTENT_TYPE], "application/yaml");
}
