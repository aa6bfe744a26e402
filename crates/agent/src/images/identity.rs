//! Who a built-in program says that it is.

use std::env;
use std::net::{IpAddr, SocketAddr};

/// The pod and node of this process, as the agent tells them to containers of built-in images.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) pod: String,
    pub(super) node: String,
}

impl Identity {
    pub(super) fn of_this_process() -> Identity {
        let told = |name| env::var(name).ok().filter(|value| !value.is_empty());
        // The host name of a pod is the pod's name, unless its specification says otherwise.
        let hostname = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Identity {
            pod: told("POD_NAME").or_else(hostname).unwrap_or_default(),
            node: told("NODE_NAME").unwrap_or_else(|| "an unnamed node".to_owned()),
        }
    }
}

/// An address as people know it: not an IPv4 address in the clothes of IPv6, as a socket for both has it.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => SocketAddr::new(ip.to_canonical(), address.port()),
        IpAddr::V4(_) => address,
    }
}
