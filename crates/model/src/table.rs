//! The state of all services, and which of them changed.
//!
//! Changes are applied as they come; nothing is worked out before somebody commits. A commit recomputes the dirty
//! services of one family only, so its cost is that of the change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use switchyard_api::{EndpointSlice, IpFamily, Name, ObjectKey, Protocol, Service, label};

use crate::choice::{Place, choose};
use crate::derive::{ServicePorts, service_ports};
use crate::slices::{self, Names, Slice};
use crate::{Endpoint, Forwarding, Problem, ServicePort, ServicePortName};

/// What the table must know of its node and its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    pub node_name: Name,
    /// The feature gate `AllowServiceExternalIPs`.
    pub allow_external_ips: bool,
}

/// What one notification led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Families that should be synced.
    pub sync: BTreeSet<IpFamily>,
    /// Families that the notification was for: what the change counters count.
    pub concerned: BTreeSet<IpFamily>,
    /// Parts of the object that had to be left out.
    pub problems: Vec<Problem>,
}

/// What a commit brought.
#[derive(Debug, Clone)]
pub struct Commit {
    pub forwarding: Forwarding,
    /// The service ports whose forwarding is not what it was, those that vanished included.
    pub changed: BTreeSet<ServicePortName>,
    /// The node moved to another zone: everything may have changed.
    pub topology_changed: bool,
    /// Endpoints of a UDP port changed, so that the kernel may remember flows to endpoints that are gone.
    pub udp_endpoints_changed: bool,
    /// When the changes to endpoints happened that are in effect once this commit is in the kernel.
    pub trigger_times: Vec<(ObjectKey, Timestamp)>,
    pub port_changes: Vec<PortChange>,
    pub endpoint_changes: Vec<EndpointChange>,
}

/// A service port came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortChange {
    Added(ServicePortName, ServicePort),
    Updated(ServicePortName, ServicePort),
    Removed(ServicePortName, ServicePort),
}

/// The endpoints of a service port are others than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointChange {
    pub name: ServicePortName,
    pub endpoints: Arc<[Endpoint]>,
}

/// All services as this node knows them.
#[derive(Debug)]
pub struct ServiceTable {
    options: TableOptions,
    zone: Option<Name>,
    names: Names,
    v4: FamilyTable,
    v6: FamilyTable,
    /// Which service and family a slice was counted under, since its label may change.
    slice_owners: BTreeMap<ObjectKey, (IpFamily, ObjectKey)>,
}

#[derive(Debug)]
struct FamilyTable {
    services: BTreeMap<ObjectKey, ServicePorts>,
    slices: BTreeMap<ObjectKey, BTreeMap<Name, Slice>>,
    /// Merged endpoints of the services' slices, as of the last commit.
    endpoints: BTreeMap<ServicePortName, Arc<[Endpoint]>>,
    /// Service ports as of the last commit, for the services that changed since.
    committed: BTreeMap<ObjectKey, ServicePorts>,
    dirty_endpoints: BTreeSet<ObjectKey>,
    trigger_times: BTreeMap<ObjectKey, Vec<Timestamp>>,
    topology_changed: bool,
    forwarding: Forwarding,
}

impl ServiceTable {
    pub fn new(options: TableOptions) -> ServiceTable {
        ServiceTable {
            options,
            zone: None,
            names: Names::default(),
            v4: FamilyTable::new(IpFamily::V4),
            v6: FamilyTable::new(IpFamily::V6),
            slice_owners: BTreeMap::new(),
        }
    }

    pub fn set_service(&mut self, service: &Service) -> Noticed {
        let mut noticed = Noticed { concerned: IpFamily::BOTH.into(), ..Noticed::default() };
        let allow_external_ips = self.options.allow_external_ips;
        for family in IpFamily::BOTH {
            let (ports, problems) = service_ports(service, family, allow_external_ips);
            noticed.report(problems);
            noticed.service_changed(family, self.family_mut(family).set_ports(service.metadata.key(), ports));
        }
        noticed
    }

    pub fn remove_service(&mut self, service: &ObjectKey) -> Noticed {
        let mut noticed = Noticed { concerned: IpFamily::BOTH.into(), ..Noticed::default() };
        for family in IpFamily::BOTH {
            let pending = self.family_mut(family).set_ports(service.clone(), ServicePorts::new());
            noticed.service_changed(family, pending);
        }
        noticed
    }

    pub fn set_slice(&mut self, slice: &EndpointSlice) -> Noticed {
        let key = slice.metadata.key();
        let owner = match slices::owner(slice) {
            Ok(Some(owner)) => owner,
            Ok(None) => return self.remove_slice(&key),
            Err(problem) => {
                let mut noticed = self.remove_slice(&key);
                noticed.problems.push(problem);
                return noticed;
            }
        };
        let mut noticed = match self.slice_owners.get(&key) {
            Some(previous) if *previous != owner => self.remove_slice(&key),
            _ => Noticed::default(),
        };
        let (family, service) = owner.clone();
        let node = self.options.node_name.clone();
        let read = slices::read(slice, &node, &mut self.names, &mut noticed.problems);
        let triggered = trigger_time(slice, &mut noticed.problems);
        self.slice_owners.insert(key.clone(), owner);
        let table = self.family_mut(family);
        let changed = table.set_slice(&service, key.name, read);
        if changed {
            table.trigger_times.entry(service).or_default().extend(triggered);
            noticed.sync.insert(family);
        }
        noticed.concerned.insert(family);
        noticed
    }

