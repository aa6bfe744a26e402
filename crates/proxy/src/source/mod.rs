//! Where the cluster's objects come from: a Kubernetes API server ([`api`]) or files ([`manifests`]).
//!
//! Either source turns what it sees into [`Update`]s over one bounded channel. A reader that applies them in order
//! holds, after each [`Update::Synced`], exactly the objects that the source holds: deletions that happened while a
//! source was blind arrive as removals, and an object that did not change is not sent again.

pub mod api;
pub mod manifests;
mod node_wait;
pub mod opened;

use switchyard_api::manifest::{MalformedObject, Object};
use switchyard_api::{EndpointSlice, Node, ObjectKey, Service, ServiceCidr};
use tokio::sync::mpsc;

pub use node_wait::{NodeWait, NodeWaitError, NodeWaitLimits, wait_for_node};

/// Updates that may wait for their reader: enough that a source rarely waits, too few to matter in memory.
pub const CHANNEL_CAPACITY: usize = 256;

/// The kinds of objects that a proxy reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Service,
    EndpointSlice,
    Node,
    ServiceCidr,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Node, Kind::Service, Kind::EndpointSlice, Kind::ServiceCidr];

    /// As the `kind` field of an object has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Node => "Node",
            Kind::ServiceCidr => "ServiceCIDR",
        }
    }

    /// The inverse of [`Kind::as_str`].
    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One object appeared or changed, or is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    Set(T),
    Removed(ObjectKey),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    Service(Change<Service>),
    EndpointSlice(Change<EndpointSlice>),
    Node(Change<Node>),
    ServiceCidr(Change<ServiceCidr>),
    /// Every object of the kind that existed at the start has been sent. Sent once for each kind.
    Synced(Kind),
    /// An object that cannot be read. What was known of it before, if anything, stays in force.
    Malformed(Malformed),
}

/// An unreadable object, and its `uid` where that part could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    pub object: MalformedObject,
    pub uid: Option<Box<str>>,
}

impl Update {
    pub fn set(object: Object) -> Update {
        match object {
            Object::Service(service) => Update::Service(Change::Set(service)),
            Object::EndpointSlice(slice) => Update::EndpointSlice(Change::Set(slice)),
            Object::Node(node) => Update::Node(Change::Set(node)),
            Object::ServiceCidr(cidr) => Update::ServiceCidr(Change::Set(cidr)),
        }
    }

    pub fn removed(kind: Kind, key: ObjectKey) -> Update {
        match kind {
            Kind::Service => Update::Service(Change::Removed(key)),
            Kind::EndpointSlice => Update::EndpointSlice(Change::Removed(key)),
            Kind::Node => Update::Node(Change::Removed(key)),
            Kind::ServiceCidr => Update::ServiceCidr(Change::Removed(key)),
        }
    }
}

/// The reader of the updates is gone, so there is nothing left to do: the end of a source, not an error to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the updates any more")]
pub struct ReaderGone;

/// Hands an update over, waiting while the channel is full.
async fn send(updates: &mpsc::Sender<Update>, update: Update) -> Result<(), ReaderGone> {
    updates.send(update).await.map_err(|_| ReaderGone)
}
