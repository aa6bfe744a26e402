//! Objects from YAML or JSON files, as `kubectl apply -f` takes them: several documents a file, and `List` objects.

use serde_json::Value;
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
    /// The file is no YAML (JSON is YAML too); the message shows the line.
    #[error("{0}")]
    Syntax(#[from] serde_saphyr::Error),
}

/// Reads every object of `text`. Kinds that are none of ours are skipped, so that a folder of whole applications
/// can be followed. Objects without a namespace are in `default`, as with kubectl.
pub fn parse(text: &str) -> Result<Vec<Result<Object, MalformedObject>>, ManifestError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let mut objects = Vec::new();
    for document in documents {
        read_document(document, &mut objects);
    }
    Ok(objects)
}

fn read_document(mut document: Value, objects: &mut Vec<Result<Object, MalformedObject>>) {
    let kind = text_at(&document, "kind");
    if kind.ends_with("List") && document.get("items").is_some_and(Value::is_array) {
        let Some(Value::Array(items)) = document.get_mut("items").map(Value::take) else { return };
        let item_kind = kind.trim_end_matches("List");
        for mut item in items {
            // Items of a typed list (ServiceList) may leave their kind out.
            if let (Value::Object(fields), false) = (&mut item, item_kind.is_empty()) {
                fields.entry("kind").or_insert_with(|| item_kind.into());
            }
            read_document(item, objects);
        }
        return;
    }
    objects.extend(read_object(&kind, document));
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
        let objects = parse(r#"{"kind":"Service","metadata":{"name":"a","namespace":"b"},"spec":{"ports":null}}"#);
        assert!(matches!(&objects.unwrap()[0], Ok(Object::Service(s)) if s.metadata.key().to_string() == "b/a"));
    }

    #[test]
    fn text_that_is_no_yaml_is_an_error() {
        assert!(parse("kind: [").is_err());
    }
}
