//! The list-and-watch of one kind as a pure state machine: which request comes next, and what an answer's parts mean.
//! It knows no clock and no connection; [`super::connection`] drives it.

use switchyard_api::ObjectKey;
use switchyard_api::manifest::{MalformedObject, Object};

use super::decode::{self, Event, Identity, ListMetadata, Unreadable, Wrapping};
use super::inventory::Inventory;
use super::request::Request;
use super::revision::Revision;
use crate::source::{Kind, Malformed, Update};

/// Why an answer ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// No connection, or one that was cut.
    #[error("{0}")]
    Connection(String),
    /// The server refused, or gave up in the middle.
    #[error("the API server answered {code}: {message}")]
    Status { code: u16, message: String },
    /// Bytes that are not what was asked for.
    #[error("the API server's answer cannot be read: {0}")]
    Unreadable(String),
    /// Nothing came for too long.
    #[error("the API server was silent for too long")]
    Silent,
}

impl Failure {
    /// The HTTP status code; 0 without an answer.
    fn code(&self) -> u16 {
        if let Failure::Status { code, .. } = self { *code } else { 0 }
    }
}

/// HTTP status codes with which a server says that it does not know streamed lists.
const NO_STREAMED_LISTS: [u16; 6] = [400, 405, 406, 415, 422, 501];
/// The revision is too old (Gone) or, after a restart with a cache that lags behind, too new (Gateway Timeout).
const REVISION_UNUSABLE: [u16; 2] = [410, 504];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// A listing of everything comes next, or is under way by watch events.
    Listing,
    /// In the middle of a paged list.
    Paging {
        continue_token: String,
    },
    Watching {
        after: Revision,
    },
}

/// What a new listing may show at the earliest.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Freshness {
    /// The first: anything the server has at hand.
    Any,
    /// Not older than what was seen.
    AtLeast(Revision),
    /// The newest state there is.
    Newest,
}

#[derive(Debug)]
pub(super) struct Machine {
    kind: Kind,
    phase: Phase,
    freshness: Freshness,
    streamed_lists: bool,
    synced: bool,
    inventory: Inventory,
}

impl Machine {
    pub(super) fn new(kind: Kind) -> Machine {
        Machine {
            kind,
            phase: Phase::Listing,
            freshness: Freshness::Any,
            streamed_lists: true,
            synced: false,
            inventory: Inventory::default(),
        }
    }

    /// The request to send now. Asking for a listing from its start forgets how far the last one came.
    pub(super) fn next_request(&mut self) -> Request {
        match &self.phase {
            Phase::Watching { after } => return Request::Watch { after: after.clone() },
            Phase::Paging { continue_token } => {
                return Request::ListPage { revision: None, continue_token: Some(continue_token.clone()) };
            }
            Phase::Listing => self.inventory.begin_sweep(),
        }
        let at_least = match &self.freshness {
            Freshness::AtLeast(revision) => Some(revision.clone()),
            Freshness::Any | Freshness::Newest => None,
        };
        if self.streamed_lists {
            return Request::StreamedList { at_least };
        }
        let revision = match self.freshness {
            Freshness::Any => Some(Revision::Number(0)),
            _ => at_least,
        };
        Request::ListPage { revision, continue_token: None }
    }

    /// Whether the server is believed to know streamed lists.
    pub(super) fn streams_lists(&self) -> bool {
        self.streamed_lists
    }

    /// Whether a streamed list is still on its way.
    pub(super) fn is_listing(&self) -> bool {
        self.phase == Phase::Listing
    }

    /// Takes one item of a list.
    pub(super) fn item(&mut self, json: &[u8], updates: &mut Vec<Update>) -> Result<(), Failure> {
        match decode::item_identity(json) {
            Ok(identity) => self.put(identity, json, Wrapping::Item, updates),
            Err(Unreadable::Nameless(error)) => updates.push(self.nameless(&error.to_string())),
            Err(Unreadable::Broken(error)) => return Err(Failure::Unreadable(error.to_string())),
        }
        Ok(())
    }

    /// The page that was asked for has arrived whole.
    pub(super) fn page_end(&mut self, metadata: ListMetadata, updates: &mut Vec<Update>) {
        match metadata.continue_token.filter(|token| !token.is_empty()) {
            Some(continue_token) => self.phase = Phase::Paging { continue_token },
            None => self.listing_end(metadata.resource_version, updates),
        }
    }

