//! From flags and configuration file to the effective configuration of the proxy.
//!
//! Three steps, in the order in which their errors must appear: [`complete`] loads and merges what was asked
//! for, [`Completed::logging`] says how to log, and [`validate`] turns the rest into a typed
//! [`Configuration`]. Nothing here touches the kernel or the network.

mod check;
mod complete;
mod configuration;
mod decode;
mod defaults;
mod error;
mod file;
mod from_flags;
mod logging;
mod mode_bound;
mod node_port_addresses;
mod validate;
mod write;

pub use complete::{Actions, Completed, Notice, Severity, complete};
pub use configuration::{
    ClientConnection, Configuration, Conntrack, DetectLocal, DetectLocalMode, Ipvs, ProxyMode, Userspace,
};
pub use decode::{DecodeError, decode};
pub use error::{ConfigError, FieldError, FieldErrors};
pub use file::KubeProxyConfiguration;
pub use logging::{LogFormat, Logging};
pub use node_port_addresses::NodePortAddresses;
pub use validate::validate;
pub use write::{WriteError, configz, to_yaml, write_to};

#[cfg(test)]
mod tests;
