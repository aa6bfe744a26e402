//! Stored objects, for decisions about requests.

use std::sync::Arc;

use crate::authentication::Accounts;
use crate::authorization::node;
use crate::object::Object;
use crate::registry::{Registry, Resource};
use crate::store::Cache;

/// Objects of the core group, as the cache has them.
#[derive(Debug, Clone)]
pub struct Objects {
    pub cache: Arc<Cache>,
    pub registry: Arc<Registry>,
}

impl Objects {
    fn core(&self, resource: &str) -> Option<&Arc<dyn Resource>> {
        self.registry.find("", "v1", resource)
    }
}

impl node::Objects for Objects {
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        let key = self.core(resource)?.key(namespace, name);
        self.cache.snapshot().get(&key).map(|cached| cached.object())
    }

    fn pods(&self, namespace: &str) -> Vec<Object> {
        let Some(pods) = self.core("pods") else { return Vec::new() };
        let snapshot = self.cache.snapshot();
        snapshot.range(&pods.key_prefix(namespace), None).map(|cached| cached.object()).collect()
    }
}

impl Accounts for Objects {
    fn uid(&self, resource: &str, namespace: &str, name: &str) -> Option<String> {
        node::Objects::get(self, resource, namespace, name).map(|object| object.uid().to_owned())
    }
}
