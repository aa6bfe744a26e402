//! What a node may do to which objects, beyond what the path of a request tells: it writes about itself and the pods
//! that it runs, and sees the secrets of those only. (Upstream: the node authorizer and the admission plugin
//! NodeRestriction.)

use serde_json::Value;

use crate::handlers::Verb;
use crate::http::ResourceInfo;
use crate::object::Object;
use crate::status::{ApiError, Subject};

/// Labels that only an operator sets, so that nodes cannot pull workloads to themselves.
const RESERVED_LABELS: &str = "node-restriction.kubernetes.io/";

/// The objects that a decision depends on.
pub trait Objects {
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Object>;
    /// Of one namespace.
    fn pods(&self, namespace: &str) -> Vec<Object>;
}

/// # Errors
/// 403 if the node may not. `name` is the only object that the request is about, if there is but one. `body` is what was
/// sent: the object, or the patch; `None` without one that could be read.
pub fn check(
    node: &str,
    info: &ResourceInfo,
    name: &str,
    body: Option<&Value>,
    objects: &dyn Objects,
) -> Result<(), ApiError> {
    let request = Request { node, info, name, body, objects };
    let Some(verb) = info.verb else { return Ok(()) };
    match (info.group.as_str(), info.resource.as_str(), info.subresource.as_str(), verb) {
        ("", "nodes", "", Verb::Create | Verb::Update | Verb::Patch) => request.own_node(),
        ("", "pods", "", Verb::Delete) | ("", "pods", "status" | "eviction", _) => request.own_pod(),
        ("", "secrets", "", _) => request.secret(),
        ("", "serviceaccounts", "token", _) => request.token(),
        ("coordination.k8s.io", "leases", "", Verb::Create) => request.own_lease(),
        _ => Ok(()),
    }
}

/// Whether [`check`] has to see the body.
pub fn needs_body(info: &ResourceInfo) -> bool {
    let writes = matches!(info.verb, Some(Verb::Create | Verb::Update | Verb::Patch));
    writes
        && matches!(
            (info.resource.as_str(), info.subresource.as_str()),
            ("nodes" | "leases", "") | ("serviceaccounts", "token")
        )
}

struct Request<'a> {
    node: &'a str,
    info: &'a ResourceInfo,
    name: &'a str,
    body: Option<&'a Value>,
    objects: &'a dyn Objects,
}

impl Request<'_> {
    fn refuse(&self, why: &str) -> Result<(), ApiError> {
        let ResourceInfo { group, resource, .. } = self.info;
        let name = if self.name.is_empty() { self.text("/metadata/name") } else { self.name };
        Err(ApiError::forbidden(Subject { group, kind: resource, name }, why))
    }

    fn text(&self, pointer: &str) -> &str {
        self.body.and_then(|body| body.pointer(pointer)).and_then(Value::as_str).unwrap_or_default()
    }

    /// The name in the object has to be the node's, since the path of a create has none; so has no taint to be touched,
    /// and no label of the operator's.
    fn own_node(&self) -> Result<(), ApiError> {
        let Some(body) = self.body else { return self.refuse("the request cannot be read as JSON") };
        let node = self.node;
        if self.info.verb == Some(Verb::Create) {
            let name = self.text("/metadata/name");
            if name != node {
                return self.refuse(&format!("node {node:?} is not allowed to modify node {name:?}"));
            }
        }
        if self.info.verb == Some(Verb::Patch) {
            return match only_touches_metadata(body) {
                true => Ok(()),
                false => self
                    .refuse(&format!("node {node:?} is not allowed to modify its spec or reserved labels")),
            };
        }
        let old = self.objects.get("nodes", "", node).unwrap_or_default();
        let is_update = self.info.verb == Some(Verb::Update);
        let new = Object(body.as_object().cloned().unwrap_or_default());
        if is_update && new.list(&["spec", "taints"]) != old.list(&["spec", "taints"]) {
            return self.refuse(&format!("node {node:?} is not allowed to modify taints"));
        }
        let reserved = |object: &Object| -> Vec<(String, String)> {
            let labels = object.labels().into_iter().filter(|(key, _)| is_reserved(key));
            labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        if reserved(&new) != reserved(&old) {
            return self
                .refuse(&format!("node {node:?} is not allowed to modify labels of {RESERVED_LABELS}"));
        }
        Ok(())
    }

    fn own_pod(&self) -> Result<(), ApiError> {
        match self.objects.get("pods", &self.info.namespace, self.name) {
            Some(pod) if pod.text(&["spec", "nodeName"]) != self.node => {
                let why = format!("node {:?} can only change pods that are bound to it", self.node);
                self.refuse(&why)
            }
            // That there is none, the request itself will tell.
            _ => Ok(()),
        }
    }

    fn secret(&self) -> Result<(), ApiError> {
        let namespace = &self.info.namespace;
        let mut pods = self.own_pods(namespace);
        if pods.any(|pod| pod.at(&["spec"]).is_some_and(|spec| mentions_secret(spec, self.name))) {
            return Ok(());
        }
        self.refuse(&format!("no relationship found between node '{}' and this object", self.node))
    }

    /// A token for a pod that this node runs, as the account that the pod has.
    fn token(&self) -> Result<(), ApiError> {
        let is_bound = self.text("/spec/boundObjectRef/kind") == "Pod";
        let pod = self.text("/spec/boundObjectRef/name");
        let uid = self.text("/spec/boundObjectRef/uid");
        let found = self.own_pods(&self.info.namespace).find(|own| own.name() == pod);
        match found.filter(|pod| is_bound && pod.uid() == uid) {
            Some(pod) if pod.text(&["spec", "serviceAccountName"]) == self.info.name => Ok(()),
            _ => self.refuse(&format!(
                "node {:?} can only request tokens that are bound to its own pods",
                self.node
            )),
        }
    }

    fn own_lease(&self) -> Result<(), ApiError> {
        match self.text("/metadata/name") == self.node {
            true => Ok(()),
            false => self.refuse("can only access node lease with the same name as the requesting node"),
        }
    }

    fn own_pods(&self, namespace: &str) -> impl Iterator<Item = Object> {
        let pods = self.objects.pods(namespace).into_iter();
        pods.filter(|pod| pod.text(&["spec", "nodeName"]) == self.node)
    }
}

