//! The iptables mode: chains and rules with upstream's names and texts, byte for byte, since people and their tools
//! look for them; and the `iptables-restore` inputs that bring a kernel to them.
//!
//! [`port_rules`] plans one service port. Nothing keeps the rules of all of them: the old rules of a port are planned
//! again from its old forwarding. [`full`] writes everything, [`partial`] what changed; [`Variant`] decides how.
//! [`Ruleset`] is the whole state as a value, for the [tracer](trace), the [checker](check), the
//! [comparison with a kernel](verify) and tests;
//! [`fake::FakeTables`] is a kernel in memory.

mod balance;
mod base;
pub mod check;
mod cleanup;
mod diff;
pub mod fake;
mod found;
mod full;
mod names;
mod restore;
mod rule;
mod ruleset;
mod service;
mod settings;
pub mod trace;
pub mod verify;

pub use base::{Jump, chains_to_ensure, jumps};
pub use cleanup::{cleanup, cleanup_jumps};
pub use diff::{Partial, partial};
pub use found::Found;
pub use full::{Full, full, is_large, whole_text};
pub use names::{Chain, NameHash, PortNames, Table};
pub use restore::{Purpose, Restore, RuleCounts, Variant};
pub use rule::{Addresses, Counter, Match, Rule, Target};
pub use ruleset::{ChainRef, Ruleset};
pub use service::{DispatchChain, DispatchRule, PortRules, port_rules};
pub use settings::Settings;
