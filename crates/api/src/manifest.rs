//! Objects from YAML or JSON files, as `kubectl apply -f` takes them: several documents a file, and `List` objects.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{EndpointSlice, Node, ObjectKey, Service, ServiceCidr};

/// An object of one of the kinds that the node proxy reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    Service(Service),
    EndpointSlice(EndpointSlice),
    Node(Node),
    ServiceCidr(ServiceCidr),
}

/// Why one object of an otherwise readable file is left out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind} {key}: {reason}")]
pub struct MalformedObject {
    pub kind: Box<str>,
    pub key: ObjectKey,
    pub reason: String,
}

#[derive(Debug, Error)]
pub enum ManifestError {
    /// The text is no YAML (JSON is YAML too), or no object; the message names the line.
    #[error("{0}")]
    Syntax(#[from] Box<serde_saphyr::Error>),
}

/// Reads every object of `text`. Kinds that are none of ours are skipped, so that a folder of whole applications
/// can be followed. Objects without a namespace are in `default`, as with kubectl.
pub fn parse(text: &str) -> Result<Vec<Result<Object, MalformedObject>>, ManifestError> {
    // JSON has a reader ten times as fast. What only looks like JSON (`{kind: List}`) is left to the YAML reader.
    if text.trim_start().starts_with('{') {
        let documents = serde_json::Deserializer::from_str(text).into_iter::<Document>();
        if let Ok(documents) = documents.collect::<Result<Vec<_>, _>>() {
            return Ok(documents.into_iter().flat_map(|document| document.objects).collect());
        }
    }
    let mut objects = Vec::new();
    for document in serde_saphyr::read_with_options::<_, Document>(&mut text.as_bytes(), yaml_options()) {
        objects.extend(document.map_err(Box::new)?.objects);
    }
    Ok(objects)
}

/// Room for the services and endpoints of the largest clusters in one file (150,000 endpoints are 5 million nodes).
/// The limits on aliases, which make a small file large, stay as they are.
fn yaml_options() -> serde_saphyr::Options {
    const MANY: usize = 50_000_000;
    serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: None,
            max_documents: MANY,
            max_nodes: MANY,
            max_events: 2 * MANY,
            max_total_scalar_bytes: 1 << 30,
        },
    }
}

