//! Services: virtual addresses, taken and given back in the transaction that writes the Service.

mod allocate;
mod defaults;
mod families;
mod table;
#[cfg(test)]
mod tests;
mod update;
mod validation;

use jiff::Timestamp;
use serde_json::Value;

use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{
    Column, Context, Names, PutCreates, Resource, Scope, Subresource, SubresourceWrite, Transaction, Update,
};
use crate::status::{ApiError, Subject};

#[derive(Debug)]
pub(super) struct Services;

const NAMES: Names = Names {
    group: "",
    version: "v1",
    plural: "services",
    singular: "service",
    kind: "Service",
    short: &["svc"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: Names::ALL_VERBS,
};

const SUBRESOURCES: &[Subresource] = &[
    Subresource {
        name: "proxy",
        verbs: &["create", "delete", "get", "patch", "update"],
        group: "",
        version: "",
        kind: "ServiceProxyOptions",
        write: SubresourceWrite::Forwarded,
    },
    Subresource {
        name: "status",
        verbs: &["get", "patch", "update"],
        group: "",
        version: "",
        kind: "Service",
        write: SubresourceWrite::Status,
    },
];

/// The error of a Service with these fields.
fn invalid(object: &Object, errors: &[FieldError]) -> ApiError {
    ApiError::invalid(Subject { group: "", kind: "Service", name: object.name() }, errors)
}

/// What the spec says, with what is missing counted as empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec<'a>(&'a Object);

impl<'a> Spec<'a> {
    fn text(self, field: &str) -> &'a str {
        self.0.text(&["spec", field])
    }

    fn has(self, field: &str) -> bool {
        self.0.at(&["spec", field]).is_some_and(|value| !value.is_null())
    }

    fn texts(self, field: &str) -> Vec<String> {
        self.0
            .list(&["spec", field])
            .iter()
            .map(|text| text.as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn ports(self) -> &'a [Value] {
        self.0.list(&["spec", "ports"])
    }

    fn kind(self) -> &'a str {
        self.text("type")
    }

    fn needs_cluster_ip(self) -> bool {
        matches!(self.kind(), "ClusterIP" | "NodePort" | "LoadBalancer")
    }

    fn is_external_name(self) -> bool {
        self.kind() == "ExternalName"
    }

    fn is_headless(self) -> bool {
        self.texts("clusterIPs") == ["None"]
    }

    fn has_selector(self) -> bool {
        self.0
            .at(&["spec", "selector"])
            .and_then(Value::as_object)
            .is_some_and(|selector| !selector.is_empty())
    }

    fn may_have_node_ports(self) -> bool {
        matches!(self.kind(), "NodePort" | "LoadBalancer")
    }

    /// Whether ports that name none get one.
    fn wants_node_ports(self) -> bool {
        let refused = self.0.at(&["spec", "allocateLoadBalancerNodePorts"]) == Some(&Value::Bool(false));
        self.kind() == "NodePort" || (self.kind() == "LoadBalancer" && !refused)
    }

    fn needs_health_check_port(self) -> bool {
        self.kind() == "LoadBalancer" && self.text("externalTrafficPolicy") == "Local"
    }

    fn health_check_port(self) -> i64 {
        self.0.at(&["spec", "healthCheckNodePort"]).and_then(Value::as_i64).unwrap_or_default()
    }

    fn is_externally_accessible(self) -> bool {
        self.may_have_node_ports() || (self.kind() == "ClusterIP" && !self.texts("externalIPs").is_empty())
    }

    /// The node ports that it has, each once.
    fn node_ports(self) -> Vec<i64> {
        let mut ports: Vec<i64> = self.ports().iter().map(node_port).filter(|port| *port != 0).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

fn number(port: &Value, field: &str) -> i64 {
    port.get(field).and_then(Value::as_i64).unwrap_or_default()
}

fn node_port(port: &Value) -> i64 {
    number(port, "nodePort")
}

fn text<'a>(port: &'a Value, field: &str) -> &'a str {
    port.get(field).and_then(Value::as_str).unwrap_or_default()
}

impl Resource for Services {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.Service"
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn put_creates(&self) -> PutCreates {
        PutCreates::Yes
    }

    fn default(&self, object: &mut Object) {
        defaults::set(object);
    }

    fn prepare_create(&self, context: &Context<'_>, object: &mut Object) -> Result<(), ApiError> {
        let address = Spec(object).text("clusterIP").to_owned();
        if !address.is_empty() && Spec(object).texts("clusterIPs").is_empty() {
            object.set(&["spec", "clusterIPs"], vec![Value::from(address)]);
        }
        families::set(context.cluster, object, None)?;
        object.set(&["status"], serde_json::json!({"loadBalancer": {}}));
        Ok(())
    }

    fn prepare_update(
        &self,
        context: &Context<'_>,
        new: &mut Object,
        old: &Object,
        subresource: &str,
    ) -> Result<(), ApiError> {
        if subresource == "status" {
            new.copy(old, &["spec"]);
            return Ok(());
        }
        update::prepare(context.cluster, new, old)
    }

    fn allocate(
        &self,
        context: &Context<'_>,
        new: Option<&mut Object>,
        old: Option<&Object>,
    ) -> Result<Transaction, ApiError> {
        allocate::allocate(context, new, old)
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        super::names::label(name)
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        validation::service(object, None)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        match update.subresource {
            "status" => validation::status(update.new, update.old),
            _ => {
                let mut errors = update::errors(update.new, update.old);
                errors.extend(validation::service(update.new, Some(update.old)));
                errors
            }
        }
    }

    fn warnings(&self, object: &Object, _old: Option<&Object>) -> Vec<String> {
        validation::warnings(object)
    }

    fn delete_returns_object(&self) -> bool {
        true
    }

    fn fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        let spec = Spec(object);
        vec![("spec.clusterIP", spec.text("clusterIP").to_owned()), ("spec.type", spec.kind().to_owned())]
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn columns(&self) -> &'static [Column] {
        table::COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        table::row(object, now)
    }
}
