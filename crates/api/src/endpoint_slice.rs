//! `discovery.k8s.io/v1 EndpointSlice`.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use crate::address::parse_ip;
use crate::metadata::null_as_default;
use crate::service::{null_as_unnamed, unnamed};
use crate::{Metadata, Name, Protocol};

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    #[serde(deserialize_with = "null_as_default")]
    pub metadata: Metadata,
    #[serde(deserialize_with = "null_as_default")]
    pub address_type: AddressType,
    #[serde(deserialize_with = "null_as_default")]
    pub endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "null_as_default")]
    pub ports: Vec<EndpointPort>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum AddressType {
    #[default]
    IPv4,
    IPv6,
    FQDN,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPort {
    /// API defaulting makes an absent name the empty one.
    #[serde(default = "unnamed", deserialize_with = "null_as_unnamed")]
    pub name: Name,
    #[serde(default, deserialize_with = "null_as_default")]
    pub protocol: Protocol,
    /// Absent (or 0) means "all ports", which a proxy cannot forward to.
    #[serde(default, deserialize_with = "null_as_default")]
    pub port: u16,
}

/// One endpoint. 100,000 of these have to fit in a few megabytes, so the address is a number, and what most
/// endpoints lack is boxed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    #[serde(rename = "addresses", deserialize_with = "first_address")]
    pub address: EndpointAddress,
    #[serde(deserialize_with = "null_as_default")]
    conditions: Conditions,
    pub node_name: Option<Name>,
    pub hints: Option<Box<Hints>>,
}

/// The first of an endpoint's addresses: the only one that a proxy may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointAddress {
    Ip(IpAddr),
    /// A host name, or something broken; empty when the list was.
    Other(Box<str>),
}

impl Default for EndpointAddress {
    fn default() -> Self {
        EndpointAddress::Other("".into())
    }
}

impl Endpoint {
    /// For objects built in code rather than decoded: a ready endpoint.
    pub fn ready_at(address: IpAddr) -> Endpoint {
        Endpoint { address: EndpointAddress::Ip(address), ..Endpoint::default() }
    }

    pub fn set_conditions(&mut self, ready: bool, serving: bool, terminating: bool) {
        self.conditions =
            Conditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) };
    }

    /// Unknown readiness counts as ready.
    pub fn ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }

    /// Unknown serving counts as serving.
    pub fn serving(&self) -> bool {
        self.conditions.serving.unwrap_or(true)
    }

    pub fn terminating(&self) -> bool {
        self.conditions.terminating.unwrap_or(false)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

/// Which zones and which nodes should use an endpoint. An empty list is no hint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    #[serde(deserialize_with = "names")]
    pub for_zones: Vec<Name>,
    #[serde(deserialize_with = "names")]
    pub for_nodes: Vec<Name>,
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Name>, D::Error> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default = "unnamed", deserialize_with = "null_as_unnamed")]
        name: Name,
    }
    let named = Option::<Vec<Named>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(named.into_iter().map(|n| n.name).collect())
}

fn first_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EndpointAddress, D::Error> {
    struct First;
    impl<'de> Visitor<'de> for First {
        type Value = EndpointAddress;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of addresses")
        }

        fn visit_unit<E>(self) -> Result<EndpointAddress, E> {
            Ok(EndpointAddress::default())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<EndpointAddress, A::Error> {
            let Some(first) = seq.next_element::<std::borrow::Cow<'de, str>>()? else {
                return Ok(EndpointAddress::default());
            };
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(match parse_ip(&first) {
                Some(ip) => EndpointAddress::Ip(ip),
                None => EndpointAddress::Other(first.as_ref().into()),
            })
        }
    }
    deserializer.deserialize_any(First)
}