    /// Takes one line of a watch.
    pub(super) fn line(&mut self, json: &[u8], updates: &mut Vec<Update>) -> Result<(), Failure> {
        if json.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        match decode::event(json) {
            Ok(Event::Put(identity)) => {
                self.saw(identity.revision());
                self.put(identity, json, Wrapping::Event, updates);
            }
            Ok(Event::Deleted(identity)) => {
                self.saw(identity.revision());
                let key = identity.key();
                if self.inventory.delete(&key, identity.revision().clone()) {
                    updates.push(Update::removed(self.kind, key));
                }
            }
            Ok(Event::Bookmark { revision, initial_events_end }) => {
                if self.is_listing() && initial_events_end {
                    self.listing_end(revision, updates);
                } else if !self.is_listing() {
                    self.inventory.forget_deletions();
                    self.saw(&revision);
                }
            }
            Ok(Event::Error { code, message }) => return Err(Failure::Status { code, message }),
            Ok(Event::Unknown) => {}
            Err(Unreadable::Nameless(error)) => updates.push(self.nameless(&error.to_string())),
            Err(Unreadable::Broken(error)) => return Err(Failure::Unreadable(error.to_string())),
        }
        Ok(())
    }

    /// A line or item was left out for its length; whose it was nobody knows.
    pub(super) fn too_long(&self) -> Update {
        self.nameless("the object is too large")
    }

    /// Whether the server does not have the kind at all, and that is fine. Clusters before 1.33 have no ServiceCIDR
    /// API, and roles made for them do not allow it; nothing depends on it.
    pub(super) fn is_absent(&self, failure: &Failure) -> bool {
        self.kind == Kind::ServiceCidr && matches!(failure.code(), 403 | 404)
    }

    /// An answer failed: decides what the next request is.
    pub(super) fn failed(&mut self, failure: &Failure, updates: &mut Vec<Update>) {
        if self.is_absent(failure) {
            let gone = self.inventory.clear();
            updates.extend(gone.into_iter().map(|key| Update::removed(self.kind, key)));
            self.restart_listing(Freshness::Any);
            self.sync(updates);
            return;
        }
        let code = failure.code();
        let streaming = self.is_listing() && self.streamed_lists;
        if streaming && (NO_STREAMED_LISTS.contains(&code) || *failure == Failure::Silent) {
            self.streamed_lists = false;
        } else if REVISION_UNUSABLE.contains(&code) {
            self.restart_listing(Freshness::Newest);
        } else if matches!(self.phase, Phase::Paging { .. }) && code != 0 {
            self.restart_listing(self.freshness.clone());
        }
    }

    fn restart_listing(&mut self, freshness: Freshness) {
        self.phase = Phase::Listing;
        self.freshness = freshness;
    }

    /// Remembers how far a watch has come, to go on from there.
    fn saw(&mut self, revision: &Revision) {
        if let Phase::Watching { after } = &mut self.phase
            && revision.replaces(after)
        {
            *after = revision.clone();
            self.freshness = Freshness::AtLeast(revision.clone());
        }
    }

    fn put(&mut self, identity: Identity, json: &[u8], wrapping: Wrapping, updates: &mut Vec<Update>) {
        let (key, revision) = (identity.key(), identity.revision().clone());
        if key.name.is_empty() {
            return updates.push(self.nameless("metadata.name is missing"));
        }
        let watching = matches!(self.phase, Phase::Watching { .. });
        let news = if watching {
            self.inventory.is_news(&key, &revision)
        } else {
            self.inventory.listed(&key, &revision)
        };
        if !news {
            return;
        }
        match decode::object(self.kind, json, wrapping) {
            Ok(object) => {
                // The object's own copy of its name, so that it is in memory once.
                self.inventory.record(key_of(&object), revision, true);
                updates.push(Update::set(object));
            }
            Err(error) => {
                self.inventory.record(key.clone(), revision, false);
                let reason = error.to_string();
                let object = MalformedObject { kind: self.kind.as_str().into(), key, reason };
                updates.push(Update::Malformed(Malformed { object, uid: identity.uid() }));
            }
        }
    }

    fn nameless(&self, reason: &str) -> Update {
        let object = MalformedObject {
            kind: self.kind.as_str().into(),
            key: ObjectKey::new("", "(unknown)"),
            reason: reason.to_owned(),
        };
        Update::Malformed(Malformed { object, uid: None })
    }

    fn listing_end(&mut self, revision: Revision, updates: &mut Vec<Update>) {
        let gone = self.inventory.end_sweep();
        updates.extend(gone.into_iter().map(|key| Update::removed(self.kind, key)));
        self.freshness = Freshness::AtLeast(revision.clone());
        self.phase = Phase::Watching { after: revision };
        self.sync(updates);
    }

    fn sync(&mut self, updates: &mut Vec<Update>) {
        if !self.synced {
            self.synced = true;
            updates.push(Update::Synced(self.kind));
        }
    }
}

fn key_of(object: &Object) -> ObjectKey {
    match object {
        Object::Service(service) => service.metadata.key(),
        Object::EndpointSlice(slice) => slice.metadata.key(),
        Object::Node(node) => node.metadata.key(),
        Object::ServiceCidr(cidr) => cidr.metadata.key(),
    }
}

#[cfg(test)]
mod tests;
