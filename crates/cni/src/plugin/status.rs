//! STATUS: whether an ADD could succeed now.

use std::collections::BTreeSet;
use std::net::IpAddr;

use switchyard_kernel::link::Links;
use switchyard_kernel::sysctl::{KernelSysctls, Sysctls};

use super::leases::{Leases, full};
use super::settings::Settings;
use super::{ports, wire};
use crate::types::{Error, code};

pub(super) fn status(settings: &Settings) -> Result<(), Error> {
    let unavailable = |error: Error| Error { code: code::NOT_AVAILABLE, ..error };
    bridge(settings)?;
    let leases = Leases::open(&settings.folder()).and_then(|leases| leases.all()).map_err(unavailable)?;
    for range in &settings.ranges {
        let inside = leases.iter().map(|lease| lease.address).filter(|address| range.contains(*address));
        let taken: BTreeSet<IpAddr> = inside.collect();
        if range.next(&taken, None).is_none() {
            return Err(unavailable(full(range, &settings.folder())));
        }
    }
    if settings.uses_iptables() {
        ports::usable(settings).map_err(unavailable)?;
    }
    Ok(())
}

/// A bridge that is missing can be made. One that is there and not as it should be carries containers that suffer.
fn bridge(settings: &Settings) -> Result<(), Error> {
    let name = &settings.bridge;
    let links = Links::open_here().map_err(wire::failed)?;
    let Some(link) = links.find(name).map_err(wire::failed)? else { return Ok(()) };
    if link.kind.as_deref() != Some("bridge") {
        let msg = format!("there is a link {name} which is no bridge");
        return Err(Error::new(code::NOT_AVAILABLE, msg).with_details("give the network another bridge"));
    }
    let limited =
        |msg: String, details: String| Err(Error::new(code::LIMITED_CONNECTIVITY, msg).with_details(details));
    if !link.up {
        return limited(format!("bridge {name} is down"), format!("run `ip link set {name} up`"));
    }
    if !settings.gateway {
        return Ok(());
    }
    let addresses = links.addresses(name).map_err(wire::failed)?;
    for range in &settings.ranges {
        let gateway = range.on_link(range.gateway());
        if !addresses.contains(&gateway) {
            let details = format!("run `ip address add {gateway} dev {name}`, or let the next ADD do it");
            return limited(format!("bridge {name} has lost the gateway's address {gateway}"), details);
        }
        let forwarding = if range.is_ipv4() { "net/ipv4/ip_forward" } else { "net/ipv6/conf/all/forwarding" };
        if KernelSysctls::default().get(forwarding).is_ok_and(|value| value == "0") {
            let details = format!("run `sysctl -w {}=1`", forwarding.replace('/', "."));
            return limited("the host does not forward packets".to_owned(), details);
        }
    }
    Ok(())
}
