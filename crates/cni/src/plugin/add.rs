//! ADD: leases, bridge, pair, rules; and back again if one of them fails.

use std::net::IpAddr;

use switchyard_kernel::link::Links;
use switchyard_kernel::namespace::NamespaceFile;

use super::identity::Identity;
use super::leases::Leases;
use super::plan::Plan;
use super::settings::Settings;
use super::{del, ports, wire};
use crate::types::{AddResult, Environment, Error, code};

pub(super) fn add(settings: &Settings, environment: &Environment) -> Result<AddResult, Error> {
    let namespace = open_namespace(environment)?;
    let identity = Identity::new(&environment.container, &environment.interface);
    // The leases come first: whatever is made later is found by them, or by names that follow from the attachment.
    let addresses = Leases::open(&settings.folder())?.take(&settings.ranges, &identity.attachment)?;
    attach(settings, &namespace, &identity, &addresses).map_err(|error| {
        // Where iptables cannot be used at all there are no rules yet, and that may be what failed.
        match del::remove(settings, &identity, None, false) {
            Ok(()) => error,
            Err(left) => {
                let details = format!("{} and then, undoing what was done: {}", error.details, left.msg);
                error.with_details(details.trim_start())
            }
        }
    })
}

fn attach(
    settings: &Settings,
    namespace: &NamespaceFile,
    identity: &Identity,
    addresses: &[IpAddr],
) -> Result<AddResult, Error> {
    let plan = Plan::new(settings, identity, addresses);
    let links = Links::open_here().map_err(wire::failed)?;
    let bridge = wire::bridge(&links, &plan)?;
    let chosen = wire::container(&links, &bridge, namespace, &plan)?;
    ports::install(settings, identity, &plan.addresses)?;
    Ok(plan.result(settings, &namespace.path().display().to_string(), &chosen))
}

/// The container's namespace; nothing has been done yet when there is none.
pub(super) fn open_namespace(environment: &Environment) -> Result<NamespaceFile, Error> {
    let path = environment.namespace.as_deref().unwrap_or_else(|| "".as_ref());
    let opened = NamespaceFile::open(path).map_err(|error| {
        let code = match &error {
            error if error.is_not_found() => code::CONTAINER_UNKNOWN,
            error if error.is_no_namespace() => code::INVALID_ENVIRONMENT,
            _ => code::FAILED,
        };
        Error::because(code, &error).with_details(format!("CNI_NETNS is {}", path.display()))
    })?;
    let own = NamespaceFile::here().and_then(|here| here.is_same_as(&opened));
    if own.map_err(|error| Error::because(code::FAILED, &error))? {
        let msg = format!("CNI_NETNS is {}, the namespace of the host itself", path.display());
        return Err(Error::new(code::INVALID_ENVIRONMENT, msg).with_details("a container needs its own"));
    }
    Ok(opened)
}