    pub fn remove_slice(&mut self, slice: &ObjectKey) -> Noticed {
        let mut noticed = Noticed::default();
        if let Some((family, service)) = self.slice_owners.remove(slice) {
            noticed.concerned.insert(family);
            if self.family_mut(family).remove_slice(&service, &slice.name) {
                noticed.sync.insert(family);
            }
        }
        noticed
    }

    /// The zone of this node, by the label `topology.kubernetes.io/zone`.
    pub fn set_zone(&mut self, zone: Option<Name>) -> Noticed {
        if self.zone == zone {
            return Noticed::default();
        }
        self.zone = zone;
        for family in IpFamily::BOTH {
            self.family_mut(family).topology_changed = true;
        }
        Noticed { sync: IpFamily::BOTH.into(), ..Noticed::default() }
    }

    /// Works out what changed in `family` since its last commit.
    pub fn commit(&mut self, family: IpFamily) -> Commit {
        let place = Place { node: &self.options.node_name, zone: self.zone.as_deref() };
        let table = match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        };
        table.commit(place)
    }

    /// As of the last commit.
    pub fn forwarding(&self, family: IpFamily) -> &Forwarding {
        match family {
            IpFamily::V4 => &self.v4.forwarding,
            IpFamily::V6 => &self.v6.forwarding,
        }
    }

    /// Services whose ports changed since the last commit.
    pub fn pending_services(&self, family: IpFamily) -> usize {
        self.family(family).committed.len()
    }

    /// Services whose endpoints changed since the last commit.
    pub fn pending_endpoints(&self, family: IpFamily) -> usize {
        self.family(family).dirty_endpoints.len()
    }

    fn family(&self, family: IpFamily) -> &FamilyTable {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    fn family_mut(&mut self, family: IpFamily) -> &mut FamilyTable {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }
}

impl Noticed {
    fn report(&mut self, problems: Vec<Problem>) {
        // Both families read the same text and find the same faults.
        for problem in problems {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }

    fn service_changed(&mut self, family: IpFamily, pending: bool) {
        if pending {
            self.sync.insert(family);
        }
    }
}

fn trigger_time(slice: &EndpointSlice, problems: &mut Vec<Problem>) -> Option<Timestamp> {
    let value = slice.metadata.annotations.get(label::TRIGGER_TIME)?;
    let parsed = value.parse().ok();
    if parsed.is_none() {
        let (slice, value) = (slice.metadata.key(), (&**value).into());
        problems.push(Problem::InvalidTriggerTime { slice, value });
    }
    parsed
}

impl FamilyTable {
    fn new(family: IpFamily) -> FamilyTable {
        FamilyTable {
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            committed: BTreeMap::new(),
            dirty_endpoints: BTreeSet::new(),
            trigger_times: BTreeMap::new(),
            topology_changed: false,
            forwarding: Forwarding::empty(family),
        }
    }

    /// Whether any service waits for a commit afterwards: not only this one, as upstream has it.
    fn set_ports(&mut self, service: ObjectKey, ports: ServicePorts) -> bool {
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

    fn set_slice(&mut self, service: &ObjectKey, name: Name, slice: Slice) -> bool {
        let of_service = self.slices.entry(service.clone()).or_default();
        if of_service.get(&name) == Some(&slice) {
            return false;
        }
        of_service.insert(name, slice);
        self.dirty_endpoints.insert(service.clone());
        true
    }

    fn remove_slice(&mut self, service: &ObjectKey, name: &str) -> bool {
        let Some(of_service) = self.slices.get_mut(service) else { return false };
        if of_service.remove(name).is_none() {
            return false;
        }
        if of_service.is_empty() {
            self.slices.remove(service);
        }
        // Nothing was programmed by a removal, so there is no delay to measure.
        self.trigger_times.remove(service);
        self.dirty_endpoints.insert(service.clone());
        true
    }

    fn commit(&mut self, place: Place<'_>) -> Commit {
        let topology_changed = std::mem::take(&mut self.topology_changed);
        let port_changes = self.port_changes();
        let (endpoint_changes, udp_endpoints_changed) = self.merge_endpoints();

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

    fn merge_endpoints(&mut self) -> (Vec<EndpointChange>, bool) {
        let mut changes = Vec::new();
        let mut udp = false;
        for service in std::mem::take(&mut self.dirty_endpoints) {
            let mut merged =
                self.slices.get(&service).map(|slices| slices::merge(&service, slices)).unwrap_or_default();
            let known: Vec<ServicePortName> =
                of_service(&self.endpoints, &service).map(|(n, _)| n.clone()).collect();
            for name in &known {
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

impl PortChange {
    pub fn name(&self) -> &ServicePortName {
        match self {
            PortChange::Added(name, _) | PortChange::Updated(name, _) | PortChange::Removed(name, _) => name,
        }
    }

    pub fn service_port(&self) -> &ServicePort {
        match self {
            PortChange::Added(_, port) | PortChange::Updated(_, port) | PortChange::Removed(_, port) => port,
        }
    }
}
