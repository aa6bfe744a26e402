//! Names and the few parts of an object's metadata that matter here.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// A shared name. Node, zone and port names repeat in every endpoint; the model interns them.
pub type Name = Arc<str>;

/// Namespace and name; the namespace of a cluster-wide object is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    pub namespace: Name,
    pub name: Name,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<Name>, name: impl Into<Name>) -> ObjectKey {
        ObjectKey { namespace: namespace.into(), name: name.into() }
    }
}

/// `namespace/name`, or `name` alone for a cluster-wide object.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The labels and annotations that service networking looks at.
pub mod label {
    /// On a Service: another proxy looks after it.
    pub const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
    /// On a Service or EndpointSlice: it belongs to a headless Service.
    pub const HEADLESS: &str = "service.kubernetes.io/headless";
    /// On an EndpointSlice: the Service it belongs to.
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
    /// On a Node: its zone.
    pub const ZONE: &str = "topology.kubernetes.io/zone";
    /// Annotation of an EndpointSlice: when the change happened that it reports.
    pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

    pub(crate) const KEPT: [&str; 5] = [SERVICE_PROXY_NAME, HEADLESS, SERVICE_NAME, ZONE, TRIGGER_TIME];
}

/// The subset of a label or annotation map named in [`label`]; all others are dropped while decoding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Vec<(&'static str, Name)>);

impl Labels {
    pub fn get(&self, key: &str) -> Option<&Name> {
        self.0.iter().find(|(kept, _)| *kept == key).map(|(_, value)| value)
    }

    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Keeps the pair if it is one of the known keys, the last value of a key winning as in JSON.
    pub fn insert(&mut self, key: &str, value: Name) {
        let Some(known) = label::KEPT.iter().find(|kept| **kept == key) else { return };
        self.0.retain(|(kept, _)| kept != known);
        self.0.push((known, value));
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
        struct KeepKnown;
        impl<'de> Visitor<'de> for KeepKnown {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_unit<E>(self) -> Result<Labels, E> {
                Ok(Labels::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Labels::default();
                while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    if label::KEPT.contains(&key.as_ref()) {
                        labels.insert(&key, map.next_value::<Option<Name>>()?.unwrap_or_default());
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_any(KeepKnown)
    }
}

/// What is kept of `metadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    #[serde(deserialize_with = "null_as_default")]
    pub namespace: Name,
    #[serde(deserialize_with = "null_as_default")]
    pub name: Name,
    #[serde(deserialize_with = "null_as_default")]
    pub uid: Box<str>,
    #[serde(deserialize_with = "null_as_default")]
    pub resource_version: Box<str>,
    /// Present, whatever its value, once somebody asked for the object to be deleted.
    #[serde(deserialize_with = "is_present")]
    pub deletion_timestamp: bool,
    pub labels: Labels,
    pub annotations: Labels,
}

impl Metadata {
    pub fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<IgnoredAny>::deserialize(deserializer)?.is_some())
}

/// Reads a field whose explicit `null` means the same as its absence, as it does everywhere in the Kubernetes API.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
