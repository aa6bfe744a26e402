//! The documents that describe the API: kubectl explains from them, and merges by them.

mod wire;

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use super::of_kind;
use super::types::{self, Field, Merge, Shape, Type, Value};
use crate::registry::{Names, Registry, Scope};

const V3_REFERENCES: &str = "#/components/schemas/";

/// A document, and what it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub json: Vec<u8>,
    /// In hexadecimal.
    pub hash: String,
}

impl Document {
    fn of(value: &Json) -> Document {
        let json = value.to_string().into_bytes();
        let hash = Sha256::digest(&json).iter().map(|byte| format!("{byte:02X}")).collect();
        Document { json, hash }
    }
}

/// `/openapi/v3`: where the document of each group version is.
pub fn v3_index(registry: &Registry) -> Document {
    let paths: Map<String, Json> = group_versions(registry)
        .into_iter()
        .map(|(group, version)| {
            let path = root(&group, &version);
            let hash = v3(registry, &group, &version).map(|document| document.hash).unwrap_or_default();
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    Document::of(&json!({"paths": paths}))
}

/// The document of a group version; `None` for one that is not served.
pub fn v3(registry: &Registry, group: &str, version: &str) -> Option<Document> {
    let resources: Vec<&Names> = names(registry, group, version);
    if resources.is_empty() {
        return None;
    }
    let roots = resources.iter().map(|names| of_kind(names.group, names.version, names.kind));
    let schemas: Map<String, Json> = reachable(roots)
        .into_iter()
        .filter_map(types::get)
        .map(|of| (of.name.clone(), schema(of, V3_REFERENCES, registry)))
        .collect();
    let paths: Map<String, Json> = resources.iter().flat_map(|names| paths(names, Dialect::V3)).collect();
    Some(Document::of(&json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "paths": paths,
        "components": {"schemas": schemas},
    })))
}

/// `/openapi/v2`: everything, for kubectl before 1.27. In JSON, and in protobuf.
pub fn v2(registry: &Registry) -> (Document, Vec<u8>) {
    let resources: Vec<&Names> = registry.all().map(|resource| resource.names()).collect();
    let definitions: Map<String, Json> =
        types::all().map(|of| (of.name.clone(), schema(of, "#/definitions/", registry))).collect();
    let paths: Map<String, Json> = resources.iter().flat_map(|names| paths(names, Dialect::V2)).collect();
    let document = json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "paths": paths,
        "definitions": definitions,
    });
    (Document::of(&document), wire::document(&document))
}

fn group_versions(registry: &Registry) -> BTreeSet<(String, String)> {
    registry
        .all()
        .map(|resource| (resource.names().group.to_owned(), resource.names().version.to_owned()))
        .collect()
}

fn names<'a>(registry: &'a Registry, group: &str, version: &str) -> Vec<&'a Names> {
    let all = registry.all().map(|resource| resource.names());
    all.filter(|names| (names.group, names.version) == (group, version)).collect()
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The types that these consist of, themselves included.
fn reachable<'a>(roots: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<&str> = roots.filter(|name| !name.is_empty()).collect();
    while let Some(name) = waiting.pop() {
        let Some(of) = types::get(name).filter(|_| found.insert(name)) else { continue };
        waiting.extend(of.flat().iter().filter_map(|field| match &field.value {
            Value::Object(name) => Some(name.as_str()),
            _ => None,
        }));
    }
    found
}

fn schema(of: &Type, references: &str, registry: &Registry) -> Json {
    let mut properties: Map<String, Json> =
        of.flat().into_iter().map(|field| (field.name.to_owned(), property(field, references))).collect();
    let resource = registry.all().find(|resource| resource.schema() == of.name);
    let mut schema = json!({"type": "object"});
    if let Some(resource) = resource {
        for (name, description) in IDENTITY {
            properties.insert(name.to_owned(), json!({"type": "string", "description": description}));
        }
        let Names { group, version, kind, .. } = resource.names();
        schema["x-kubernetes-group-version-kind"] =
            json!([{"group": group, "version": version, "kind": kind}]);
    }
    if !of.description.is_empty() {
        schema["description"] = of.description.into();
    }
    schema["properties"] = properties.into();
    schema
}

const IDENTITY: [(&str, &str); 2] = [
    ("apiVersion", "The group and version of the API that the object is written in."),
    ("kind", "What the object is."),
];

