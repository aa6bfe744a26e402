//! Endpoints: the old form of EndpointSlices, which some clients still read.

use jiff::Timestamp;
use serde_json::Value;

use super::defaults::{fill, maps_in};
use super::table::{AGE, NAME, NONE, age, column, shortened};
use super::{ips, names};
use crate::field::FieldError;
use crate::metadata::syntax;
use crate::object::Object;
use crate::registry::{Column, Context, Names, PutCreates, Resource, Scope, Update};

#[derive(Debug)]
pub(super) struct Endpoints;

const NAMES: Names = Names {
    group: "",
    version: "v1",
    plural: "endpoints",
    singular: "endpoints",
    kind: "Endpoints",
    short: &["ep"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: Names::ALL_VERBS,
};

const COLUMNS: &[Column] =
    &[NAME, column("Endpoints", "string", "Where the pods of the service are.", 0), AGE];

impl Resource for Endpoints {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.Endpoints"
    }

    fn put_creates(&self) -> PutCreates {
        PutCreates::Yes
    }

    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    }

    fn default(&self, object: &mut Object) {
        for subset in maps_in(&mut object.0, "subsets") {
            maps_in(subset, "ports").for_each(|port| fill(port, "protocol", "TCP"));
        }
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        errors(object)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        // What was good enough once is so still.
        if update.new.at(&["subsets"]) == update.old.at(&["subsets"]) {
            Vec::new()
        } else {
            errors(update.new)
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let mut shown = Vec::new();
        for subset in object.list(&["subsets"]) {
            let addresses: Vec<&str> =
                list(subset, "addresses").iter().map(|address| text(address, "ip")).collect();
            let ports = list(subset, "ports");
            if ports.is_empty() {
                shown.extend(addresses.into_iter().map(str::to_owned));
                continue;
            }
            for port in ports {
                let number = number(port);
                shown.extend(addresses.iter().map(|ip| match ip.contains(':') {
                    true => format!("[{ip}]:{number}"),
                    false => format!("{ip}:{number}"),
                }));
            }
        }
        vec![object.name().into(), shortened(shown, NONE).into(), age(object, now).into()]
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(port: &Value) -> i64 {
    port.get("port").and_then(Value::as_i64).unwrap_or_default()
}

fn errors(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, subset) in object.list(&["subsets"]).iter().enumerate() {
        let path = format!("subsets[{index}]");
        if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
            errors
                .push(FieldError::required(path.as_str(), "must specify `addresses` or `notReadyAddresses`"));
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (index, address) in list(subset, field).iter().enumerate() {
                address_errors(address, &format!("{path}.{field}[{index}]"), &mut errors);
            }
        }
        let ports = list(subset, "ports");
        for (index, port) in ports.iter().enumerate() {
            port_errors(port, &format!("{path}.ports[{index}]"), ports.len() > 1, &mut errors);
        }
    }
    errors
}

fn tell(path: String, value: &str, mistakes: Vec<String>, errors: &mut Vec<FieldError>) {
    errors.extend(mistakes.into_iter().map(|mistake| FieldError::invalid(path.as_str(), value, &mistake)));
}

fn address_errors(address: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let ip = text(address, "ip");
    let mut mistakes = ips::legacy_ip(ip);
    mistakes.extend(ips::endpoint_ip(ip));
    tell(format!("{path}.ip"), ip, mistakes, errors);
    let (host, node) = (text(address, "hostname"), text(address, "nodeName"));
    if !host.is_empty() {
        tell(format!("{path}.hostname"), host, names::label(host), errors);
    }
    if !node.is_empty() {
        tell(format!("{path}.nodeName"), node, names::subdomain(node), errors);
    }
}

fn port_errors(port: &Value, path: &str, needs_name: bool, errors: &mut Vec<FieldError>) {
    let name = text(port, "name");
    if !name.is_empty() {
        tell(format!("{path}.name"), name, names::label(name), errors);
    } else if needs_name {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    let own = number(port);
    if !(1..=65_535).contains(&own) {
        let path = format!("{path}.port");
        errors.push(FieldError::invalid(path, own, "must be between 1 and 65535, inclusive"));
    }
    let protocol = text(port, "protocol");
    if !super::PROTOCOLS.contains(&protocol) {
        errors.push(FieldError::not_supported(format!("{path}.protocol"), protocol, &super::PROTOCOLS));
    }
    if let Some(application) = port.get("appProtocol").and_then(Value::as_str) {
        tell(format!("{path}.appProtocol"), application, syntax::qualified_name(application), errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{context, object, texts};

    #[test]
    fn addresses_and_ports_are_checked() {
        let told = |subset: Value| {
            let mut endpoints = object(json!({"subsets": [subset]}));
            Endpoints.default(&mut endpoints);
            texts(&Endpoints.validate_create(&context(), &endpoints))
        };
        assert_eq!(told(json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]})), [""; 0]);
        assert_eq!(
            told(json!({"ports": [{"port": 0}]})),
            [
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ]
        );
        assert_eq!(
            told(json!({"notReadyAddresses": [{"ip": "x"}, {"ip": "127.0.0.1"}]})),
            [
                "subsets[0].notReadyAddresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 \
                 or 2001:db8::ffff)",
                "subsets[0].notReadyAddresses[0].ip: Invalid value: \"x\": must be a valid IP address",
                "subsets[0].notReadyAddresses[1].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range \
                 (127.0.0.0/8, ::1/128)",
            ]
        );
    }

    #[test]
    fn the_row_shows_the_first_three() {
        let shown = |subsets: Value| {
            Endpoints.row(&object(json!({"subsets": subsets})), Timestamp::UNIX_EPOCH)[1].clone()
        };
        assert_eq!(shown(json!([])), "<none>");
        assert_eq!(
            shown(json!([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}])),
            "10.0.0.1,fd00::1"
        );
        let ports = json!([{"port": 80}, {"port": 81}]);
        assert_eq!(
            shown(json!([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": ports}])),
            "10.0.0.1:80,[fd00::1]:80,10.0.0.1:81 + 1 more..."
        );
    }
}
