//! The verbs over a store in memory.

mod create;
mod delete;
mod list;
mod resources;
mod update;
mod watch;

use std::sync::{Arc, LazyLock};

use ipnet::IpNet;
use serde_json::Value;

use super::*;
use crate::registry::Registry;
use crate::selectors::Indexer;
use crate::store::fake::Fake;
use crate::store::{CacheSettings, Indexed, Key, Store, Write};

/// Commits that watches and pages can go back to.
const HISTORY: usize = 20;

struct Kit {
    handlers: Handlers,
    store: Arc<Fake>,
    registry: Registry,
}

fn index(key: &Key, object: &Object) -> Indexed {
    static INDEXER: LazyLock<Indexer> = LazyLock::new(|| Indexer::new(&resources::registry()));
    INDEXER.index(key, object)
}

impl Kit {
    /// With the namespace `default`, at revision 1.
    async fn new() -> Kit {
        let store = Arc::new(Fake::default());
        let settings = CacheSettings { history: HISTORY, watch_buffer: 1000 };
        let cache = Cache::start(store.clone(), index, settings).await.unwrap();
        let range: IpNet = "10.0.0.0/24".parse().unwrap();
        let cluster = ClusterSettings {
            service_ranges: vec![range],
            node_ports: 30_000..=32_767,
            cluster_cidrs: Vec::new(),
            advertise_address: [192, 0, 2, 1].into(),
            secure_port: 6443,
        };
        let kit = Kit { handlers: Handlers::new(cache, cluster), store, registry: resources::registry() };
        kit.create("/api/v1/namespaces", "default").await;
        kit
    }

    /// `path` as in a URL, with parameters.
    fn request(&self, verb: Verb, path: &str, body: &Value) -> Request {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = query.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut parts = path.trim_start_matches('/').split('/');
        let group = if parts.next() == Some("api") { "" } else { parts.next().unwrap() };
        let version = parts.next().unwrap();
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", _, "status" | "finalize"] => ("", rest.as_slice()),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest.as_slice()),
        };
        let at = |i: usize| rest.get(i).copied().unwrap_or_default().to_owned();
        Request {
            resource: self.registry.find(group, version, &at(0)).unwrap().clone(),
            namespace: namespace.to_owned(),
            name: at(1),
            subresource: at(2),
            verb,
            query,
            form: Form::Whole,
            content_type: match verb {
                Verb::Patch => "application/merge-patch+json",
                _ => "application/json",
            }
            .to_owned(),
            body: if body.is_null() { Bytes::new() } else { body.to_string().into() },
            client: "test".to_owned(),
        }
    }

    async fn call(&self, verb: Verb, path: &str, body: &Value) -> Result<(u16, Value), ApiError> {
        let reply = self.handlers.handle(self.request(verb, path, body)).await?;
        Ok(taken_apart(reply))
    }

    /// The answer, which has to be one.
    async fn ok(&self, verb: Verb, path: &str, body: Value) -> Value {
        self.call(verb, path, &body).await.unwrap().1
    }

    async fn err(&self, verb: Verb, path: &str, body: Value) -> ApiError {
        self.call(verb, path, &body).await.unwrap_err()
    }

    async fn get(&self, path: &str) -> Value {
        self.ok(Verb::Get, path, Value::Null).await
    }

    /// A plain object in a collection.
    async fn create(&self, path: &str, name: &str) -> Value {
        self.ok(Verb::Create, path, json!({"metadata": {"name": name}})).await
    }

    async fn revision(&self) -> u64 {
        self.store.latest().await.unwrap()
    }
}

fn taken_apart(reply: Reply) -> (u16, Value) {
    match reply {
        Reply::Json { code, json, .. } => (code.as_u16(), serde_json::from_slice(&json).unwrap()),
        Reply::Events(_) => panic!("an answer was expected, not events"),
    }
}

/// Code, reason and message.
fn told(error: &ApiError) -> (u16, &str, &str) {
    (error.code.as_u16(), error.reason, &error.message)
}

use serde_json::json;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const PODS: &str = "/api/v1/namespaces/default/pods";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}})
}

/// The write of somebody else that touches an object without changing what it says.
fn touch(key: Key, object: &Value) -> Vec<Write> {
    vec![Write { key, value: Some(object.to_string().into()) }]
}
