//! The Container Network Interface (CNI), from all of its sides.
//!
//! [`types`] is what a container runtime and a network plugin say to each other, [`plugin`] is our plugin
//! (`switchyard-cni`), and [`runtime`] calls plugins, ours and other people's, as a container runtime does.
//!
//! What to allocate, which rules to write and what to answer is decided by functions that do nothing else; doing it goes
//! through the kernel crate.

pub mod plugin;
pub mod runtime;
pub mod types;
