//! How stored objects are shown: in the version of the path, as a whole, as rows of a table, or their metadata only.
//!
//! Whole objects are copied as the bytes that the cache holds. Only where another form is asked for are they parsed.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::Object;
use crate::registry::Resource;
use crate::status::ApiError;
use crate::store::{CachedObject, Revision};

/// What a client asks to see of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Whole,
    /// `version` of `meta.k8s.io`: `v1` or `v1beta1`.
    Table {
        version: &'static str,
        include: Include,
    },
    Metadata {
        version: &'static str,
    },
}

/// What a row of a table says of its object besides the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Include {
    /// The parameter `includeObject`.
    pub fn parse(text: &str) -> Result<Include, ApiError> {
        match text {
            "" | "Metadata" => Ok(Include::Metadata),
            "None" => Ok(Include::Nothing),
            "Object" => Ok(Include::Object),
            other => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// The metadata of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ListMeta {
    pub(super) revision: Revision,
    /// Empty on the last page.
    pub(super) continue_token: String,
    pub(super) remaining: Option<usize>,
}

impl ListMeta {
    fn to_json(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if !self.continue_token.is_empty() {
            metadata["continue"] = self.continue_token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

/// A resource as a client sees it.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) resource: Arc<dyn Resource>,
    pub(super) form: Form,
    /// How objects begin that are stored in this version's form: serde_json sorts the fields.
    prefix: Vec<u8>,
}

impl View {
    pub(super) fn new(resource: &Arc<dyn Resource>, form: Form) -> View {
        let names = resource.names();
        let prefix = format!("{{\"apiVersion\":\"{}\",\"kind\":\"{}\",", names.api_version(), names.kind);
        View { resource: resource.clone(), form, prefix: prefix.into_bytes() }
    }

    /// An object in this version's form.
    pub(super) fn object(&self, cached: &CachedObject) -> Object {
        visible(&*self.resource, cached.object())
    }

    /// A single object from the cache.
    pub(super) fn cached(&self, cached: &CachedObject, now: Timestamp) -> Bytes {
        match self.form {
            Form::Whole if cached.json.starts_with(&self.prefix) => cached.json.clone(),
            _ => self.single(self.object(cached), now),
        }
    }

    /// A single object in this version's form.
    pub(super) fn single(&self, object: Object, now: Timestamp) -> Bytes {
        let shown = match self.form {
            Form::Whole => object.0.into(),
            Form::Metadata { version } => metadata_only(object, version),
            Form::Table { version, include } => {
                let metadata = json!({"resourceVersion": object.resource_version()});
                let rows = vec![self.row(object, now, version, include)];
                table(version, metadata, self.columns(), rows)
            }
        };
        shown.to_string().into()
    }

    pub(super) fn list(&self, items: &[Arc<CachedObject>], metadata: &ListMeta, now: Timestamp) -> Bytes {
        let metadata = metadata.to_json();
        let objects = || items.iter().map(|cached| self.object(cached));
        match self.form {
            Form::Whole => self.whole_list(items, &metadata),
            Form::Metadata { version } => {
                let items: Vec<Value> = objects().map(|object| metadata_only(object, version)).collect();
                let api_version = format!("meta.k8s.io/{version}");
                json!({"kind": "PartialObjectMetadataList", "apiVersion": api_version, "metadata": metadata, "items": items})
                    .to_string()
                    .into()
            }
            Form::Table { version, include } => {
                let rows = objects().map(|object| self.row(object, now, version, include)).collect();
                table(version, metadata, self.columns(), rows).to_string().into()
            }
        }
    }

    fn whole_list(&self, items: &[Arc<CachedObject>], metadata: &Value) -> Bytes {
        let names = self.resource.names();
        let size: usize = items.iter().map(|item| item.json.len()).sum();
        let mut json = Vec::with_capacity(size.saturating_add(256));
        let head = format!(
            "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
            names.kind,
            names.api_version()
        );
        json.extend_from_slice(head.as_bytes());
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                json.push(b',');
            }
            // Items of a list have neither kind nor version, which are those of the list.
            match item.json.strip_prefix(self.prefix.as_slice()) {
                Some(rest) => {
                    json.push(b'{');
                    json.extend_from_slice(rest);
                }
                None => {
                    let mut object = self.object(item);
                    object.remove(&["kind"]);
                    object.remove(&["apiVersion"]);
                    json.extend_from_slice(Value::from(object.0).to_string().as_bytes());
                }
            }
        }
        json.extend_from_slice(b"]}");
        json.into()
    }

    /// The object of a watch event: `is_first` says whether a table has to name its columns.
    pub(super) fn event_object(&self, object: &Watched<'_>, is_first: bool, now: Timestamp) -> Bytes {
        if let (Form::Whole, Watched::Cached(cached)) = (self.form, object) {
            return self.cached(cached, now);
        }
        let object = match object {
            Watched::Cached(cached) => self.object(cached),
            Watched::Changed(object) => (*object).clone(),
        };
        match self.form {
            Form::Table { version, include } => {
                let metadata = json!({"resourceVersion": object.resource_version()});
                let columns = if is_first { self.columns() } else { Value::Null };
                let rows = vec![self.row(object, now, version, include)];
                table(version, metadata, columns, rows).to_string().into()
            }
            _ => self.single(object, now),
        }
    }

    /// The object of a bookmark.
    pub(super) fn bookmark(&self, revision: Revision, ends_initial: bool, is_first: bool) -> Bytes {
        let names = self.resource.names();
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let shown = match self.form {
            Form::Whole => {
                json!({"kind": names.kind, "apiVersion": names.api_version(), "metadata": metadata})
            }
            Form::Metadata { version } => {
                let api_version = format!("meta.k8s.io/{version}");
                json!({"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": metadata})
            }
            Form::Table { version, .. } => {
                let api_version = format!("meta.k8s.io/{version}");
                let cells = vec![Value::from(""); self.resource.columns().len()];
                let object =
                    json!({"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": metadata});
                let rows = vec![json!({"cells": cells, "object": object})];
                let columns = if is_first { self.columns() } else { Value::Null };
                table(version, json!({"resourceVersion": revision.to_string()}), columns, rows)
            }
        };
        shown.to_string().into()
    }

    fn columns(&self) -> Value {
        let columns = self.resource.columns().iter().map(|column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        });
        columns.collect()
    }

    fn row(&self, object: Object, now: Timestamp, version: &str, include: Include) -> Value {
        let mut row = json!({"cells": self.resource.row(&object, now)});
        let conditions = self.resource.row_conditions(&object);
        if !conditions.is_empty() {
            row["conditions"] = conditions.into();
        }
        row["object"] = match include {
            Include::Nothing => Value::Null,
            Include::Metadata => metadata_only(object, version),
            Include::Object => object.0.into(),
        };
        row
    }
}

/// What an event is about: an object as the cache has it, or another state of it in this version's form.
#[derive(Debug)]
pub(super) enum Watched<'a> {
    Cached(&'a CachedObject),
    Changed(Object),
}

fn metadata_only(mut object: Object, version: &str) -> Value {
    let metadata = object.remove(&["metadata"]).unwrap_or_default();
    json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
}

fn table(version: &str, metadata: Value, columns: Value, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    })
}

/// From the stored form to that of a resource's version.
pub(super) fn visible(resource: &dyn Resource, mut stored: Object) -> Object {
    resource.read_stored(&mut stored);
    let names = resource.names();
    stored.set(&["apiVersion"], names.api_version());
    stored.set(&["kind"], names.kind);
    stored
}

/// The bytes to store: without the resourceVersion, which is the revision of the commit.
pub(super) fn stored(resource: &dyn Resource, object: &Object) -> Bytes {
    let mut object = object.clone();
    object.remove(&["metadata", "resourceVersion"]);
    resource.write_stored(&mut object);
    Value::from(object.0).to_string().into()
}
