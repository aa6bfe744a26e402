//! The state of one address family: the half of a [`ServiceTable`](crate::ServiceTable) that one proxy works from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use switchyard_api::{IpFamily, Name, ObjectKey, Protocol};

use crate::choice::{Place, choose};
use crate::derive::ServicePorts;
use crate::slices::{self, Slice};
use crate::{Commit, Endpoint, EndpointChange, Forwarding, PortChange, ServicePortName};

/// Of one service, between two commits.
const MOST_TRIGGER_TIMES: usize = 256;

#[derive(Debug)]
pub(crate) struct FamilyTable {
    /// Services that have ports, as they are now.
    services: BTreeMap<ObjectKey, ServicePorts>,
    /// Slices by service and name, as they are now.
    slices: BTreeMap<ObjectKey, BTreeMap<Name, Slice>>,
    /// Merged endpoints of the services' slices, as of the last commit.
    endpoints: BTreeMap<ServicePortName, Arc<[Endpoint]>>,
    /// Ports as of the last commit, of the services that are different now: what is pending.
    committed: BTreeMap<ObjectKey, ServicePorts>,
    dirty_endpoints: BTreeSet<ObjectKey>,
    /// Changes of slices since the last commit.
    pending_slices: usize,
    trigger_times: BTreeMap<ObjectKey, Vec<Timestamp>>,
    topology_changed: bool,
    forwarding: Forwarding,
}

impl FamilyTable {
    pub(crate) fn new(family: IpFamily) -> FamilyTable {
        FamilyTable {
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            committed: BTreeMap::new(),
            dirty_endpoints: BTreeSet::new(),
            pending_slices: 0,
            trigger_times: BTreeMap::new(),
            topology_changed: false,
            forwarding: Forwarding::empty(family),
        }
    }

    /// Whether any service waits for a commit afterwards: not only this one, as upstream has it.
    pub(crate) fn set_ports(&mut self, service: ObjectKey, ports: ServicePorts) -> bool {
        let previous = match ports.is_empty() {
            true => self.services.remove(&service),
            false => self.services.insert(service.clone(), ports),
        };
        self.committed.entry(service.clone()).or_insert_with(|| previous.unwrap_or_default());
        let now = self.services.get(&service);
        if self.committed.get(&service).is_some_and(|before| before.iter().eq(now.into_iter().flatten())) {
            self.committed.remove(&service);
        }
        !self.committed.is_empty()
    }

    /// Whether that changes anything. The time is when somebody caused the change.
    pub(crate) fn set_slice(
        &mut self,
        service: ObjectKey,
        name: Name,
        slice: Slice,
        triggered: Option<Timestamp>,
    ) -> bool {
        let of_service = self.slices.entry(service.clone()).or_default();
        if of_service.get(&name) == Some(&slice) {
            return false;
        }
        of_service.insert(name, slice);
        self.pending_slices += 1;
        let times = self.trigger_times.entry(service.clone()).or_default();
        // Nobody commits a family that the kernel lacks.
        if times.len() < MOST_TRIGGER_TIMES {
            times.extend(triggered);
        }
        self.dirty_endpoints.insert(service);
        true
    }

    pub(crate) fn remove_slice(&mut self, service: &ObjectKey, name: &str) -> bool {
        let Some(of_service) = self.slices.get_mut(service) else { return false };
        if of_service.remove(name).is_none() {
            return false;
        }
        if of_service.is_empty() {
            self.slices.remove(service);
        }
        // Nothing was programmed by a removal, so there is no delay to measure.
        self.trigger_times.remove(service);
        self.pending_slices += 1;
        self.dirty_endpoints.insert(service.clone());
        true
    }