fn property(field: &Field, references: &str) -> Json {
    let one = value(&field.value, references);
    let mut property = match field.shape {
        Shape::One => one,
        Shape::List => json!({"type": "array", "items": one}),
        Shape::Map => json!({"type": "object", "additionalProperties": one}),
    };
    let strategy = match (field.merge, field.retains_keys) {
        (None, false) => None,
        (None, true) => Some("retainKeys"),
        (Some(_), false) => Some("merge"),
        (Some(_), true) => Some("merge,retainKeys"),
    };
    let mut marks = Map::new();
    if !field.description.is_empty() {
        marks.insert("description".to_owned(), field.description.into());
    }
    if let Some(strategy) = strategy {
        marks.insert("x-kubernetes-patch-strategy".to_owned(), strategy.into());
    }
    if let Some(Merge::By(key)) = field.merge {
        marks.insert("x-kubernetes-patch-merge-key".to_owned(), key.into());
    }
    if field.shape == Shape::List {
        let kind = match (&field.keys[..], field.merge) {
            ([], Some(Merge::Set)) => "set",
            ([], _) => "atomic",
            _ => "map",
        };
        marks.insert("x-kubernetes-list-type".to_owned(), kind.into());
        if !field.keys.is_empty() {
            marks.insert("x-kubernetes-list-map-keys".to_owned(), json!(field.keys));
        }
    }
    // In OpenAPI 3.0 nothing may stand beside a reference; the clients of 2.0 know nothing else.
    if property.get("$ref").is_some() && !marks.is_empty() && references == V3_REFERENCES {
        property = json!({"allOf": [property]});
    }
    if let Json::Object(map) = &mut property {
        map.extend(marks);
    }
    property
}

fn value(value: &Value, references: &str) -> Json {
    match value {
        Value::String | Value::Quantity => json!({"type": "string"}),
        Value::Int32 => json!({"type": "integer", "format": "int32"}),
        Value::Int64 => json!({"type": "integer", "format": "int64"}),
        Value::Double => json!({"type": "number", "format": "double"}),
        Value::Bool => json!({"type": "boolean"}),
        Value::Bytes => json!({"type": "string", "format": "byte"}),
        Value::IntOrString => json!({"type": "string", "format": "int-or-string"}),
        Value::Time | Value::MicroTime => json!({"type": "string", "format": "date-time"}),
        Value::Any => json!({"type": "object"}),
        Value::Object(name) => json!({"$ref": format!("{references}{name}")}),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Dialect {
    V2,
    V3,
}

/// The collection and the object, with what can be done to them.
fn paths(names: &Names, dialect: Dialect) -> Vec<(String, Json)> {
    let root = root(names.group, names.version);
    let base = match names.scope {
        Scope::Namespaced => format!("/{root}/namespaces/{{namespace}}/{}", names.plural),
        Scope::Cluster => format!("/{root}/{}", names.plural),
    };
    let operations = |verbs: &[(&str, &str)]| -> Json {
        let supported = verbs.iter().filter(|(verb, _)| names.verbs.contains(verb));
        let operations: Map<String, Json> =
            supported.map(|(verb, method)| ((*method).to_owned(), operation(names, verb, dialect))).collect();
        operations.into()
    };
    vec![
        (base.clone(), operations(&[("list", "get"), ("create", "post"), ("deletecollection", "delete")])),
        (
            format!("{base}/{{name}}"),
            operations(&[("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")]),
        ),
    ]
}

fn operation(names: &Names, verb: &str, dialect: Dialect) -> Json {
    let action = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    let mut operation = json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": names.group, "version": names.version, "kind": names.kind},
        "responses": {"200": {"description": "OK"}},
    });
    if matches!(verb, "create" | "update" | "patch") {
        // By this parameter kubectl knows that the server checks fields itself.
        let parameters: Vec<Json> = ["dryRun", "fieldManager", "fieldValidation"]
            .iter()
            .map(|name| match dialect {
                Dialect::V2 => json!({"name": name, "in": "query", "type": "string"}),
                Dialect::V3 => json!({"name": name, "in": "query", "schema": {"type": "string"}}),
            })
            .collect();
        operation["parameters"] = parameters.into();
    }
    operation
}
