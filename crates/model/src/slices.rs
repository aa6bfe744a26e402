//! EndpointSlices, held compactly, and the endpoints that follow from them.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use switchyard_api::{
    AddressType, EndpointAddress, EndpointSlice, IpFamily, Name, ObjectKey, Protocol, label,
};

use crate::{Conditions, Endpoint, Problem, ServicePortName};

/// What is kept of a slice: its ports, and its endpoints once, however many ports they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    ports: Box<[SlicePort]>,
    endpoints: Box<[Endpoint]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SlicePort {
    name: Name,
    protocol: Protocol,
    port: u16,
}

/// Node and zone names, each held once: thousands of endpoints share a few of them.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<Name>);

impl Names {
    fn intern(&mut self, name: &Name) -> Name {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        self.0.insert(name.clone());
        name.clone()
    }

    fn intern_all(&mut self, names: &[Name]) -> Box<[Name]> {
        names.iter().map(|name| self.intern(name)).collect()
    }
}

/// Where a slice belongs: its family and its service. `None` for one that no proxy forwards to.
pub(crate) fn owner(slice: &EndpointSlice) -> Result<Option<(IpFamily, ObjectKey)>, Problem> {
    if slice.metadata.labels.contains(label::HEADLESS) {
        return Ok(None);
    }
    let family = match slice.address_type {
        AddressType::IPv4 => IpFamily::V4,
        AddressType::IPv6 => IpFamily::V6,
        AddressType::FQDN => return Err(Problem::UnsupportedAddressType { slice: slice.metadata.key() }),
    };
    match slice.metadata.labels.get(label::SERVICE_NAME) {
        Some(service) if !service.is_empty() && !slice.metadata.name.is_empty() => {
            Ok(Some((family, ObjectKey::new(slice.metadata.namespace.clone(), service.clone()))))
        }
        _ => Err(Problem::OrphanSlice { slice: slice.metadata.key() }),
    }
}

/// Reads a slice for the node `own_node`; endpoints and ports that cannot be used are left out and reported.
pub(crate) fn read(
    slice: &EndpointSlice,
    own_node: &str,
    names: &mut Names,
    problems: &mut Vec<Problem>,
) -> Slice {
    let key = || slice.metadata.key();
    let mut ports = Vec::with_capacity(slice.ports.len());
    for port in &slice.ports {
        if port.port == 0 {
            problems.push(Problem::InvalidEndpointPort { slice: key(), port: (&*port.name).into() });
        } else {
            ports.push(SlicePort {
                name: names.intern(&port.name),
                protocol: port.protocol,
                port: port.port,
            });
        }
    }
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for endpoint in &slice.endpoints {
        match &endpoint.address {
            EndpointAddress::Ip(address) => {
                endpoints.push(read_endpoint(endpoint, *address, own_node, names))
            }
            EndpointAddress::Other(text) => {
                problems.push(Problem::InvalidEndpoint { slice: key(), address: text.clone() });
            }
        }
    }
    Slice { ports: ports.into(), endpoints: endpoints.into() }
}

/// The port is filled in when slices are merged, since an endpoint has it from its slice.
fn read_endpoint(
    endpoint: &switchyard_api::Endpoint,
    address: IpAddr,
    own_node: &str,
    names: &mut Names,
) -> Endpoint {
    let hints = endpoint.hints.as_deref();
    Endpoint {
        address,
        port: 0,
        conditions: Conditions {
            ready: endpoint.ready(),
            serving: endpoint.serving(),
            terminating: endpoint.terminating(),
        },
        is_local: endpoint.node_name.as_deref() == Some(own_node),
        node: endpoint.node_name.as_ref().map(|name| names.intern(name)),
        zone_hints: hints.map_or_else(Box::default, |hints| names.intern_all(&hints.for_zones)),
        node_hints: hints.map_or_else(Box::default, |hints| names.intern_all(&hints.for_nodes)),
    }
}

/// The endpoints of every port of one service, from all of its slices, each list sorted.
///
/// One endpoint may be in several slices while it moves between them. A copy that is not terminating beats one that is;
/// among equals the slice whose name sorts last wins, so that the outcome does not hang on the order of arrival.
pub(crate) fn merge(
    service: &ObjectKey,
    slices: &BTreeMap<Name, Slice>,
) -> BTreeMap<ServicePortName, Vec<Endpoint>> {
    let mut merged: BTreeMap<ServicePortName, BTreeMap<(IpAddr, u16), Endpoint>> = BTreeMap::new();
    for slice in slices.values() {
        for port in &slice.ports {
            let name = ServicePortName {
                service: service.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
            };
            let endpoints = merged.entry(name).or_default();
            for endpoint in &slice.endpoints {
                let endpoint = Endpoint { port: port.port, ..endpoint.clone() };
                let key = (endpoint.address, endpoint.port);
                if !endpoint.conditions.terminating || !endpoints.contains_key(&key) {
                    endpoints.insert(key, endpoint);
                }
            }
        }
    }
    merged.into_iter().map(|(name, endpoints)| (name, sorted(endpoints.into_values().collect()))).collect()
}

fn sorted(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    endpoints.sort_by_cached_key(Endpoint::to_string);
    endpoints
}
