//! What the whole-system tests share: recorded cases, scenes, a proxy process, and comparing dumps.
//!
//! The tests themselves are in `tests/`. They need root, iptables, and a kernel with network namespaces;
//! whatever they make lives in namespaces of their own.

pub mod api_server;
pub mod case;
pub mod cluster;
pub mod dump;
pub mod etcd;
pub mod figures;
pub mod fuzz;
pub mod harness;
pub mod http;
pub mod kernel;
pub mod lab;
pub mod objects;
pub mod process;
pub mod proxy;
pub mod random;
pub mod recorded;
pub mod stage;
pub mod stream;
pub mod variant;
pub mod wait;
pub mod watch_server;
pub mod world;
