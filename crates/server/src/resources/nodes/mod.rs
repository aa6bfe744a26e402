//! Nodes.

mod cells;
mod validation;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::defaults::{fill, map_at};
use super::table::{AGE, NAME, column};
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Column, Context, Names, Resource, Scope, Subresource, SubresourceWrite, Update};
use crate::status::ApiError;

#[derive(Debug)]
pub(super) struct Nodes;

const NAMES: Names = Names {
    group: "",
    version: "v1",
    plural: "nodes",
    singular: "node",
    kind: "Node",
    short: &["no"],
    categories: &[],
    scope: Scope::Cluster,
    verbs: Names::ALL_VERBS,
};

const SUBRESOURCES: &[Subresource] = &[
    Subresource {
        name: "proxy",
        verbs: &["create", "delete", "get", "patch", "update"],
        group: "",
        version: "",
        kind: "NodeProxyOptions",
        write: SubresourceWrite::Forwarded,
    },
    Subresource {
        name: "status",
        verbs: &["get", "patch", "update"],
        group: "",
        version: "",
        kind: "Node",
        write: SubresourceWrite::Status,
    },
];

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Whether the node is ready and takes new pods", 0),
    column("Roles", "string", "The roles of the node", 0),
    AGE,
    column("Version", "string", "The version of the node agent", 0),
    column("Internal-IP", "string", "The address inside the cluster", 1),
    column("External-IP", "string", "The address outside the cluster", 1),
    column("OS-Image", "string", "The operating system", 1),
    column("Kernel-Version", "string", "The version of the kernel", 1),
    column("Container-Runtime", "string", "The container runtime and its version", 1),
];

impl Resource for Nodes {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.Node"
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, node: &mut Object) {
        if let Some(spec) = map_at(&mut node.0, "spec") {
            match_first_cidr(spec);
        }
        let Some(status) = map_at(&mut node.0, "status") else { return };
        let capacity = status.get("capacity").cloned().filter(|capacity| *capacity != json!({}));
        if let Some(capacity) = capacity {
            fill(status, "allocatable", capacity);
        }
        if let Some(endpoints) = map_at(status, "daemonEndpoints")
            && let Some(kubelet) = map_at(endpoints, "kubeletEndpoint")
        {
            fill(kubelet, "Port", 0);
        }
        if let Some(info) = map_at(status, "nodeInfo") {
            for field in NODE_INFO {
                fill(info, field, "");
            }
        }
    }

    fn prepare_update(
        &self,
        _context: &Context<'_>,
        new: &mut Object,
        old: &Object,
        subresource: &str,
    ) -> Result<(), ApiError> {
        new.copy(old, if subresource == "status" { &["spec"] } else { &["status"] });
        Ok(())
    }

    fn validate_create(&self, _context: &Context<'_>, node: &Object) -> Vec<FieldError> {
        validation::errors(node)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        validation::update_errors(update.new, update.old)
    }

    fn fields(&self, node: &Object) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", is_unschedulable(node).to_string())]
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, node: &Object, now: Timestamp) -> Vec<Value> {
        cells::row(node, now)
    }
}

/// Fields of `status.nodeInfo` that are always shown.
const NODE_INFO: [&str; 10] = [
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
];

/// `podCIDR` and the first of `podCIDRs` are one and the same.
fn match_first_cidr(spec: &mut Map<String, Value>) {
    let single =
        spec.get("podCIDR").and_then(Value::as_str).filter(|cidr| !cidr.is_empty()).map(str::to_owned);
    let first = spec.get("podCIDRs").and_then(Value::as_array).and_then(|cidrs| cidrs.first()).cloned();
    match (single, first) {
        (None, Some(first)) => drop(spec.insert("podCIDR".to_owned(), first)),
        (Some(single), first) if first.as_ref().and_then(Value::as_str) != Some(&single) => {
            spec.insert("podCIDRs".to_owned(), json!([single]));
        }
        _ => {}
    }
}

fn is_unschedulable(node: &Object) -> bool {
    node.at(&["spec", "unschedulable"]) == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests;
