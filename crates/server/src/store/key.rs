//! Names of what is stored.

use std::fmt;

/// `/registry/GROUP/RESOURCE/[NAMESPACE/]NAME`, where the core group is called `core`. Byte order is the order of lists:
/// by namespace, then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    pub(super) const ROOT: &str = "/registry/";

    /// The key of an object; `namespace` is empty for those of the whole cluster.
    pub fn object(group: &str, resource: &str, namespace: &str, name: &str) -> Key {
        Key((Key::prefix(group, resource, namespace) + name).into())
    }

    /// What the keys of a resource begin with; of one namespace, if that is not empty.
    pub fn prefix(group: &str, resource: &str, namespace: &str) -> String {
        let group = if group.is_empty() { "core" } else { group };
        let root = Key::ROOT;
        match namespace {
            "" => format!("{root}{group}/{resource}/"),
            namespace => format!("{root}{group}/{resource}/{namespace}/"),
        }
    }

    /// A key as it was stored.
    pub fn from_stored(text: &str) -> Key {
        Key(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_namespace_and_name() {
        let key = |namespace, name| Key::object("", "services", namespace, name);
        assert_eq!(key("default", "web").as_str(), "/registry/core/services/default/web");
        assert!(key("a", "z") < key("b", "a") && key("a", "a") < key("a", "b"));
        let prefix = Key::prefix("", "services", "a");
        assert!(
            key("a", "z").as_str().starts_with(&prefix) && !key("a-b", "a").as_str().starts_with(&prefix)
        );
    }
}