/// Whether a patch of a Node, of whatever kind, leaves everything alone but its status and plain metadata.
fn only_touches_metadata(patch: &Value) -> bool {
    let is_plain = |field: &str| matches!(field, "apiVersion" | "kind" | "metadata" | "status");
    match patch {
        Value::Object(fields) => {
            let labels = patch.pointer("/metadata/labels");
            let labels = match labels {
                None => true,
                Some(Value::Object(labels)) => {
                    labels.keys().all(|key| !is_reserved(key) && !key.starts_with('$'))
                }
                Some(_) => false,
            };
            let metadata = patch.get("metadata").map_or(Some(true), |metadata| {
                Some(metadata.as_object()?.keys().all(|key| !key.starts_with('$')))
            });
            labels && metadata == Some(true) && fields.keys().all(|field| is_plain(field))
        }
        Value::Array(operations) => operations.iter().all(|operation| {
            let places = ["path", "from"].into_iter().filter_map(|field| operation.get(field)?.as_str());
            let mut places = places.peekable();
            places.peek().is_some()
                && places.all(|place| {
                    let is_label = place.strip_prefix("/metadata/labels/");
                    let label = is_label.map(|key| key.replace("~1", "/").replace("~0", "~"));
                    label.is_some_and(|key| !is_reserved(&key)) || place.starts_with("/metadata/annotations/")
                })
        }),
        _ => false,
    }
}

fn is_reserved(label: &str) -> bool {
    let prefix = label.split_once('/').map_or("", |(prefix, _)| prefix);
    let reserved = RESERVED_LABELS.trim_end_matches('/');
    prefix.strip_suffix(reserved).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a pod's spec refers to a secret: in volumes, in the environment, or to pull images.
fn mentions_secret(spec: &Value, name: &str) -> bool {
    let is_named = |value: Option<&Value>| value.and_then(Value::as_str) == Some(name);
    match spec {
        Value::Object(fields) => fields.iter().any(|(field, value)| match field.as_str() {
            "secretName" => is_named(Some(value)),
            "secretRef" | "secretKeyRef" | "nodePublishSecretRef" if is_named(value.get("name")) => true,
            "secret" if is_named(value.get("name")) || is_named(value.get("secretName")) => true,
            "imagePullSecrets" => value
                .as_array()
                .is_some_and(|secrets| secrets.iter().any(|secret| is_named(secret.get("name")))),
            _ => mentions_secret(value, name),
        }),
        Value::Array(items) => items.iter().any(|item| mentions_secret(item, name)),
        _ => false,
    }
}
