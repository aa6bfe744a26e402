//! Label and field selectors of lists and watches, and what they look at.

mod fields;
mod labels;

use std::sync::{Arc, LazyLock};

use fields::FieldTerm;
use labels::Requirement;

use crate::object::Object;
use crate::registry::{Registry, Resource};
use crate::status::ApiError;
use crate::store::{CachedObject, Indexed, Key};

/// What a request wants to see. Without terms: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selectors {
    labels: Vec<Requirement>,
    fields: Vec<FieldTerm>,
}

impl Selectors {
    /// From the parameters `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// 400 for what cannot be understood and for fields that the resource cannot be selected by.
    pub fn parse(resource: &dyn Resource, labels: &str, fields: &str) -> Result<Selectors, ApiError> {
        let labels = labels::parse(labels).map_err(ApiError::bad_request)?;
        let fields = fields::parse(fields).map_err(ApiError::bad_request)?;
        for term in &fields {
            term.check(resource).map_err(ApiError::bad_request)?;
        }
        Ok(Selectors { labels, fields })
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub fn matches(&self, object: &CachedObject) -> bool {
        self.match_indexed(&object.key, &object.indexed)
    }

    fn match_indexed(&self, key: &Key, indexed: &Indexed) -> bool {
        self.labels.iter().all(|requirement| requirement.matches(&indexed.labels))
            && self.fields.iter().all(|term| term.matches(key, &indexed.fields))
    }

    /// Of what is selected, that with a name.
    pub fn and_name(mut self, name: &str) -> Selectors {
        self.fields.push(FieldTerm::name(name));
        self
    }

    /// The only name that can match, if the selector says so. Clients watch single objects that way.
    pub fn only_name(&self) -> Option<&str> {
        self.fields.iter().find_map(FieldTerm::only_name)
    }
}

/// Works out what selectors ask of an object, for the [`Cache`](crate::store::Cache).
#[derive(Debug)]
pub struct Indexer {
    /// Several resources may be views of the same objects; each has its own names for the fields.
    resources: Vec<(String, Arc<dyn Resource>)>,
}

impl Indexer {
    pub fn new(registry: &Registry) -> Indexer {
        let selectable = registry.all().filter(|resource| !resource.field_names().is_empty());
        Indexer {
            resources: selectable.map(|resource| (resource.key_prefix(""), resource.clone())).collect(),
        }
    }

    /// `object` is in the stored form.
    pub fn index(&self, key: &Key, object: &Object) -> Indexed {
        let labels = object.labels().into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let mut fields = Vec::new();
        for (_, resource) in self.resources.iter().filter(|(prefix, _)| key.as_str().starts_with(prefix)) {
            let mut view = object.clone();
            resource.read_stored(&mut view);
            fields.extend(resource.fields(&view).into_iter().map(|(name, value)| (name, value.into())));
        }
        Indexed { labels, fields }
    }
}

/// The [`IndexFn`](crate::store::IndexFn) of the resources that are served.
pub fn index(key: &Key, object: &Object) -> Indexed {
    static INDEXER: LazyLock<Indexer> =
        LazyLock::new(|| Indexer::new(&Registry::new(crate::resources::all())));
    INDEXER.index(key, object)
}

#[cfg(test)]
mod tests;
