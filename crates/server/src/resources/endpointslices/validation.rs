//! What is wrong with an EndpointSlice, in the order in which upstream tells it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{PROTOCOLS, ips, names};
use crate::field::FieldError;
use crate::metadata::syntax;
use crate::object::Object;

const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;
const MOST_HINTS: usize = 8;
const MOST_PORTS: usize = 20_000;

pub(super) fn errors(object: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let address_type = object.text(&["addressType"]);
    if address_type.is_empty() {
        errors.push(FieldError::required("addressType", ""));
    } else if !ADDRESS_TYPES.contains(&address_type) {
        errors.push(FieldError::not_supported("addressType", address_type, &ADDRESS_TYPES));
    }
    let endpoints = object.list(&["endpoints"]);
    if endpoints.len() > MOST_ENDPOINTS {
        errors.push(FieldError::too_many("endpoints", endpoints.len(), MOST_ENDPOINTS));
    } else {
        // What was good enough once is so still. Texts are compared since values have no order.
        let known =
            old.map(|old| old.list(&["endpoints"]).iter().map(Value::to_string).collect::<BTreeSet<_>>());
        let is_known =
            |endpoint: &Value| known.as_ref().is_some_and(|known| known.contains(&endpoint.to_string()));
        for (index, one) in endpoints.iter().enumerate().filter(|(_, endpoint)| !is_known(endpoint)) {
            endpoint(one, address_type, &format!("endpoints[{index}]"), &mut errors);
        }
    }
    ports(object.list(&["ports"]), &mut errors);
    errors
}

pub(super) fn warnings(object: &Object) -> Vec<String> {
    let mut found = Vec::new();
    if object.text(&["addressType"]) == "FQDN" {
        return vec!["spec.addressType: FQDN endpoints are deprecated".to_owned()];
    }
    for (index, endpoint) in object.list(&["endpoints"]).iter().enumerate() {
        for (position, address) in list(endpoint, "addresses").iter().enumerate() {
            let path = format!("endpoints[{index}].addresses[{position}]");
            found.extend(address.as_str().and_then(|address| ips::ip_warning(&path, address)));
        }
    }
    found
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn tell(path: &str, value: &str, mistakes: Vec<String>, errors: &mut Vec<FieldError>) {
    errors.extend(mistakes.into_iter().map(|mistake| FieldError::invalid(path, value, &mistake)));
}

fn endpoint(endpoint: &Value, address_type: &str, path: &str, errors: &mut Vec<FieldError>) {
    let all = list(endpoint, "addresses");
    let of_all = format!("{path}.addresses");
    match all.len() {
        0 => errors.push(FieldError::required(of_all.as_str(), "must contain at least 1 address")),
        count if count > MOST_ADDRESSES => {
            errors.push(FieldError::too_many(of_all.as_str(), count, MOST_ADDRESSES));
        }
        _ => {}
    }
    for (index, text) in all.iter().enumerate() {
        address(text.as_str().unwrap_or_default(), address_type, &of_all, index, errors);
    }
    if let Some(node) = endpoint.get("nodeName").and_then(Value::as_str) {
        tell(&format!("{path}.nodeName"), node, names::subdomain(node), errors);
    }
    if let Some(host) = endpoint.get("hostname").and_then(Value::as_str) {
        tell(&format!("{path}.hostname"), host, names::label(host), errors);
    }
    let Some(hints) = endpoint.get("hints") else { return };
    type Rule = fn(&str) -> Vec<String>;
    let kinds: [(&str, Rule); 2] = [("forZones", syntax::label_value), ("forNodes", names::subdomain)];
    for (field, rule) in kinds {
        let path = format!("{path}.hints.{field}");
        let entries = list(hints, field);
        if entries.len() > MOST_HINTS {
            errors.push(FieldError::too_many(path, entries.len(), MOST_HINTS));
            return;
        }
        let mut seen = BTreeSet::new();
        for (index, entry) in entries.iter().enumerate() {
            let path = format!("{path}[{index}].name");
            let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(path.as_str(), name));
            }
            tell(&path, name, rule(name), errors);
        }
    }
}

