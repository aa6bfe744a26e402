//! Pods.

mod actions;
mod admission;
mod cells;
mod containers;
mod defaults;
mod qos;
mod quantity;
mod update;
mod validation;

use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) use defaults::fill_spec;
pub(super) use validation::spec_errors;

use super::defaults::{set_first_generation, set_generation};
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Column, Context, Names, Resource, Scope, Subresource, SubresourceWrite, Update};
use crate::status::ApiError;

#[derive(Debug)]
pub(super) struct Pods;

const NAMES: Names = Names {
    group: "",
    version: "v1",
    plural: "pods",
    singular: "pod",
    kind: "Pod",
    short: &["po"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: Names::ALL_VERBS,
};

const SUBRESOURCES: &[Subresource] = &[
    forwarded("attach", &["create", "get"], "PodAttachOptions"),
    Subresource {
        name: "binding",
        verbs: &["create"],
        group: "",
        version: "",
        kind: "Binding",
        write: SubresourceWrite::Own,
    },
    Subresource {
        name: "eviction",
        verbs: &["create"],
        group: "policy",
        version: "v1",
        kind: "Eviction",
        write: SubresourceWrite::Own,
    },
    forwarded("exec", &["create", "get"], "PodExecOptions"),
    forwarded("log", &["get"], "Pod"),
    forwarded("portforward", &["create", "get"], "PodPortForwardOptions"),
    forwarded("proxy", &["create", "delete", "get", "patch", "update"], "PodProxyOptions"),
    Subresource {
        name: "status",
        verbs: &["get", "patch", "update"],
        group: "",
        version: "",
        kind: "Pod",
        write: SubresourceWrite::Status,
    },
];

/// One that the agent of the pod's node answers, or the pod itself.
const fn forwarded(name: &'static str, verbs: &'static [&'static str], kind: &'static str) -> Subresource {
    Subresource { name, verbs, group: "", version: "", kind, write: SubresourceWrite::Forwarded }
}

const NODE_NAME: [&str; 2] = ["spec", "nodeName"];
const PHASE: [&str; 2] = ["status", "phase"];

const FIELDS: [&str; 9] = [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

impl Resource for Pods {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.Pod"
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, pod: &mut Object) {
        defaults::fill_pod(pod);
    }

    fn prepare_create(&self, context: &Context<'_>, pod: &mut Object) -> Result<(), ApiError> {
        admission::admit(context, pod)?;
        pod.set(&["status"], json!({"phase": "Pending", "qosClass": qos::class(pod)}));
        set_first_generation(pod);
        if !pod.list(&["spec", "schedulingGates"]).is_empty() {
            pod.set(
                &["status", "conditions"],
                json!([{
                    "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                    "lastProbeTime": null, "lastTransitionTime": null,
                }]),
            );
        }
        Ok(())
    }

    fn prepare_update(
        &self,
        _context: &Context<'_>,
        new: &mut Object,
        old: &Object,
        subresource: &str,
    ) -> Result<(), ApiError> {
        if subresource == "status" {
            new.copy(old, &["spec"]);
            new.copy(old, &["metadata", "ownerReferences"]);
            if new.text(&["status", "qosClass"]).is_empty() {
                new.copy(old, &["status", "qosClass"]);
            }
        } else {
            new.copy(old, &["status"]);
            for field in ["priority", "preemptionPolicy"] {
                if new.at(&["spec", field]).is_none_or(Value::is_null) {
                    new.copy(old, &["spec", field]);
                }
            }
            admission::tolerate_node_loss(new);
        }
        set_generation(new, old);
        Ok(())
    }

    fn validate_create(&self, _context: &Context<'_>, pod: &Object) -> Vec<FieldError> {
        validation::create_errors(pod)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        match update.subresource {
            "" => update::errors(update.new, update.old),
            _ => Vec::new(),
        }
    }

    fn deletion_grace(&self, pod: &Object, requested: Option<i64>) -> Option<i64> {
        Some(grace_seconds(pod, requested))
    }

    fn delete_returns_object(&self) -> bool {
        true
    }

    fn fields(&self, pod: &Object) -> Vec<(&'static str, String)> {
        let value = |field: &'static str| match field {
            "spec.hostNetwork" => (pod.at(&["spec", "hostNetwork"]) == Some(&Value::Bool(true))).to_string(),
            "status.podIPs" => {
                let addresses = pod.list(&["status", "podIPs"]).iter();
                let texts: Vec<&str> = addresses.filter_map(|address| address.get("ip")?.as_str()).collect();
                texts.join(",")
            }
            field => pod.text(&field.split('.').collect::<Vec<_>>()).to_owned(),
        };
        FIELDS.iter().map(|field| (*field, value(field))).collect()
    }

    fn field_names(&self) -> &'static [&'static str] {
        &FIELDS
    }

    fn columns(&self) -> &'static [Column] {
        cells::COLUMNS
    }

    fn row(&self, pod: &Object, now: Timestamp) -> Vec<Value> {
        cells::row(pod, now)
    }

    fn row_conditions(&self, pod: &Object) -> Vec<Value> {
        cells::conditions(pod)
    }

    fn subresource(
        &self,
        context: &Context<'_>,
        subresource: &str,
        _verb: &str,
        pod: &Object,
        body: Option<&Object>,
    ) -> Result<(Option<Object>, Value), ApiError> {
        let body = body.ok_or_else(|| ApiError::bad_request("the request needs a body"))?;
        let changed = match subresource {
            "binding" => actions::bind(context, pod, body)?,
            "eviction" => actions::evict(pod, body, context.now)?,
            _ => return Err(ApiError::no_such_resource()),
        };
        Ok((Some(changed), actions::success()))
    }
}

/// How long a pod may take to end. One that runs nowhere has nothing to end.
fn grace_seconds(pod: &Object, requested: Option<i64>) -> i64 {
    let is_done = matches!(pod.text(&PHASE), "Succeeded" | "Failed");
    if pod.text(&NODE_NAME).is_empty() || is_done {
        return 0;
    }
    let own = || pod.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    match requested.or_else(own).unwrap_or(30) {
        ..0 => 1,
        seconds => seconds,
    }
}

#[cfg(test)]
mod tests;
