//! Services as clients write them, through the handlers and a store in memory.

mod addresses;
mod ports;
mod rules;
mod updates;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::allocation::ClusterSettings;
use crate::handlers::{Form, Handlers, Reply, Request, Verb};
use crate::object::Object;
use crate::registry::Registry;
use crate::selectors::Indexer;
use crate::store::fake::Fake;
use crate::store::{Cache, CacheSettings, Indexed, Key};

/// A cluster with the namespace `default` and a ServiceCIDR.
struct Cluster {
    handlers: Handlers,
    registry: Registry,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::new(crate::resources::all()));

fn index(key: &Key, object: &Object) -> Indexed {
    static INDEXER: LazyLock<Indexer> = LazyLock::new(|| Indexer::new(&REGISTRY));
    INDEXER.index(key, object)
}

/// An answer: the object, and the warnings that came with it.
type Answer = (Value, Vec<String>);

impl Cluster {
    async fn single_stack() -> Cluster {
        Cluster::with(&["10.0.0.0/24"], 30_000..=32_767).await
    }

    async fn dual_stack() -> Cluster {
        Cluster::with(&["10.0.0.0/24", "fd00:10::/112"], 30_000..=32_767).await
    }

    async fn with(ranges: &[&str], node_ports: std::ops::RangeInclusive<u16>) -> Cluster {
        let settings = CacheSettings { history: 100, watch_buffer: 10 };
        let cache = Cache::start(Arc::new(Fake::default()), index, settings).await.unwrap();
        let cluster = ClusterSettings {
            service_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            node_ports,
            cluster_cidrs: Vec::new(),
            advertise_address: [192, 0, 2, 1].into(),
            secure_port: 6443,
        };
        let cluster = Cluster { handlers: Handlers::new(cache, cluster), registry: REGISTRY.clone() };
        cluster
            .write(Verb::Create, "namespaces", "", "", json!({"metadata": {"name": "default"}}))
            .await
            .unwrap();
        let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ranges}});
        cluster.write(Verb::Create, "servicecidrs", "", "", range).await.unwrap();
        cluster
    }

    /// The message of what goes wrong. `name` may have a subresource: `web/status`.
    async fn write(
        &self,
        verb: Verb,
        plural: &str,
        name: &str,
        query: &str,
        body: Value,
    ) -> Result<Answer, String> {
        let resource =
            self.registry.all().find(|resource| resource.names().plural == plural).unwrap().clone();
        let namespaced = resource.names().scope == crate::registry::Scope::Namespaced;
        let (name, subresource) = name.split_once('/').unwrap_or((name, ""));
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        let request = Request {
            resource,
            namespace: if namespaced { "default" } else { "" }.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            verb,
            query: query.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            form: Form::Whole,
            content_type: match verb {
                Verb::Patch => "application/merge-patch+json",
                _ => "application/json",
            }
            .to_owned(),
            body: if body.is_null() { Bytes::new() } else { body.to_string().into() },
            client: "test".to_owned(),
        };
        match self.handlers.handle(request).await.map_err(|error| error.message)? {
            Reply::Json { json, warnings, .. } => Ok((serde_json::from_slice(&json).unwrap(), warnings)),
            Reply::Events(_) => panic!("an answer was expected, not events"),
        }
    }

    async fn try_create(&self, name: &str, spec: Value) -> Result<Value, String> {
        let body = json!({"metadata": {"name": name}, "spec": spec});
        self.write(Verb::Create, "services", "", "", body).await.map(|(object, _)| object)
    }

    async fn create(&self, name: &str, spec: Value) -> Value {
        self.try_create(name, spec).await.unwrap()
    }

    /// What is wrong with a spec, without the words before it.
    async fn refused(&self, spec: Value) -> String {
        let message = self.try_create("x", spec).await.unwrap_err();
        message.trim_start_matches("Service \"x\" is invalid: ").to_owned()
    }

    async fn try_patch(&self, name: &str, patch: Value) -> Result<Value, String> {
        self.write(Verb::Patch, "services", name, "", patch).await.map(|(object, _)| object)
    }

    async fn patch(&self, name: &str, spec: Value) -> Value {
        self.try_patch(name, json!({"spec": spec})).await.unwrap()
    }

    async fn replace(&self, name: &str, spec: Value) -> Result<Value, String> {
        let body = json!({"metadata": {"name": name}, "spec": spec});
        self.write(Verb::Update, "services", name, "", body).await.map(|(object, _)| object)
    }

    async fn delete(&self, name: &str) -> Value {
        self.write(Verb::Delete, "services", name, "", Value::Null).await.unwrap().0
    }

    /// The addresses that are taken, and by whom.
    async fn addresses(&self) -> Vec<(String, String)> {
        let list = self.write(Verb::List, "ipaddresses", "", "", Value::Null).await.unwrap().0;
        let items = list["items"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        items
            .map(|item| (text(&item["metadata"]["name"]), text(&item["spec"]["parentRef"]["name"])))
            .collect()
    }
}

fn port(number: i64) -> Value {
    json!([{"port": number}])
}