fn address(text: &str, address_type: &str, of_all: &str, index: usize, errors: &mut Vec<FieldError>) {
    let path = format!("{of_all}[{index}]");
    let is_v4 = match address_type {
        "IPv4" => true,
        "IPv6" => false,
        "FQDN" => {
            let name = text.strip_suffix('.').unwrap_or(text);
            let mut mistakes = names::subdomain(name);
            if !name.contains('.') {
                mistakes.push("should be a domain with at least two segments separated by dots".to_owned());
            }
            return tell(&path, text, mistakes, errors);
        }
        _ => return,
    };
    tell(&path, text, if is_v4 { ips::legacy_ip(text) } else { ips::strict_ip(text) }, errors);
    if let Some(address) = ips::lenient(text) {
        if address.is_ipv4() != is_v4 {
            errors.push(FieldError::invalid(of_all, text, &format!("must be an {address_type} address")));
        }
        tell(&path, text, ips::endpoint_ip(text), errors);
    }
}

fn ports(ports: &[Value], errors: &mut Vec<FieldError>) {
    if ports.len() > MOST_PORTS {
        errors.push(FieldError::too_many("ports", ports.len(), MOST_PORTS));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = |field: &str| format!("ports[{index}].{field}");
        let text = |field: &str| port.get(field).and_then(Value::as_str).unwrap_or_default();
        let name = text("name");
        if !name.is_empty() {
            tell(&path("name"), name, names::label(name), errors);
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(path("name"), name));
        }
        let protocol = text("protocol");
        if !PROTOCOLS.contains(&protocol) {
            errors.push(FieldError::not_supported(path("protocol"), protocol, &PROTOCOLS));
        }
        if let Some(application) = port.get("appProtocol").and_then(Value::as_str) {
            tell(&path("appProtocol"), application, syntax::qualified_name(application), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{object, texts};

    fn told(slice: Value) -> Vec<String> {
        texts(&errors(&object(slice), None))
    }

    fn endpoint_told(address_type: &str, endpoint: Value) -> Vec<String> {
        told(json!({"addressType": address_type, "endpoints": [endpoint]}))
    }

    #[test]
    fn the_address_type_is_one_of_three() {
        assert_eq!(told(json!({})), ["addressType: Required value"]);
        assert_eq!(
            told(json!({"addressType": "IP"})),
            ["addressType: Unsupported value: \"IP\": supported values: \"FQDN\", \"IPv4\", \"IPv6\""]
        );
    }

    #[test]
    fn addresses_are_of_the_type() {
        assert_eq!(endpoint_told("IPv4", json!({"addresses": ["10.0.0.1"]})), [""; 0]);
        assert_eq!(
            endpoint_told("IPv4", json!({"addresses": ["fd00::1"]})),
            ["endpoints[0].addresses: Invalid value: \"fd00::1\": must be an IPv4 address"]
        );
        assert_eq!(
            endpoint_told("IPv6", json!({"addresses": ["FD00::1"]})),
            [
                "endpoints[0].addresses[0]: Invalid value: \"FD00::1\": must be in canonical form (\"fd00::1\")"
            ]
        );
        assert_eq!(
            endpoint_told("FQDN", json!({"addresses": ["localhost"]})),
            [
                "endpoints[0].addresses[0]: Invalid value: \"localhost\": should be a domain with at least two segments \
              separated by dots"
            ]
        );
        assert_eq!(
            endpoint_told("IPv4", json!({})),
            ["endpoints[0].addresses: Required value: must contain at least 1 address"]
        );
    }

    #[test]
    fn there_is_a_limit_to_everything() {
        let endpoints = vec![json!({"addresses": ["10.0.0.1"]}); 1001];
        assert_eq!(
            told(json!({"addressType": "IPv4", "endpoints": endpoints})),
            ["endpoints: Too many: 1001: must have at most 1000 items"]
        );
        let zones: Vec<Value> = (0..9).map(|n| json!({"name": format!("z{n}")})).collect();
        assert_eq!(
            endpoint_told("IPv4", json!({"addresses": ["10.0.0.1"], "hints": {"forZones": zones}})),
            ["endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"]
        );
    }

    #[test]
    fn ports_have_names_of_their_own() {
        let port = json!({"name": "a", "protocol": "TCP"});
        assert_eq!(
            told(json!({"addressType": "IPv4", "ports": [port, port, {"name": "", "protocol": "X"}]})),
            [
                "ports[1].name: Duplicate value: \"a\"",
                "ports[2].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ]
        );
    }

    #[test]
    fn an_endpoint_that_was_there_before_is_left_alone() {
        let old = object(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]}));
        assert_eq!(errors(&old, Some(&old)), []);
        assert_eq!(errors(&old, None).len(), 1);
    }
}
