//! CHECK: whether an attachment is still as ADD had made it. Everything that is not is told at once.

use std::net::IpAddr;

use ipnet::IpNet;
use switchyard_kernel::link::{Link, Links, RouteEntry};
use switchyard_kernel::namespace::NamespaceFile;

use super::identity::Identity;
use super::leases::{Lease, Leases};
use super::plan::{Address, mac_text};
use super::settings::Settings;
use super::{add, ports, wire};
use crate::types::{AddResult, Environment, Error, Interface, code};

/// What was found in the kernel and on disk.
#[derive(Debug, Default)]
struct Found {
    interface: Option<Link>,
    addresses: Vec<IpNet>,
    routes: Vec<RouteEntry>,
    bridge: Option<Link>,
    bridge_addresses: Vec<IpNet>,
    host_link: Option<Link>,
    leases: Vec<Lease>,
}

pub(super) fn check(settings: &Settings, environment: &Environment) -> Result<(), Error> {
    let namespace = add::open_namespace(environment)?;
    let identity = Identity::new(&environment.container, &environment.interface);
    let Some(previous) = &settings.previous else { return Ok(()) };
    let own: Vec<IpNet> = own_addresses(settings, previous, &identity.attachment.interface);
    let found = look(settings, &identity, &namespace)?;
    let mut wrong = differences(settings, previous, &identity, &own, &found);
    let addresses: Vec<Address> = own
        .iter()
        .map(|on_link| Address { on_link: *on_link, gateway: None, default_route: false })
        .collect();
    let missing = ports::missing(settings, &identity, &addresses)?;
    wrong.extend(missing.into_iter().map(|rule| format!("rule {rule} is gone")));
    if wrong.is_empty() {
        return Ok(());
    }
    let msg =
        format!("{} of container {}: {}", environment.interface, environment.container, wrong.join("; "));
    Err(Error::new(code::CHECK_FAILED, msg).with_details("make the container anew"))
}

/// The addresses that are ours among those of the whole chain.
fn own_addresses(settings: &Settings, previous: &AddResult, interface: &str) -> Vec<IpNet> {
    let on_it = |index: Option<usize>| {
        let named = index.and_then(|index| previous.interfaces.get(index));
        named.is_none_or(|named| named.name == interface && !named.sandbox.is_empty())
    };
    let ours = |address: &IpNet| settings.ranges.iter().any(|range| range.contains(address.addr()));
    previous.ips.iter().filter(|ip| on_it(ip.interface)).map(|ip| ip.address).filter(ours).collect()
}

fn look(settings: &Settings, identity: &Identity, namespace: &NamespaceFile) -> Result<Found, Error> {
    let name = identity.attachment.interface.as_str();
    let (here, there) =
        (Links::open_here().map_err(wire::failed)?, Links::open_in(namespace).map_err(wire::failed)?);
    let mut found = Found {
        interface: there.find(name).map_err(wire::failed)?,
        routes: there.routes().map_err(wire::failed)?,
        bridge: here.find(&settings.bridge).map_err(wire::failed)?,
        host_link: here.find(&identity.host_link()).map_err(wire::failed)?,
        ..Found::default()
    };
    if found.interface.is_some() {
        found.addresses = there.addresses(name).map_err(wire::failed)?;
    }
    if found.bridge.is_some() {
        found.bridge_addresses = here.addresses(&settings.bridge).map_err(wire::failed)?;
    }
    if let Some(leases) = Leases::open_existing(&settings.folder())? {
        found.leases = leases.all()?;
    }
    Ok(found)
}

fn differences(
    settings: &Settings,
    previous: &AddResult,
    identity: &Identity,
    own: &[IpNet],
    found: &Found,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = &identity.attachment.interface;
    if own.is_empty() {
        wrong.push(format!("prevResult has no address of {name} within ranges"));
    }
    match &found.interface {
        None => wrong.push("the container has no such interface".to_owned()),
        Some(link) => {
            let inside = |made: &&Interface| made.name == *name && !made.sandbox.is_empty();
            wrong.extend(previous.interfaces.iter().find(inside).and_then(|made| changed(made, link)));
        }
    }
    for address in own {
        if found.interface.is_some() && !found.addresses.contains(address) {
            wrong.push(format!("address {address} is gone"));
        }
        let held = |lease: &Lease| {
            lease.address == address.addr() && lease.owner.as_ref() == Some(&identity.attachment)
        };
        if !found.leases.iter().any(held) {
            wrong.push(format!("the lease of {} is gone, and another container may get it", address.addr()));
        }
    }
    let gateways: Vec<IpAddr> = previous.ips.iter().filter_map(|ip| ip.gateway).collect();
    let ours = |gw: Option<IpAddr>| gw.is_some_and(|gw| gateways.contains(&gw));
    for route in previous.routes.iter().filter(|route| found.interface.is_some() && ours(route.gw)) {
        let same = |there: &RouteEntry| there.destination == route.dst && there.gateway == route.gw;
        if !found.routes.iter().any(same) {
            let gateway = route.gw.map(|gw| format!(" through {gw}")).unwrap_or_default();
            wrong.push(format!("the route to {}{gateway} is gone", route.dst));
        }
    }
    wrong.extend(host_differences(settings, identity, found));
    wrong
}

fn host_differences(settings: &Settings, identity: &Identity, found: &Found) -> Vec<String> {
    let mut wrong = Vec::new();
    let (bridge, host_link) = (&settings.bridge, identity.host_link());
    match (&found.bridge, &found.host_link) {
        (None, _) => wrong.push(format!("bridge {bridge} is gone")),
        (_, None) => wrong.push(format!("the host's link {host_link} is gone")),
        (Some(there), Some(link)) if link.master != Some(there.index) => {
            wrong.push(format!("the host's link {host_link} is no port of {bridge}"));
        }
        (Some(there), Some(link)) => {
            let down = [there, link].into_iter().filter(|link| !link.up);
            wrong.extend(down.map(|link| format!("the host's link {} is down", link.name)));
        }
    }
    if settings.gateway && found.bridge.is_some() {
        let gateways = settings.ranges.iter().map(|range| range.on_link(range.gateway()));
        let lost = gateways.filter(|gateway| !found.bridge_addresses.contains(gateway));
        wrong.extend(lost.map(|gateway| format!("bridge {bridge} has lost the gateway's address {gateway}")));
    }
    wrong
}

/// What of the container's interface is not as it was.
fn changed(made: &Interface, link: &Link) -> Option<String> {
    let mac = link.mac.map(mac_text).unwrap_or_default();
    if !link.up {
        Some("the interface is down".to_owned())
    } else if !made.mac.is_empty() && !made.mac.eq_ignore_ascii_case(&mac) {
        Some(format!("the hardware address is {mac} and was {}", made.mac))
    } else {
        let mtu = made.mtu.filter(|mtu| *mtu != 0 && *mtu != link.mtu);
        mtu.map(|mtu| format!("the MTU is {} and was {mtu}", link.mtu))
    }
}
