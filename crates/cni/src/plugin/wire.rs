//! Links, addresses and routes: makes what a plan says, and takes it away.

use std::os::fd::AsFd;

use switchyard_kernel::link::{Link, LinkError, Links, VethPair};
use switchyard_kernel::namespace::NamespaceFile;
use switchyard_kernel::sysctl::{KernelSysctls, Sysctls};

use super::identity::{Identity, hash_in};
use super::plan::{Chosen, Made, Plan, everything};
use crate::types::{Error, code};

const BRIDGE: &str = "bridge";
const VETH: &str = "veth";

/// Makes the bridge if it is missing, and gives it the gateways' addresses. Many may do this at once.
pub(super) fn bridge(links: &Links, plan: &Plan) -> Result<Link, Error> {
    let name = plan.bridge.as_str();
    match links.find(name).map_err(failed)? {
        Some(link) if link.kind.as_deref() != Some(BRIDGE) => return Err(no_bridge(name)),
        Some(_) => {}
        None => accept_existing(links.add_bridge_with_mac(name, plan.bridge_mac))?,
    }
    let gateways = plan.addresses.iter().filter_map(|address| address.gateway);
    let mut sysctls = KernelSysctls::default();
    if plan.addresses.iter().any(|address| address.on_link.addr().is_ipv6()) {
        usable_ipv6(&mut sysctls, name)?;
    }
    links.set_up(name).map_err(failed)?;
    for gateway in gateways {
        accept_existing(links.add_address(name, gateway))?;
        let forwarding =
            if gateway.addr().is_ipv4() { "net/ipv4/ip_forward" } else { "net/ipv6/conf/all/forwarding" };
        set(&mut sysctls, forwarding, 1)?;
    }
    links.find(name).map_err(failed)?.ok_or_else(|| no_bridge(name))
}

/// Joins the container to the bridge. What an earlier, unfinished try left of the pair is made anew.
pub(super) fn container(
    links: &Links,
    bridge: &Link,
    namespace: &NamespaceFile,
    plan: &Plan,
) -> Result<Chosen, Error> {
    let (host, inside) = (plan.host_link.as_str(), plan.interface.as_str());
    remove_host_link(links, host, &plan.note)?;
    let there = Links::open_in(namespace).map_err(failed)?;
    if there.find(inside).map_err(failed)?.is_some() {
        let place = namespace.path().display();
        let msg = format!("the container has an interface {inside} already, in {place}");
        return Err(Error::new(code::FAILED, msg).with_details("remove it, or ask for another CNI_IFNAME"));
    }
    let pair = VethPair {
        name: host,
        peer: inside,
        peer_namespace: namespace.file().as_fd(),
        peer_mac: Some(plan.mac),
        mtu: plan.mtu,
    };
    links.add_veth_pair(&pair).map_err(failed)?;
    links.set_alias(host, &plan.note).map_err(failed)?;
    links.set_master(host, &bridge.name).map_err(failed)?;
    links.set_hairpin(host, plan.hairpin).map_err(failed)?;
    links.set_up(host).map_err(failed)?;
    if plan.addresses.iter().any(|address| address.on_link.addr().is_ipv6()) {
        // /proc/sys/net shows the namespace of the thread that looks.
        let set = namespace.run(|| usable_ipv6(&mut KernelSysctls::default(), inside));
        set.map_err(|error| Error::because(code::FAILED, &error))??;
    }
    there.set_up(inside).map_err(failed)?;
    for address in &plan.addresses {
        there.add_address(inside, address.on_link).map_err(failed)?;
    }
    for address in plan.addresses.iter().filter(|address| address.default_route) {
        if let Some(gateway) = address.gateway {
            let to = everything(gateway.addr());
            there.add_onlink_route(inside, to, gateway.addr()).map_err(failed)?;
        }
    }
    // A bridge takes the smallest MTU of its ports.
    let bridge = look(links, &bridge.name)?;
    Ok(Chosen { bridge, host_link: look(links, host)?, interface: look(&there, inside)? })
}

/// Removes the host's end of a pair, and with it the container's. Leaves a link alone that is somebody else's, which
/// its alias tells; one without an alias is what a try left that was ended between two steps.
pub(super) fn remove_host_link(links: &Links, name: &str, note: &str) -> Result<(), Error> {
    match links.find(name).map_err(failed)? {
        Some(link)
            if link.kind.as_deref() == Some(VETH) && link.alias.as_deref().is_none_or(|a| a == note) =>
        {
            links.delete(name).map(drop).map_err(failed)
        }
        _ => Ok(()),
    }
}

/// Removes the container's interface, if it is one of a pair; for when the host's end is not to be found.
pub(super) fn remove_interface(namespace: &NamespaceFile, name: &str) -> Result<(), Error> {
    let links = Links::open_in(namespace).map_err(failed)?;
    match links.find(name).map_err(failed)? {
        Some(link) if link.kind.as_deref() == Some(VETH) => links.delete(name).map(drop).map_err(failed),
        _ => Ok(()),
    }
}

/// Removes every link of this network whose attachment is not to stay. All are tried.
pub(super) fn remove_others(links: &Links, network: &str, stays: &dyn Fn(&str) -> bool) -> Result<(), Error> {
    let mut result = Ok(());
    for link in links.all().map_err(failed)? {
        let alias = link.alias.as_deref().unwrap_or_default();
        let gone = hash_in(alias, network).is_some_and(|hash| !stays(hash));
        if gone && link.kind.as_deref() == Some(VETH) {
            result = result.and(links.delete(&link.name).map(drop).map_err(failed));
        }
    }
    result
}

/// Removes the link of an attachment whose lease was found.
pub(super) fn remove_of(links: &Links, network: &str, identity: &Identity) -> Result<(), Error> {
    remove_host_link(links, &identity.host_link(), &identity.note(network))
}

/// Addresses are usable at once only without duplicate address detection, and the link's own address too counts.
fn usable_ipv6(sysctls: &mut KernelSysctls, link: &str) -> Result<(), Error> {
    if sysctls.get(&format!("net/ipv6/conf/{link}/disable_ipv6")).is_err() {
        let msg = "ranges has an IPv6 range, and the kernel has no IPv6";
        return Err(
            Error::new(code::FAILED, msg).with_details("boot without ipv6.disable=1, or leave the range out")
        );
    }
    set(sysctls, &format!("net/ipv6/conf/{link}/disable_ipv6"), 0)?;
    set(sysctls, &format!("net/ipv6/conf/{link}/accept_dad"), 0)
}

fn set(sysctls: &mut KernelSysctls, name: &str, value: u64) -> Result<(), Error> {
    sysctls.ensure(name, value).map(drop).map_err(|error| Error::because(code::FAILED, &error))
}

fn look(links: &Links, name: &str) -> Result<Made, Error> {
    let link = links.find(name).map_err(failed)?;
    let gone = || Error::new(code::FAILED, format!("link {name} went away while it was set up"));
    link.as_ref().map(made).ok_or_else(gone)
}

fn made(link: &Link) -> Made {
    Made { mac: link.mac, mtu: link.mtu }
}

fn no_bridge(name: &str) -> Error {
    let msg = format!("there is a link {name} which is no bridge");
    Error::new(code::FAILED, msg).with_details("give the network another bridge, or rename that link")
}

fn accept_existing(result: Result<(), LinkError>) -> Result<(), Error> {
    match result {
        Err(error) if !error.exists() => Err(failed(error)),
        _ => Ok(()),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "fits map_err")]
pub(super) fn failed(error: LinkError) -> Error {
    Error::because(code::FAILED, &error)
}
