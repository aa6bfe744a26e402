//! The resources that are served: one descriptor each.

mod resource;

use std::sync::Arc;

pub use resource::{
    Column, Context, Names, PutCreates, Resource, Scope, Subresource, SubresourceWrite, Transaction, Update,
};

/// All descriptors, in the order of discovery.
#[derive(Debug, Clone)]
pub struct Registry {
    resources: Vec<Arc<dyn Resource>>,
}

impl Registry {
    pub fn new(resources: Vec<Arc<dyn Resource>>) -> Registry {
        Registry { resources }
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Resource>> {
        self.resources.iter()
    }

    /// By group, version and plural, as they stand in a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<dyn Resource>> {
        self.all().find(|resource| {
            let names = resource.names();
            (names.group, names.version, names.plural) == (group, version, plural)
        })
    }

    pub fn serves(&self, group: &str, version: &str) -> bool {
        self.all().any(|resource| (resource.names().group, resource.names().version) == (group, version))
    }

    /// By group and kind, as owner references have them.
    pub fn find_kind(&self, group: &str, kind: &str) -> Option<&Arc<dyn Resource>> {
        self.all().find(|resource| (resource.names().group, resource.names().kind) == (group, kind))
    }
}
