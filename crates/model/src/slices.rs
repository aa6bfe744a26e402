//! EndpointSlices, held compactly, and the endpoints that follow from them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use switchyard_api::{
    AddressType, EndpointAddress, EndpointSlice, IpFamily, Name, ObjectKey, Protocol, label,
};

use crate::site::{Site, Sites};
use crate::{Conditions, Endpoint, Problem, ServicePortName};

/// What is kept of a slice: its ports, and its endpoints once, however many ports they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    ports: Box<[SlicePort]>,
    endpoints: Box<[SliceEndpoint]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SlicePort {
    name: Name,
    protocol: Protocol,
    port: u16,
}

/// Kept small: a large cluster has 100,000 of these on every node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SliceEndpoint {
    address: IpAddr,
    conditions: Conditions,
    site: Arc<Site>,
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

/// Reads a slice of `family`; endpoints and ports that cannot be used are left out and reported.
pub(crate) fn read(
    slice: &EndpointSlice,
    family: IpFamily,
    sites: &mut Sites,
    problems: &mut Vec<Problem>,
) -> Slice {
    let key = || slice.metadata.key();
    let mut ports = Vec::with_capacity(slice.ports.len());
    for port in &slice.ports {
        if port.port == 0 {
            problems.push(Problem::InvalidEndpointPort { slice: key(), port: (&*port.name).into() });
        } else {
            ports.push(SlicePort { name: port.name.clone(), protocol: port.protocol, port: port.port });
        }
    }
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for endpoint in &slice.endpoints {
        // An address of the other family, as a manifest may have it, would make the kernel refuse every rule with it.
        let address = match &endpoint.address {
            EndpointAddress::Ip(address) if IpFamily::of(*address) == family => *address,
            EndpointAddress::Ip(address) => {
                let address = address.to_string().into();
                problems.push(Problem::InvalidEndpoint { slice: key(), address });
                continue;
            }
            EndpointAddress::Other(text) => {
                problems.push(Problem::InvalidEndpoint { slice: key(), address: text.clone() });
                continue;
            }
        };
        let conditions = Conditions {
            ready: endpoint.ready(),
            serving: endpoint.serving(),
            terminating: endpoint.terminating(),
        };
        endpoints.push(SliceEndpoint { address, conditions, site: sites.share(site(endpoint)) });
    }
    Slice { ports: ports.into(), endpoints: endpoints.into() }
}

fn site(endpoint: &switchyard_api::Endpoint) -> Site {
    let hints = endpoint.hints.as_deref();
    Site {
        node: endpoint.node_name.clone(),
        zone_hints: hints.map_or_else(Box::default, |hints| hints.for_zones.as_slice().into()),
        node_hints: hints.map_or_else(Box::default, |hints| hints.for_nodes.as_slice().into()),
    }
}

impl SliceEndpoint {
    fn at_port(&self, port: u16, own_node: &str) -> Endpoint {
        Endpoint {
            address: self.address,
            port,
            conditions: self.conditions,
            is_local: self.site.node.as_deref() == Some(own_node),
            node: self.site.node.clone(),
            zone_hints: self.site.zone_hints.clone(),
            node_hints: self.site.node_hints.clone(),
        }
    }
}

/// The endpoints of every port of one service, as the node `own_node` sees them, from all of its slices by name. Each
/// list is sorted.
///
/// One endpoint may be in several slices while it moves between them. A copy replaces an earlier one unless it is
/// terminating, so that any copy that stays beats those that go. Slices are taken in the order of their names, not of
/// their arrival: the same objects always give the same endpoints.
pub(crate) fn merge(
    service: &ObjectKey,
    slices: &BTreeMap<Name, Slice>,
    own_node: &str,
) -> BTreeMap<ServicePortName, Vec<Endpoint>> {
    let mut merged: BTreeMap<ServicePortName, BTreeMap<(IpAddr, u16), &SliceEndpoint>> = BTreeMap::new();
    for slice in slices.values() {
        for port in &slice.ports {
            let (service, name) = (service.clone(), port.name.clone());
            let name = ServicePortName { service, port: name, protocol: port.protocol };
            let endpoints = merged.entry(name).or_default();
            for endpoint in &slice.endpoints {
                let key = (endpoint.address, port.port);
                if !endpoint.conditions.terminating || !endpoints.contains_key(&key) {
                    endpoints.insert(key, endpoint);
                }
            }
        }
    }
    let sorted = |endpoints: BTreeMap<(IpAddr, u16), &SliceEndpoint>| {
        let endpoints = endpoints.into_iter();
        let mut endpoints: Vec<Endpoint> =
            endpoints.map(|((_, port), endpoint)| endpoint.at_port(port, own_node)).collect();
        endpoints.sort_by_cached_key(Endpoint::to_string);
        endpoints
    };
    merged
        .into_iter()
        .map(|(name, endpoints)| (name, sorted(endpoints)))
        .filter(|(_, endpoints)| !endpoints.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;
