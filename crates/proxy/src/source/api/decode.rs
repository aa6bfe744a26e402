//! Reading one object's JSON: first who it is, and only where that is news, what it says.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use switchyard_api::ObjectKey;
use switchyard_api::manifest::Object;

use super::revision::Revision;
use crate::source::Kind;

/// The part of an object that tells which one it is, and at which revision.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Identity {
    metadata: IdentityMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct IdentityMetadata {
    namespace: Option<Box<str>>,
    name: Option<Box<str>>,
    uid: Option<Box<str>>,
    resource_version: Revision,
    annotations: Option<Marks>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Marks {
    /// On a bookmark: everything that existed at the start of the stream has been sent.
    #[serde(rename = "k8s.io/initial-events-end")]
    initial_events_end: Option<IgnoredAny>,
}

impl Identity {
    pub(super) fn key(&self) -> ObjectKey {
        let text = |field: &Option<Box<str>>| field.as_deref().unwrap_or_default().to_owned();
        ObjectKey::new(text(&self.metadata.namespace), text(&self.metadata.name))
    }

    pub(super) fn uid(&self) -> Option<Box<str>> {
        self.metadata.uid.clone()
    }

    pub(super) fn revision(&self) -> &Revision {
        &self.metadata.resource_version
    }
}

/// A line of a watch.
#[derive(Debug)]
pub(super) enum Event {
    /// `ADDED` or `MODIFIED`.
    Put(Identity),
    Deleted(Identity),
    Bookmark {
        revision: Revision,
        initial_events_end: bool,
    },
    Error {
        code: u16,
        message: String,
    },
    /// A type of event that this version does not know.
    Unknown,
}

/// Why a line or an item is of no use.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// Not JSON: the stream is broken here.
    Broken(serde_json::Error),
    /// JSON, but not an object that could be named.
    Nameless(serde_json::Error),
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Unreadable {
        if error.is_data() { Unreadable::Nameless(error) } else { Unreadable::Broken(error) }
    }
}

pub(super) fn event(line: &[u8]) -> Result<Event, Unreadable> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(rename = "type", borrow)]
        event_type: Cow<'a, str>,
        object: HeadObject,
    }
    /// An object, or the `Status` of an error.
    #[derive(Deserialize)]
    struct HeadObject {
        #[serde(default)]
        metadata: IdentityMetadata,
        code: Option<u16>,
        message: Option<String>,
    }
    let Head { event_type, object } = serde_json::from_slice(line)?;
    let HeadObject { metadata, code, message } = object;
    Ok(match event_type.as_ref() {
        "ADDED" | "MODIFIED" => Event::Put(Identity { metadata }),
        "DELETED" => Event::Deleted(Identity { metadata }),
        "BOOKMARK" => Event::Bookmark {
            initial_events_end: metadata.annotations.is_some_and(|marks| marks.initial_events_end.is_some()),
            revision: metadata.resource_version,
        },
        "ERROR" => Event::Error { code: code.unwrap_or(500), message: message.unwrap_or_default() },
        _ => Event::Unknown,
    })
}

pub(super) fn item_identity(item: &[u8]) -> Result<Identity, Unreadable> {
    Ok(serde_json::from_slice(item)?)
}

/// How an object's text is wrapped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wrapping {
    /// An item of a list: the object alone.
    Item,
    /// A line of a watch: the object in the field `object`.
    Event,
}

pub(super) fn object(kind: Kind, json: &[u8], wrapping: Wrapping) -> serde_json::Result<Object> {
    fn typed<T: DeserializeOwned>(json: &[u8], wrapping: Wrapping) -> serde_json::Result<T> {
        #[derive(Deserialize)]
        struct Wrapped<T> {
            object: T,
        }
        match wrapping {
            Wrapping::Item => serde_json::from_slice(json),
            Wrapping::Event => serde_json::from_slice(json).map(|wrapped: Wrapped<T>| wrapped.object),
        }
    }
    Ok(match kind {
        Kind::Service => Object::Service(typed(json, wrapping)?),
        Kind::EndpointSlice => Object::EndpointSlice(typed(json, wrapping)?),
        Kind::Node => Object::Node(typed(json, wrapping)?),
        Kind::ServiceCidr => Object::ServiceCidr(typed(json, wrapping)?),
    })
}

/// The metadata of a list itself.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMetadata {
    pub(super) resource_version: Revision,
    #[serde(rename = "continue")]
    pub(super) continue_token: Option<String>,
}

pub(super) fn list_metadata(json: &[u8]) -> serde_json::Result<ListMetadata> {
    if json.is_empty() { Ok(ListMetadata::default()) } else { serde_json::from_slice(json) }
}
