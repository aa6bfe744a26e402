//! Versions of the spec, as configurations, results and errors name them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A version of the spec that we speak. Older ones (0.1.0, 0.2.0) have another form of result and no reader left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

/// All of them, oldest first.
pub const SUPPORTED: [Version; 5] =
    [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

impl Version {
    pub const NEWEST: Version = Version::V1_1_0;

    pub fn parse(text: &str) -> Option<Version> {
        SUPPORTED.into_iter().find(|version| version.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// CHECK exists, and DEL is given the earlier result.
    pub fn has_check(self) -> bool {
        self >= Version::V0_4_0
    }

    /// GC and STATUS exist.
    pub fn has_gc_and_status(self) -> bool {
        self >= Version::V1_1_0
    }

    /// Every address of a result says which IP version it is of.
    pub(super) fn names_ip_version(self) -> bool {
        self < Version::V1_0_0
    }

    /// Interfaces carry an MTU, routes more than their destination and gateway.
    pub(super) fn has_details(self) -> bool {
        self >= Version::V1_1_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        let text = String::deserialize(deserializer)?;
        let unknown = || {
            let known = SUPPORTED.map(Version::as_str).join(", ");
            de::Error::custom(format!("CNI version {text:?} is not supported; supported are {known}"))
        };
        Version::parse(&text).ok_or_else(unknown)
    }
}

/// The answer to VERSION.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionResult {
    #[serde(rename = "cniVersion")]
    pub cni_version: String,
    /// As text: a plugin may know versions that we do not.
    #[serde(rename = "supportedVersions", default)]
    pub supported_versions: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_it_is_written_and_nothing_else_is_one() {
        for version in SUPPORTED {
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        for text in ["", "1.1", "0.2.0", "1.2.0", "v1.1.0"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        let error = serde_json::from_str::<Version>("\"0.2.0\"").unwrap_err().to_string();
        assert!(error.contains("0.2.0") && error.contains("1.1.0"), "{error}");
    }
}
