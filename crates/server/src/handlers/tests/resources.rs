//! A handful of resources, each with one habit that the handlers must know.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{
    Column, Context, Names, PutCreates, Registry, Resource, Scope, Subresource, SubresourceWrite,
    Transaction, Update,
};
use crate::resources::table;
use crate::status::ApiError;
use crate::store::{Key, Write};

pub(super) fn registry() -> Registry {
    use std::sync::Arc;
    Registry::new(vec![
        Arc::new(Namespaces),
        Arc::new(ConfigMaps),
        Arc::new(Services),
        Arc::new(Pods),
        Arc::new(Leases),
        Arc::new(CoreEvents),
        Arc::new(Events),
    ])
}

const fn names(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    scope: Scope,
) -> Names {
    let verbs = Names::ALL_VERBS;
    Names { group, version: "v1", plural, singular, kind, short: &[], categories: &[], scope, verbs }
}

const STATUS: Subresource = Subresource {
    name: "status",
    verbs: &["get", "patch", "update"],
    group: "",
    version: "",
    kind: "",
    write: SubresourceWrite::Status,
};

/// Stays while it has finalizers in its spec.
#[derive(Debug)]
struct Namespaces;

impl Resource for Namespaces {
    fn names(&self) -> &Names {
        const NAMES: Names = Names {
            verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
            ..names("", "namespaces", "namespace", "Namespace", Scope::Cluster)
        };
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.Namespace"
    }

    fn subresources(&self) -> &'static [Subresource] {
        const FINALIZE: Subresource = Subresource {
            name: "finalize",
            verbs: &["update"],
            group: "",
            version: "",
            kind: "Namespace",
            write: SubresourceWrite::Own,
        };
        &[FINALIZE, STATUS]
    }

    fn is_kept(&self, object: &Object) -> bool {
        !object.list(&["spec", "finalizers"]).is_empty()
    }

    fn prepare_delete(&self, _context: &Context<'_>, object: &mut Object) -> Result<(), ApiError> {
        if object.name() == "kube-system" {
            let subject = crate::status::Subject { group: "", kind: "namespaces", name: "kube-system" };
            return Err(ApiError::forbidden(subject, "this namespace may not be deleted"));
        }
        object.set(&["status", "phase"], "Terminating");
        Ok(())
    }

    fn subresource(
        &self,
        _context: &Context<'_>,
        _subresource: &str,
        _verb: &str,
        object: &Object,
        body: Option<&Object>,
    ) -> Result<(Option<Object>, Value), ApiError> {
        let mut changed = object.clone();
        let finalizers = body.map(|body| body.list(&["spec", "finalizers"]).to_vec());
        changed.set(&["spec", "finalizers"], finalizers.unwrap_or_default());
        Ok((Some(changed.clone()), changed.0.into()))
    }
}

/// As plain as can be.
#[derive(Debug)]
struct ConfigMaps;

impl Resource for ConfigMaps {
    fn names(&self) -> &Names {
        const NAMES: Names = names("", "configmaps", "configmap", "ConfigMap", Scope::Namespaced);
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.ConfigMap"
    }
}

/// Has a status, PUT creates it, and `spec.clusterIP` is unique.
#[derive(Debug)]
struct Services;

/// The entry that makes an address unique.
pub(super) fn address_key(address: &str) -> Key {
    Key::object("test", "addresses", "", address)
}

impl Resource for Services {
    fn names(&self) -> &Names {
        const NAMES: Names = names("", "services", "service", "Service", Scope::Namespaced);
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.Service"
    }