/// One document, read item by item where it is a list, so that only our own small objects pile up.
struct Document {
    objects: Vec<Result<Object, MalformedObject>>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Document, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a Kubernetes object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let (mut fields, mut items) = (Map::new(), None);
                while let Some(name) = map.next_key::<String>()? {
                    if name == "items" {
                        items = Some(map.next_value::<Items>()?);
                    } else {
                        fields.insert(name, map.next_value()?);
                    }
                }
                Ok(Document { objects: read_document(Value::Object(fields), items) })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// What is under `items`: the objects of a list, or whatever else an object of another kind has there.
#[derive(Default)]
struct Items {
    objects: Vec<Result<Object, MalformedObject>>,
    /// Items of a typed list (`ServiceList`) may leave their kind out, and the list's own kind may follow later.
    kindless: Vec<Value>,
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Items, D::Error> {
        struct Sequence;
        impl<'de> Visitor<'de> for Sequence {
            type Value = Items;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of objects")
            }

            fn visit_unit<E>(self) -> Result<Items, E> {
                Ok(Items::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Items, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Items::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Items, A::Error> {
                let mut items = Items::default();
                while let Some(item) = sequence.next_element::<Value>()? {
                    if item.get("kind").is_some() {
                        items.objects.extend(read_value(item));
                    } else {
                        items.kindless.push(item);
                    }
                }
                Ok(items)
            }
        }
        deserializer.deserialize_any(Sequence)
    }
}

/// A document in a list: lists may nest.
fn read_value(mut document: Value) -> Vec<Result<Object, MalformedObject>> {
    let items = document.get_mut("items").map(Value::take);
    let items = items.and_then(|items| serde_json::from_value(items).ok());
    read_document(document, items)
}

fn read_document(document: Value, items: Option<Items>) -> Vec<Result<Object, MalformedObject>> {
    let kind = text_at(&document, "kind");
    let (Some(item_kind), Some(items)) = (kind.strip_suffix("List"), items) else {
        return read_object(&kind, document).into_iter().collect();
    };
    let mut objects = items.objects;
    objects.extend(items.kindless.into_iter().filter_map(|item| read_object(item_kind, item)));
    objects
}

fn read_object(kind: &str, document: Value) -> Option<Result<Object, MalformedObject>> {
    let namespaced = matches!(kind, "Service" | "EndpointSlice");
    let name = |field| document.get("metadata").map(|m| text_at(m, field)).unwrap_or_default();
    let mut key = ObjectKey::new(name("namespace"), name("name"));
    if namespaced && key.namespace.is_empty() {
        key.namespace = "default".into();
    }
    let malformed = |reason: String| MalformedObject { kind: kind.into(), key: key.clone(), reason };
    if key.name.is_empty() && matches!(kind, "Service" | "EndpointSlice" | "Node" | "ServiceCIDR") {
        return Some(Err(malformed("metadata.name is missing".to_owned())));
    }
    let decoded = match kind {
        "Service" => serde_json::from_value(document).map(|mut service: Service| {
            service.metadata.namespace = key.namespace.clone();
            Object::Service(service)
        }),
        "EndpointSlice" => serde_json::from_value(document).map(|mut slice: EndpointSlice| {
            slice.metadata.namespace = key.namespace.clone();
            Object::EndpointSlice(slice)
        }),
        "Node" => serde_json::from_value(document).map(Object::Node),
        "ServiceCIDR" => serde_json::from_value(document).map(Object::ServiceCidr),
        _ => return None,
    };
    Some(decoded.map_err(|error| malformed(error.to_string())))
}

fn text_at(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DB: &str = "
apiVersion: v1
kind: Service
metadata: {name: db-service}
spec:
  clusterIP: 10.103.132.104
  ports: [{port: 3306}]
";

    #[test]
    fn documents_and_lists_are_read_alike() {
        let list = "kind: List\nitems:\n- kind: Node\n  metadata: {name: node-1}\n- kind: ConfigMap\n";
        let objects = parse(&format!("{DB}---\n{list}---\n---\n")).unwrap();
        assert_eq!(objects.len(), 2);
        let Ok(Object::Service(service)) = &objects[0] else { panic!("{objects:?}") };
        assert_eq!(service.metadata.key().to_string(), "default/db-service");
        assert_eq!(service.spec.ports[0].port, 3306);
        assert!(matches!(&objects[1], Ok(Object::Node(node)) if &*node.metadata.name == "node-1"));
    }

    #[test]
    fn a_malformed_object_is_named_and_the_others_are_read() {
        let broken = DB.replace("3306", "three").replace("db-service", "broken");
        let objects = parse(&format!("{broken}---{DB}")).unwrap();
        let error = objects[0].as_ref().unwrap_err();
        assert_eq!((&*error.kind, error.key.to_string()), ("Service", "default/broken".to_owned()));
        assert!(objects[1].is_ok());
    }

    #[test]
    fn json_is_yaml() {
        let objects =
            parse(r#"{"kind":"Service","metadata":{"name":"a","namespace":"b"},"spec":{"ports":null}}"#);
        assert!(
            matches!(&objects.unwrap()[0], Ok(Object::Service(s)) if s.metadata.key().to_string() == "b/a")
        );
    }

    #[test]
    fn items_of_a_typed_list_need_no_kind_wherever_the_list_says_its_own() {
        let items = r#""items":[{"metadata":{"name":"a"}},{"kind":"Node","metadata":{"name":"b"}}]"#;
        for list in [format!(r#"{{"kind":"NodeList",{items}}}"#), format!(r#"{{{items},"kind":"NodeList"}}"#)]
        {
            let objects = parse(&list).unwrap();
            assert!(objects.iter().all(|object| matches!(object, Ok(Object::Node(_)))), "{objects:?}");
            assert_eq!(objects.len(), 2);
            let nested = parse(&format!("kind: List\nitems:\n- {list}\n- {list}")).unwrap();
            assert_eq!(nested.len(), 4);
        }
    }

    #[test]
    fn items_of_a_foreign_object_mean_nothing() {
        for items in ["{a: 1}", "[1, {kind: Node, metadata: {name: a}}]", ""] {
            assert!(parse(&format!("kind: Pod\nitems: {items}\n")).unwrap().is_empty(), "{items}");
        }
    }

    #[test]
    fn several_json_documents_may_follow_each_other() {
        let node = r#"{"kind":"Node","metadata":{"name":"a"}}"#;
        assert_eq!(parse(&format!("{node}\n{node}\n")).unwrap().len(), 2);
    }

    #[test]
    fn a_file_beyond_the_default_limits_of_the_reader_is_read() {
        let documents = format!("{DB}---").repeat(1_100);
        assert_eq!(parse(&documents).unwrap().len(), 1_100);
        let endpoint = "- addresses: [10.0.0.1]\n  conditions: {ready: true}\n".repeat(35_000);
        let slice =
            format!("kind: EndpointSlice\nmetadata: {{name: a}}\naddressType: IPv4\nendpoints:\n{endpoint}");
        let objects = parse(&slice).unwrap();
        assert!(matches!(&objects[0], Ok(Object::EndpointSlice(slice)) if slice.endpoints.len() == 35_000));
    }

    #[test]
    fn text_that_is_no_yaml_is_an_error_of_one_line_with_its_place() {
        for text in ["kind: [", "kind: Service\n  metadata: {}\n", "just words", "{\"kind\": \"Service\","] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("line ") && !error.contains('\n'), "{text:?}: {error}");
        }
    }
}
