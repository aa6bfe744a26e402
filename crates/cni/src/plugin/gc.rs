//! GC: takes away what belongs to this network and to none of the attachments that are to stay.

use std::collections::BTreeSet;

use switchyard_kernel::link::Links;

use super::identity::Identity;
use super::leases::Leases;
use super::settings::Settings;
use super::{ports, wire};
use crate::types::Error;

pub(super) fn gc(settings: &Settings) -> Result<(), Error> {
    let valid = settings.valid.as_deref().unwrap_or_default();
    let stay: BTreeSet<String> =
        valid.iter().map(|attachment| Identity::of(attachment).hash().to_owned()).collect();
    let rules = ports::remove(settings, settings.uses_iptables(), &|hash| !stay.contains(hash));
    let links = Links::open_here().map_err(wire::failed)?;
    let aliased = wire::remove_others(&links, &settings.network, &|hash| stay.contains(hash));
    rules.and(aliased)?;
    let Some(leases) = Leases::open_existing(&settings.folder())? else { return Ok(()) };
    let is_garbage = |owner: Option<&_>| !owner.is_some_and(|owner| valid.contains(owner));
    // A try that was ended before it could write its note has left a lease, and its link is found by that.
    for lease in leases.all()? {
        if let Some(owner) = lease.owner.filter(|owner| is_garbage(Some(owner))) {
            wire::remove_of(&links, &settings.network, &Identity::of(&owner))?;
        }
    }
    leases.release(|lease| is_garbage(lease.owner.as_ref())).map(drop)
}
