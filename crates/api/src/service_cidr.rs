//! `networking.k8s.io/v1 ServiceCIDR`: a range that cluster IPs are allocated from.

use serde::Deserialize;

use crate::Metadata;
use crate::metadata::null_as_default;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    #[serde(deserialize_with = "null_as_default")]
    pub metadata: Metadata,
    #[serde(deserialize_with = "null_as_default")]
    pub spec: ServiceCidrSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec {
    #[serde(deserialize_with = "null_as_default")]
    pub cidrs: Vec<Box<str>>,
}
