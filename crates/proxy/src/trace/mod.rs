//! `switchyard trace FROM TO`: what would become of a connection, and why, without sending a packet.
//!
//! [`Cluster`] is what is read of the cluster, [`Question`] who asks for what and which node decides, [`Answer`] what that node's
//! plan does with the first packet; [`open`] tries it. All but reading and trying is pure.

mod answer;
mod cluster;
mod command;
mod question;
mod send;
mod text;

pub use answer::{Answer, Seen, Unused, Way};
pub use cluster::{Cluster, Pod};
pub use command::{Probe, trace};
pub use question::{Place, Question, QuestionError};
pub use send::{Tried, open};

#[cfg(test)]
mod tests;
