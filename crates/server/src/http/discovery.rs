//! What is served, for clients to find out: `/api`, `/apis` and below, one by one or all at once.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::negotiation::{Encoding, MediaRange, not_acceptable};
use super::response::{self, Body};
use super::reviews;
use super::token_request;
use crate::registry::{Names, Registry, Scope, Subresource};
use crate::status::ApiError;

/// Of answers with everything at once; clients compare it.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The documents, made once.
#[derive(Debug)]
pub struct Discovery {
    /// By path, without a slash at the end.
    documents: BTreeMap<String, Bytes>,
    /// Those with everything at once: of the core group, and of the others.
    core: Tagged,
    named: Tagged,
}

#[derive(Debug)]
struct Tagged {
    json: Bytes,
    etag: String,
}

impl Tagged {
    fn new(value: &Value) -> Tagged {
        let json = Bytes::from(value.to_string());
        let etag = format!("\"{}\"", hash(&json));
        Tagged { json, etag }
    }
}

pub(super) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect()
}

/// A group version and its resources, sorted.
struct GroupVersion {
    group: &'static str,
    version: &'static str,
    resources: Vec<(Names, Vec<Subresource>)>,
}

impl Discovery {
    /// `server_address` is `HOST:PORT`.
    pub fn new(registry: &Registry, server_address: &str) -> Discovery {
        let all = group_versions(registry);
        let mut documents = BTreeMap::new();
        let addresses = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]);
        let api = json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses});
        documents.insert("/api".to_owned(), api);
        let mut groups: Vec<&str> = Vec::new();
        for one in &all {
            documents.insert(one.path(), one.resource_list());
            if !one.group.is_empty() && !groups.contains(&one.group) {
                groups.push(one.group);
            }
        }
        let mut list = Vec::new();
        for group in &groups {
            let mut document = api_group(group, &all);
            list.push(document.clone());
            document["kind"] = "APIGroup".into();
            document["apiVersion"] = "v1".into();
            documents.insert(format!("/apis/{group}"), document);
        }
        documents
            .insert("/apis".to_owned(), json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}));
        let named: Vec<Value> = groups.iter().map(|group| aggregated(group, &all)).collect();
        Discovery {
            documents: documents
                .into_iter()
                .map(|(path, document)| (path, document.to_string().into()))
                .collect(),
            core: Tagged::new(&aggregated_list(vec![aggregated("", &all)])),
            named: Tagged::new(&aggregated_list(named)),
        }
    }

    /// The answer for a path; `None` if it is none of discovery's.
    pub fn answer(
        &self,
        path: &str,
        accept: &str,
        headers: &HeaderMap,
        pretty: bool,
    ) -> Option<Response<Body>> {
        let path = path.trim_end_matches('/');
        let document = self.documents.get(path)?;
        let aggregated = match path {
            "/api" => Some(&self.core),
            "/apis" => Some(&self.named),
            _ => None,
        };
        Some(match settle(accept, aggregated.is_some()) {
            Err(error) => response::error(&error, Encoding::Json),
            Ok(Settled::Plain(encoding)) => {
                let encoding =
                    if pretty && encoding == Encoding::Json { Encoding::PrettyJson } else { encoding };
                let mut answer = response::json(StatusCode::OK, document.clone(), encoding);
                answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
                answer
            }
            Ok(Settled::Aggregated) => tagged(aggregated?, headers),
        })
    }

    /// The paths of all documents.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.documents.keys().map(String::as_str)
    }
}

#[derive(Debug, PartialEq)]
enum Settled {
    Plain(Encoding),
    Aggregated,
}

fn settle(accept: &str, has_aggregated: bool) -> Result<Settled, ApiError> {
    let mut ranges = MediaRange::all(accept).peekable();
    if ranges.peek().is_none() {
        return Ok(Settled::Plain(Encoding::Json));
    }
    let known = ranges.find_map(|range| {
        let is_aggregated = range.parameter("as") == "APIGroupDiscoveryList";
        match range.name {
            "application/json" if is_aggregated => {
                let is_known = (range.parameter("g"), range.parameter("v")) == ("apidiscovery.k8s.io", "v2");
                (has_aggregated && is_known).then_some(Settled::Aggregated)
            }
            _ if !range.parameter("as").is_empty() => None,
            "application/json" | "application/*" | "*/*" => Some(Settled::Plain(Encoding::Json)),
            "application/yaml" => Some(Settled::Plain(Encoding::Yaml)),
            _ => None,
        }
    });
    known.ok_or_else(|| not_acceptable(false))
}

