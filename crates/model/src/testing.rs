//! For tests of this crate and of those that use it: a Forwarding from the YAML an operator would write.

use switchyard_api::manifest::{Object, parse};
use switchyard_api::{IpFamily, Name};

use crate::{Forwarding, ServiceTable, TableOptions};

/// A table that holds every object of `yaml`, for a node in a zone (empty for none).
///
/// # Panics
/// If the text or one of its objects cannot be read.
#[allow(clippy::panic)] // a broken test case should say so and stop
pub fn table_from_yaml(yaml: &str, node: &str, zone: &str) -> ServiceTable {
    let mut table = ServiceTable::new(TableOptions { node_name: node.into(), allow_external_ips: true });
    table.set_zone((!zone.is_empty()).then(|| Name::from(zone)));
    let objects = parse(yaml).unwrap_or_else(|error| panic!("{error}"));
    for object in objects {
        match object.unwrap_or_else(|error| panic!("{error}")) {
            Object::Service(service) => drop(table.set_service(&service)),
            Object::EndpointSlice(slice) => drop(table.set_slice(&slice)),
            Object::Node(_) | Object::ServiceCidr(_) => {}
        }
    }
    table
}

/// What that table means in one family.
pub fn forwarding_from_yaml(yaml: &str, node: &str, zone: &str, family: IpFamily) -> Forwarding {
    table_from_yaml(yaml, node, zone).commit(family).forwarding
}
