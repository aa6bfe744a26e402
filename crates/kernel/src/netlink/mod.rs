//! Netlink, as far as netfilter speaks it: messages, attributes, and a socket for requests and for notices.
//!
//! Reading never trusts a length that came from outside: a message that does not add up is an error, not a panic.

mod message;
mod socket;

pub use message::{Attribute, Attributes, Header, Message, MessageBuilder, Messages, Truncated};
pub use socket::{NetlinkError, Socket};

/// Subsystems of netfilter: the high byte of a message type.
pub mod subsystem {
    pub const CONNTRACK: u8 = 1;
    pub const ACCOUNTING: u8 = 7;
    pub const NFTABLES: u8 = 10;
}
