//! DEL: takes away all of an attachment that is still there. What is gone already is no error.

use switchyard_kernel::link::Links;
use switchyard_kernel::namespace::NamespaceFile;

use super::identity::Identity;
use super::leases::Leases;
use super::settings::Settings;
use super::{add, ports, wire};
use crate::types::{Environment, Error};

pub(super) fn del(settings: &Settings, environment: &Environment) -> Result<(), Error> {
    let identity = Identity::new(&environment.container, &environment.interface);
    // A namespace that cannot be opened is gone, and the container's interface with it.
    let namespace = environment.namespace.as_ref().and_then(|_| add::open_namespace(environment).ok());
    remove(settings, &identity, namespace.as_ref(), settings.uses_iptables())
}

/// Every part is tried, whatever became of the others; the first error is told. The addresses come last: they must not
/// be given to another container while something still leads to this one. `has_rules` says whether that iptables cannot
/// be used is an error.
pub(super) fn remove(
    settings: &Settings,
    identity: &Identity,
    namespace: Option<&NamespaceFile>,
    has_rules: bool,
) -> Result<(), Error> {
    let rules = ports::remove(settings, has_rules, &|hash| hash == identity.hash());
    let link = Links::open_here()
        .map_err(wire::failed)
        .and_then(|links| wire::remove_of(&links, &settings.network, identity));
    let interface = namespace
        .map_or(Ok(()), |namespace| wire::remove_interface(namespace, &identity.attachment.interface));
    rules.and(link).and(interface)?;
    match Leases::open_existing(&settings.folder())? {
        Some(leases) => leases.release(|lease| lease.owner.as_ref() == Some(&identity.attachment)).map(drop),
        None => Ok(()),
    }
}
