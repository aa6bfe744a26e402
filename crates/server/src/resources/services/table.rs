//! What `kubectl get services` shows.

use jiff::Timestamp;
use serde_json::Value;

use super::{Spec, node_port, number, text};
use crate::object::Object;
use crate::registry::Column;
use crate::resources::table::{AGE, NAME, NONE, UNKNOWN, age, column, joined, or_none, pairs};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "How the service is exposed.", 0),
    column("Cluster-IP", "string", "The address within the cluster; None for a headless service.", 0),
    column("External-IP", "string", "Addresses outside of the cluster that lead to it.", 0),
    column("Port(s)", "string", "Its ports, with their node ports and protocols.", 0),
    AGE,
    column("Selector", "string", "The labels of the pods behind it.", 1),
];

pub(super) fn row(object: &Object, now: Timestamp) -> Vec<Value> {
    let spec = Spec(object);
    let address = spec.texts("clusterIPs").into_iter().next().unwrap_or_default();
    vec![
        object.name().into(),
        spec.kind().into(),
        or_none(&address).into(),
        external(object).into(),
        ports(object).into(),
        age(object, now).into(),
        pairs(object.at(&["spec", "selector"])).into(),
    ]
}

fn external(object: &Object) -> String {
    let spec = Spec(object);
    let own = spec.texts("externalIPs");
    match spec.kind() {
        "ClusterIP" | "NodePort" => or_none(&joined(own)).to_owned(),
        "LoadBalancer" => {
            let ingress = object.list(&["status", "loadBalancer", "ingress"]).iter();
            let mut given: Vec<String> = ingress
                .map(|entry| [text(entry, "ip"), text(entry, "hostname")])
                .filter_map(|[ip, name]| {
                    [ip, name].into_iter().find(|text| !text.is_empty()).map(str::to_owned)
                })
                .collect();
            given.sort();
            given.dedup();
            given.extend(own);
            if given.is_empty() { "<pending>".to_owned() } else { joined(given) }
        }
        "ExternalName" => spec.text("externalName").to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

fn ports(object: &Object) -> String {
    let texts = Spec(object).ports().iter().map(|port| {
        let (port_number, protocol) = (number(port, "port"), text(port, "protocol"));
        match node_port(port) {
            0 => format!("{port_number}/{protocol}"),
            node => format!("{port_number}:{node}/{protocol}"),
        }
    });
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { NONE.to_owned() } else { joined(texts) }
}