fn tagged(document: &Tagged, headers: &HeaderMap) -> Response<Body> {
    let known = headers.get(IF_NONE_MATCH).is_some_and(|etag| etag.as_bytes() == document.etag.as_bytes());
    let mut answer = match known {
        true => response::whole(StatusCode::NOT_MODIFIED, AGGREGATED, Bytes::new()),
        false => response::whole(StatusCode::OK, AGGREGATED, document.json.clone()),
    };
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(AGGREGATED));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        headers.insert(ETAG, etag);
    }
    answer
}

/// In the order of the registry; what is answered here and stored nowhere comes last.
fn group_versions(registry: &Registry) -> Vec<GroupVersion> {
    let mut all: Vec<GroupVersion> = Vec::new();
    let mut add = |names: Names, subresources: Vec<Subresource>| {
        let same = |one: &&mut GroupVersion| (one.group, one.version) == (names.group, names.version);
        match all.iter_mut().find(same) {
            Some(one) => one.resources.push((names, subresources)),
            None => all.push(GroupVersion {
                group: names.group,
                version: names.version,
                resources: vec![(names, subresources)],
            }),
        }
    };
    for resource in registry.all() {
        let names = *resource.names();
        let mut subresources = resource.subresources().to_vec();
        if (names.group, names.plural) == ("", "serviceaccounts") {
            subresources.push(token_request::SUBRESOURCE);
        }
        add(names, subresources);
    }
    reviews::RESOURCES.iter().for_each(|names| add(*names, Vec::new()));
    for one in &mut all {
        one.resources.sort_by_key(|(names, _)| names.plural);
        one.resources.iter_mut().for_each(|(_, subresources)| subresources.sort_by_key(|one| one.name));
    }
    all
}

impl GroupVersion {
    fn path(&self) -> String {
        match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    fn name(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    fn resource_list(&self) -> Value {
        let mut resources = Vec::new();
        for (names, subresources) in &self.resources {
            let namespaced = names.scope == Scope::Namespaced;
            let mut entry = json!({
                "name": names.plural, "singularName": names.singular, "namespaced": namespaced,
                "kind": names.kind, "verbs": names.verbs,
            });
            put_lists(&mut entry, names);
            resources.push(entry);
            for one in subresources {
                let mut entry = json!({
                    "name": format!("{}/{}", names.plural, one.name), "singularName": "", "namespaced": namespaced,
                    "kind": kind(names, one), "verbs": one.verbs,
                });
                if !one.version.is_empty() {
                    entry["group"] = one.group.into();
                    entry["version"] = one.version.into();
                }
                resources.push(entry);
            }
        }
        let mut list =
            json!({"kind": "APIResourceList", "groupVersion": self.name(), "resources": resources});
        if !self.group.is_empty() {
            list["apiVersion"] = "v1".into();
        }
        list
    }

    fn aggregated(&self) -> Value {
        let resources = self.resources.iter().map(|(names, subresources)| {
            let mut entry = json!({
                "resource": names.plural, "singularResource": names.singular, "verbs": names.verbs,
                "responseKind": {"group": "", "version": "", "kind": names.kind},
                "scope": if names.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" },
            });
            put_lists(&mut entry, names);
            if !subresources.is_empty() {
                let subresources = subresources.iter().map(|one| {
                    let kind = json!({"group": one.group, "version": one.version, "kind": kind(names, one)});
                    json!({"subresource": one.name, "responseKind": kind, "verbs": one.verbs})
                });
                entry["subresources"] = subresources.collect();
            }
            entry
        });
        let resources: Vec<Value> = resources.collect();
        json!({"version": self.version, "freshness": "Current", "resources": resources})
    }
}

/// A subresource without a kind of its own shows its resource.
fn kind<'a>(names: &'a Names, subresource: &'a Subresource) -> &'a str {
    if subresource.kind.is_empty() { names.kind } else { subresource.kind }
}

fn put_lists(entry: &mut Value, names: &Names) {
    if !names.short.is_empty() {
        entry["shortNames"] = json!(names.short);
    }
    if !names.categories.is_empty() {
        entry["categories"] = json!(names.categories);
    }
}

/// The first version is the preferred one.
fn api_group(group: &str, all: &[GroupVersion]) -> Value {
    let versions = all.iter().filter(|one| one.group == group);
    let versions: Vec<Value> =
        versions.map(|one| json!({"groupVersion": one.name(), "version": one.version})).collect();
    let preferred = versions.first().cloned();
    json!({"name": group, "versions": versions, "preferredVersion": preferred})
}

fn aggregated(group: &str, all: &[GroupVersion]) -> Value {
    let versions = all.iter().filter(|one| one.group == group).map(GroupVersion::aggregated);
    let versions: Vec<Value> = versions.collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_list(items: Vec<Value>) -> Value {
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    })
}

#[cfg(test)]
mod tests;
