//! Looking at what the proxy would do, without doing it: `switchyard services` and `switchyard rules`.
//!
//! Both take every flag of the proxy, read Services and EndpointSlices from the same sources, and touch no kernel.

mod command;
mod table;
mod view;

pub(crate) use command::{Asked, MODE, Seen, failure, node_facts};
pub use command::{rules, services};
pub(crate) use table::columns;
pub use table::{Width, table};
pub use view::{AddressKind, AddressView, EndpointView, ServicePortView, view};