    pub(crate) fn commit(&mut self, place: Place<'_>) -> Commit {
        let topology_changed = std::mem::take(&mut self.topology_changed);
        let port_changes = self.port_changes();
        let (endpoint_changes, udp_endpoints_changed) = self.merge_endpoints(place.node);

        let mut dirty: BTreeSet<ServicePortName> =
            port_changes.iter().map(|change| change.name().clone()).collect();
        dirty.extend(endpoint_changes.iter().map(|change| change.name.clone()));
        if topology_changed {
            dirty.extend(self.forwarding.ports.keys().cloned());
        }
        let changed = dirty.into_iter().filter(|name| self.recompute(name, place)).collect();
        let trigger_times = std::mem::take(&mut self.trigger_times);
        Commit {
            forwarding: self.forwarding.clone(),
            changed,
            topology_changed,
            udp_endpoints_changed,
            trigger_times: trigger_times
                .into_iter()
                .flat_map(|(service, times)| times.into_iter().map(move |time| (service.clone(), time)))
                .collect(),
            port_changes,
            endpoint_changes,
        }
    }

    pub(crate) fn topology_changes(&mut self) {
        self.topology_changed = true;
    }

    /// As of the last commit.
    pub(crate) fn forwarding(&self) -> &Forwarding {
        &self.forwarding
    }

    pub(crate) fn pending_services(&self) -> usize {
        self.committed.len()
    }

    pub(crate) fn pending_slices(&self) -> usize {
        self.pending_slices
    }

    fn port_changes(&mut self) -> Vec<PortChange> {
        let mut changes = Vec::new();
        for (service, before) in std::mem::take(&mut self.committed) {
            let none = ServicePorts::new();
            let now = self.services.get(&service).unwrap_or(&none);
            for (name, port) in now {
                match before.get(name) {
                    None => changes.push(PortChange::Added(name.clone(), port.clone())),
                    Some(old) if old != port => changes.push(PortChange::Updated(name.clone(), port.clone())),
                    Some(_) => {}
                }
            }
            let removed = before.into_iter().filter(|(name, _)| !now.contains_key(name));
            changes.extend(removed.map(|(name, port)| PortChange::Removed(name, port)));
        }
        changes
    }

    /// What came of the changed slices, and whether a UDP port was among their ports.
    fn merge_endpoints(&mut self, own_node: &str) -> (Vec<EndpointChange>, bool) {
        let mut changes = Vec::new();
        let mut udp = false;
        self.pending_slices = 0;
        for service in std::mem::take(&mut self.dirty_endpoints) {
            let slices = self.slices.get(&service);
            let mut merged =
                slices.map(|slices| slices::merge(&service, slices, own_node)).unwrap_or_default();
            for (name, _) in of_service(&self.endpoints, &service) {
                merged.entry(name.clone()).or_default();
            }
            udp |= merged.keys().any(|name| name.protocol == Protocol::Udp);
            for (name, endpoints) in merged {
                let endpoints: Arc<[Endpoint]> = endpoints.into();
                if self.endpoints.get(&name).map_or(endpoints.is_empty(), |before| **before == *endpoints) {
                    continue;
                }
                match endpoints.is_empty() {
                    true => self.endpoints.remove(&name),
                    false => self.endpoints.insert(name.clone(), endpoints.clone()),
                };
                changes.push(EndpointChange { name, endpoints });
            }
        }
        (changes, udp)
    }

    /// Whether the forwarding of this service port is another one now.
    fn recompute(&mut self, name: &ServicePortName, place: Place<'_>) -> bool {
        let service_port = self.services.get(&name.service).and_then(|ports| ports.get(name));
        let Some(service_port) = service_port.cloned() else {
            return self.forwarding.ports.remove(name).is_some();
        };
        let endpoints = self.endpoints.get(name).cloned().unwrap_or_default();
        let chosen = choose(service_port, endpoints, place);
        if self.forwarding.ports.get(name).is_some_and(|before| **before == chosen) {
            return false;
        }
        self.forwarding.ports.insert(name.clone(), Arc::new(chosen));
        true
    }
}

/// The entries of one service in a map sorted by service port name.
fn of_service<'a, T>(
    map: &'a BTreeMap<ServicePortName, T>,
    service: &'a ObjectKey,
) -> impl Iterator<Item = (&'a ServicePortName, &'a T)> {
    let first = ServicePortName { service: service.clone(), port: "".into(), protocol: Protocol::Tcp };
    map.range(first..).take_while(move |(name, _)| name.service == *service)
}
