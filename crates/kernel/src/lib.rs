//! The only crate that touches Linux.
//!
//! Everything here blocks and is called from worker threads. Each facility is a trait cut to what its users do in one
//! step, with the real thing and a fake beside it, so that everybody else's tests run without root.

pub mod child;
pub mod conntrack;
pub mod interfaces;
pub mod iptables;
pub mod link;
pub mod memory;
pub mod message;
pub mod mounts;
pub mod namespace;
pub mod netlink;
pub mod nfacct;
pub mod nft_events;
pub mod nft_program;
pub mod process;
pub mod sysctl;
pub mod wait;
