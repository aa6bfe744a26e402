//! Puts the ways to other nodes into the kernel: only what differs, and nothing of anybody else's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use switchyard_kernel::link::{Link, LinkError, Links, Neighbour, Route, Vxlan};

use super::plan::{PROTOCOL, TUNNEL, TUNNEL_ID, TUNNEL_PORT, Tunnel, Ways};
use crate::core::one_line;

/// What VXLAN puts around a packet: Ethernet, its own header, UDP, and IP of either family.
const OVERHEAD_V4: u32 = 50;
const OVERHEAD_V6: u32 = 70;

/// How large packets through tunnels may be, by the link that has the node's address.
pub(super) fn tunnel_mtu(local: IpAddr) -> Result<u32, LinkError> {
    let links = Links::open_here()?;
    let overhead = if local.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    for link in links.all()? {
        if links.addresses(&link.name)?.iter().any(|address| address.addr() == local) {
            return Ok(link.mtu.saturating_sub(overhead));
        }
    }
    // The node is reached by an address that it does not have itself.
    Ok(1500 - overhead)
}

/// Goes as far as it can and gives every reason why not further. Blocks.
pub(super) fn apply(ways: &Ways) -> Vec<String> {
    let links = match Links::open_here() {
        Ok(links) => links,
        Err(error) => return vec![one_line(&error)],
    };
    let mut failures = Failures(Vec::new());
    match &ways.tunnel {
        Some(tunnel) => failures.note(keep_tunnel(&links, tunnel)),
        None => failures.note(links.delete(TUNNEL).map(drop)),
    }
    match known_routes(&links) {
        Ok(known) => {
            let missing = ways.routes.difference(&known.ours);
            // One that leads elsewhere now is replaced without a gap.
            for route in missing.filter(|route| !known.others.contains(&route.destination)) {
                failures.note(links.set_route(route));
            }
            for route in known.ours.difference(&ways.routes) {
                failures.note(links.remove_route(route).map(drop));
            }
        }
        Err(error) => failures.note(Err(error)),
    }
    if let Some(tunnel) = &ways.tunnel {
        failures.note(keep_ends(&links, tunnel));
    }
    failures.0
}

struct Failures(Vec<String>);

impl Failures {
    fn note(&mut self, result: Result<(), LinkError>) {
        self.0.extend(result.err().map(|error| one_line(&error)));
    }
}

struct KnownRoutes {
    ours: BTreeSet<Route>,
    /// Where routes of somebody else's lead: an operator's word goes before ours.
    others: BTreeSet<IpNet>,
}

fn known_routes(links: &Links) -> Result<KnownRoutes, LinkError> {
    let names: Vec<Link> = links.all()?;
    let name = |index: Option<u32>| {
        names.iter().find(|link| Some(link.index) == index).map(|link| link.name.clone())
    };
    let mut known = KnownRoutes { ours: BTreeSet::new(), others: BTreeSet::new() };
    for route in links.routes()? {
        match route.gateway {
            Some(gateway) if route.protocol == PROTOCOL => {
                // Only routes through the tunnel name their link.
                let link = name(route.link).filter(|name| name == TUNNEL);
                known.ours.insert(Route {
                    destination: route.destination,
                    gateway,
                    link,
                    protocol: PROTOCOL,
                });
            }
            _ => drop(known.others.insert(route.destination)),
        }
    }
    Ok(known)
}

fn keep_tunnel(links: &Links, tunnel: &Tunnel) -> Result<(), LinkError> {
    let mtu = tunnel_mtu(tunnel.local)?;
    // The kernel does not let these be changed later, so they are written on the link to be known again.
    let note = format!("VXLAN {TUNNEL_ID} port {TUNNEL_PORT} from {}", tunnel.local);
    let is_same = |link: &Link| link.alias.as_deref() == Some(&note) && link.mac == Some(tunnel.mac);
    let known = links.find(TUNNEL)?;
    if !known.as_ref().is_some_and(is_same) {
        links.delete(TUNNEL)?;
        links.add_vxlan(&Vxlan {
            name: TUNNEL,
            id: TUNNEL_ID,
            port: TUNNEL_PORT,
            local: tunnel.local,
            mac: tunnel.mac,
            mtu,
        })?;
        links.set_alias(TUNNEL, &note)?;
    } else if known.is_some_and(|link| link.mtu != mtu) {
        links.set_mtu(TUNNEL, mtu)?;
    }
    links.set_up(TUNNEL)?;
    let known: BTreeSet<IpNet> = links.addresses(TUNNEL)?.into_iter().collect();
    let is_link_local = |address: &IpNet| match address.addr() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    for address in known.difference(&tunnel.addresses).filter(|address| !is_link_local(address)) {
        links.remove_address(TUNNEL, *address)?;
    }
    for address in tunnel.addresses.difference(&known) {
        links.add_address(TUNNEL, *address)?;
    }
    Ok(())
}

fn keep_ends(links: &Links, tunnel: &Tunnel) -> Result<(), LinkError> {
    let known: BTreeSet<Neighbour> = links.neighbours(TUNNEL)?.into_iter().collect();
    for gone in known.difference(&tunnel.neighbours) {
        links.remove_neighbour(TUNNEL, *gone)?;
    }
    for new in tunnel.neighbours.difference(&known) {
        links.set_neighbour(TUNNEL, *new)?;
    }
    let known: BTreeSet<Neighbour> = links.tunnel_ends(TUNNEL)?.into_iter().collect();
    for gone in known.difference(&tunnel.ends) {
        links.remove_tunnel_end(TUNNEL, *gone)?;
    }
    for new in tunnel.ends.difference(&known) {
        links.set_tunnel_end(TUNNEL, *new)?;
    }
    Ok(())
}
