//! Programs in namespaces of their own: starting them there, holding on to them, and taking their privileges away.
//!
//! Nothing here forks by hand: a program is always started as `std::process::Command` does it, from a thread whose namespaces
//! were changed for it, and changes what is left to change by itself before it becomes another program.

mod files;
mod handle;
mod privileges;
mod running;
mod signals;
mod spawn;
mod terminal;

pub use files::keep_files_from_programs;
pub use handle::ProcessHandle;
pub use privileges::{Capabilities, give_up_privileges};
pub use running::{Memory, Process, in_networks};
pub use signals::reset_signals;
pub use spawn::{Namespaces, spawn_in};
pub use terminal::Terminal;
