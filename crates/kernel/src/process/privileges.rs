//! What a program of somebody else's may do.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// Privileges of the superuser, one by one.
pub use rustix::thread::CapabilitySet as Capabilities;

/// Leaves the calling thread, which has to be the process's only one, and every program that it becomes, with the capabilities
/// `keep`; no program can give it more, whoever owns that.
///
/// # Errors
/// Without CAP_SETPCAP.
pub fn give_up_privileges(keep: Capabilities) -> io::Result<()> {
    for bit in 0..u64::BITS {
        let capability = Capabilities::from_bits_retain(1 << bit);
        if keep.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel knows no more of them.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    clear_ambient_capability_set()?;
    // Nothing inheritable: the superuser's programs get the bounding set all the same, those of others get nothing.
    set_capabilities(
        None,
        CapabilitySets { effective: keep, permitted: keep, inheritable: Capabilities::empty() },
    )?;
    Ok(set_no_new_privs(true)?)
}
