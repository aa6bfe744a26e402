//! The ports of a Service, each by itself and all together.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{Spec, node_port, number, text};
use super::{PORT, is_port, mistakes};
use crate::field::{CauseReason, FieldError};
use crate::metadata::syntax;
use crate::object::Object;
use crate::resources::{PROTOCOLS, names};

pub(super) fn each(object: &Object, errors: &mut Vec<FieldError>) {
    let ports = Spec(object).ports();
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = |field: &str| format!("spec.ports[{index}].{field}");
        let name = text(port, "name");
        if !name.is_empty() {
            errors.extend(mistakes(&path("name"), name, names::label(name)));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(path("name"), name));
            }
        } else if ports.len() > 1 {
            errors.push(FieldError::required(path("name"), ""));
        }
        let own = number(port, "port");
        if !is_port(own) {
            errors.push(FieldError::invalid(path("port"), own, PORT));
        }
        let protocol = text(port, "protocol");
        if !PROTOCOLS.contains(&protocol) {
            errors.push(FieldError::not_supported(path("protocol"), protocol, &PROTOCOLS));
        }
        match port.get("targetPort") {
            Some(Value::String(name)) => {
                errors.extend(mistakes(&path("targetPort"), name, names::port_name(name)));
            }
            Some(target) => {
                let target = target.as_i64().unwrap_or_default();
                if !is_port(target) {
                    errors.push(FieldError::invalid(path("targetPort"), target, PORT));
                }
            }
            None => {}
        }
        let application = text(port, "appProtocol");
        if port.get("appProtocol").is_some_and(|value| !value.is_null()) {
            errors.extend(mistakes(&path("appProtocol"), application, syntax::qualified_name(application)));
        }
    }
}

pub(super) fn together(object: &Object, errors: &mut Vec<FieldError>) {
    let ports = Spec(object).ports();
    if Spec(object).kind() == "ClusterIP" {
        let given = ports.iter().enumerate().filter(|(_, port)| node_port(port) != 0);
        errors.extend(given.map(|(index, _)| {
            let path = format!("spec.ports[{index}].nodePort");
            FieldError::forbidden(path, "may not be used when `type` is 'ClusterIP'")
        }));
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate().filter(|(_, port)| node_port(port) != 0) {
        if !seen.insert((text(port, "protocol"), node_port(port))) {
            errors.push(FieldError::duplicate(format!("spec.ports[{index}].nodePort"), node_port(port)));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (protocol, number) = (text(port, "protocol"), number(port, "port"));
        if !seen.insert((protocol, number)) {
            errors.push(FieldError {
                path: format!("spec.ports[{index}]"),
                reason: CauseReason::Duplicate,
                // Upstream shows its own structure, of which it fills two members in for the comparison.
                body: format!(
                    "Duplicate value: {{\"Name\":\"\",\"Protocol\":\"{protocol}\",\"AppProtocol\":null,\
                     \"Port\":{number},\"TargetPort\":0,\"NodePort\":0}}"
                ),
            });
        }
    }
}
