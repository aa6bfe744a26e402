//! The command line of the node proxy: what was typed, checked word by word and nothing more.
//!
//! One table ([`table::TABLE`]) has a row a flag; parsing, help, the `FLAG:` log lines and `/flagz` all come
//! from it. What the values mean together is decided in [`crate::config`].

mod duration;
mod number;
mod parse;
mod raw;
mod table;
mod usage;
mod value;
mod version;

pub use duration::GoDuration;
pub use parse::{Exit, Extra, Parsed, parse, parse_with};
pub use raw::{RawFlags, VerbosityPattern};
pub(crate) use value::{is_quantity, split_host_port};
pub use version::{KUBERNETES_VERSION, raw_version};

#[cfg(test)]
mod tests;