    fn subresources(&self) -> &'static [Subresource] {
        const PROXY: Subresource =
            Subresource { name: "proxy", verbs: &["get"], write: SubresourceWrite::Forwarded, ..STATUS };
        &[PROXY, STATUS]
    }

    fn put_creates(&self) -> PutCreates {
        PutCreates::Yes
    }

    fn default(&self, object: &mut Object) {
        if object.text(&["spec", "type"]).is_empty() {
            object.set(&["spec", "type"], "ClusterIP");
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) -> Result<(), ApiError> {
        object.remove(&["status"]);
        Ok(())
    }

    fn prepare_update(
        &self,
        _context: &Context<'_>,
        new: &mut Object,
        old: &Object,
        subresource: &str,
    ) -> Result<(), ApiError> {
        let kept = if subresource == "status" { "spec" } else { "status" };
        match old.at(&[kept]) {
            Some(value) => new.set(&[kept], value.clone()),
            None => drop(new.remove(&[kept])),
        }
        Ok(())
    }

    fn allocate(
        &self,
        context: &Context<'_>,
        new: Option<&mut Object>,
        old: Option<&Object>,
    ) -> Result<Transaction, ApiError> {
        let mut transaction = Transaction::default();
        match (new, old) {
            (Some(new), None) => {
                let mut free = (1..255).map(|last| format!("10.0.0.{last}"));
                let wanted = new.text(&["spec", "clusterIP"]).to_owned();
                let is_free = |address: &String| context.snapshot.get(&address_key(address)).is_none();
                let address = if wanted.is_empty() { free.find(is_free).unwrap() } else { wanted };
                let key = address_key(&address);
                new.set(&["spec", "clusterIP"], address);
                transaction.expectations.push((key.clone(), None));
                transaction.writes.push(Write { key, value: Some("{}".into()) });
            }
            (None, Some(old)) => {
                let key = address_key(old.text(&["spec", "clusterIP"]));
                transaction.writes.push(Write { key, value: None });
            }
            _ => {}
        }
        Ok(transaction)
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        let is_missing = object.list(&["spec", "ports"]).is_empty();
        is_missing.then(|| FieldError::required("spec.ports", "")).into_iter().collect()
    }

    fn validate_update(&self, context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        self.validate_create(context, update.new)
    }

    fn warnings(&self, object: &Object, _old: Option<&Object>) -> Vec<String> {
        let is_old_fashioned = !object.list(&["spec", "externalIPs"]).is_empty();
        is_old_fashioned.then(|| "spec.externalIPs is unwise".to_owned()).into_iter().collect()
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        if name.contains('.') { vec!["must not contain dots".to_owned()] } else { Vec::new() }
    }

    fn delete_returns_object(&self) -> bool {
        true
    }

    fn fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("spec.type", object.text(&["spec", "type"]).to_owned())]
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["spec.type"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[table::NAME, table::column("Type", "string", "How it is reached.", 0), table::AGE];
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), object.text(&["spec", "type"]).into(), table::age(object, now).into()]
    }
}

/// Ends gracefully, and has a generation.
#[derive(Debug)]
struct Pods;

impl Resource for Pods {
    fn names(&self) -> &Names {
        const NAMES: Names = names("", "pods", "pod", "Pod", Scope::Namespaced);
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.Pod"
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) -> Result<(), ApiError> {
        object.set(&["metadata", "generation"], 1);
        Ok(())
    }

    fn deletion_grace(&self, _object: &Object, requested: Option<i64>) -> Option<i64> {
        Some(requested.unwrap_or(30)).filter(|seconds| *seconds > 0)
    }

    fn delete_returns_object(&self) -> bool {
        true
    }
}

/// PUT must say which state it starts from.
#[derive(Debug)]
struct Leases;

impl Resource for Leases {
    fn names(&self) -> &Names {
        const NAMES: Names = names("coordination.k8s.io", "leases", "lease", "Lease", Scope::Namespaced);
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.coordination.v1.Lease"
    }

    fn put_creates(&self) -> PutCreates {
        PutCreates::Yes
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }
}

/// What both views of events store.
#[derive(Debug)]
struct CoreEvents;

impl Resource for CoreEvents {
    fn names(&self) -> &Names {
        const NAMES: Names = names("", "events", "event", "Event", Scope::Namespaced);
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.Event"
    }

    fn fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("involvedObject.kind", object.text(&["involvedObject", "kind"]).to_owned())]
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["involvedObject.kind"]
    }

    fn expires(&self) -> bool {
        true
    }
}

/// Another view of the same objects.
#[derive(Debug)]
struct Events;

const RENAMED: [(&str, &str); 2] = [("involvedObject", "regarding"), ("message", "note")];

impl Resource for Events {
    fn names(&self) -> &Names {
        const NAMES: Names = names("events.k8s.io", "events", "event", "Event", Scope::Namespaced);
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.events.v1.Event"
    }

    fn key(&self, namespace: &str, name: &str) -> Key {
        CoreEvents.key(namespace, name)
    }

    fn key_prefix(&self, namespace: &str) -> String {
        CoreEvents.key_prefix(namespace)
    }

    fn read_stored(&self, object: &mut Object) {
        for (stored, shown) in RENAMED {
            if let Some(value) = object.remove(&[stored]) {
                object.set(&[shown], value);
            }
        }
    }

    fn write_stored(&self, object: &mut Object) {
        for (stored, shown) in RENAMED {
            if let Some(value) = object.remove(&[shown]) {
                object.set(&[stored], value);
            }
        }
        object.set(&["apiVersion"], json!("v1"));
    }

    fn fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("regarding.kind", object.text(&["regarding", "kind"]).to_owned())]
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["regarding.kind"]
    }
}
