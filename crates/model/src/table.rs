//! All services, and what changed since somebody last asked.
//!
//! Changes are applied as they come; nothing is worked out before somebody commits. A commit recomputes the dirty
//! services of one family only, so its cost is that of the change.

use std::collections::BTreeMap;

use jiff::Timestamp;
use switchyard_api::{EndpointSlice, IpFamily, Name, ObjectKey, Service, label};

use crate::choice::Place;
use crate::derive::{ServicePorts, service_ports};
use crate::family::FamilyTable;
use crate::site::Sites;
use crate::{Commit, Forwarding, Noticed, Problem, slices};

/// What the table must know of its node and its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    pub node_name: Name,
    /// The feature gate `AllowServiceExternalIPs`.
    pub allow_external_ips: bool,
}

/// All services as this node knows them.
#[derive(Debug)]
pub struct ServiceTable {
    options: TableOptions,
    zone: Option<Name>,
    sites: Sites,
    v4: FamilyTable,
    v6: FamilyTable,
    /// Which service and family a slice was counted under, since its label may change.
    slice_owners: BTreeMap<ObjectKey, (IpFamily, ObjectKey)>,
}

impl ServiceTable {
    pub fn new(options: TableOptions) -> ServiceTable {
        ServiceTable {
            options,
            zone: None,
            sites: Sites::default(),
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
            if self.family_mut(family).set_ports(service.metadata.key(), ports) {
                noticed.sync.insert(family);
            }
        }
        noticed
    }

    pub fn remove_service(&mut self, service: &ObjectKey) -> Noticed {
        let mut noticed = Noticed { concerned: IpFamily::BOTH.into(), ..Noticed::default() };
        for family in IpFamily::BOTH {
            if self.family_mut(family).set_ports(service.clone(), ServicePorts::new()) {
                noticed.sync.insert(family);
            }
        }
        noticed
    }

    /// Only what matters to forwarding counts as a change: not a new label or resource version, which upstream syncs
    /// for. A slice that moved to another service leaves the old one, which upstream forgets.
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
        let read = slices::read(slice, family, &mut self.sites, &mut noticed.problems);
        let triggered = trigger_time(slice, &mut noticed.problems);
        self.slice_owners.insert(key.clone(), owner);
        if self.family_mut(family).set_slice(service, key.name, read, triggered) {
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
            self.family_mut(family).topology_changes();
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
        self.family(family).forwarding()
    }

    /// Services whose ports changed since the last commit.
    pub fn pending_services(&self, family: IpFamily) -> usize {
        self.family(family).pending_services()
    }

    /// Changes of slices since the last commit.
    pub fn pending_endpoints(&self, family: IpFamily) -> usize {
        self.family(family).pending_slices()
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

fn trigger_time(slice: &EndpointSlice, problems: &mut Vec<Problem>) -> Option<Timestamp> {
    let value = slice.metadata.annotations.get(label::TRIGGER_TIME)?;
    let parsed = value.parse().ok();
    if parsed.is_none() {
        let (slice, value) = (slice.metadata.key(), (&**value).into());
        problems.push(Problem::InvalidTriggerTime { slice, value });
    }
    parsed
}

#[cfg(test)]
mod tests;
