//! The embedded API server: what kubectl and every controller take for kube-apiserver, as far as services need it.

pub mod field;
pub mod object;
pub mod status;
pub mod store;
