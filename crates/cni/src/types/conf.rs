//! Network configurations: one plugin's, and the list of plugins that make up a network.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::version::{SUPPORTED, Version};

/// A configuration that could not be found or understood.
#[derive(Debug, Error)]
pub enum ConfError {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no network configuration", path.display())]
    File { path: PathBuf, source: Box<ConfError> },
    #[error("the network configuration is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the network configuration {0}")]
    Invalid(String),
    #[error("the network configuration is for CNI {0}; supported are 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0")]
    Version(String),
    #[error("no network configuration in {}; put a .conflist file there", folder.display())]
    NoneIn { folder: PathBuf },
    #[error("no network {name:?} in {}; there are: {}", folder.display(), known.join(", "))]
    NoSuchNetwork { name: String, folder: PathBuf, known: Vec<String> },
}

/// A network: the plugins that are called for it, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct NetConfList {
    pub name: String,
    /// The version that its plugins are called with.
    pub cni_version: Version,
    /// CHECK succeeds without asking the plugins.
    pub disable_check: bool,
    /// GC succeeds without asking the plugins.
    pub disable_gc: bool,
    pub plugins: Vec<NetConf>,
}

/// One plugin's configuration, with all the keys that only the plugin itself knows.
#[derive(Debug, Clone, PartialEq)]
pub struct NetConf {
    /// The file name of the plugin (`type`).
    pub plugin: String,
    pub keys: Map<String, Value>,
}

/// One interface in one container, as GC names those that are still wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    #[serde(rename = "containerID")]
    pub container: String,
    #[serde(rename = "ifname")]
    pub interface: String,
}

/// Whether the spec allows this name for a network or a container.
pub fn is_valid_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

impl NetConfList {
    /// Reads a list, or the configuration of a single plugin as a list of one.
    ///
    /// # Errors
    /// When it is no JSON, or lacks what the spec asks for.
    pub fn parse(bytes: &[u8]) -> Result<NetConfList, ConfError> {
        let value: Value = serde_json::from_slice(bytes)?;
        let Value::Object(mut keys) = value else { return Err(invalid("is no JSON object")) };
        let cni_version = version(&keys)?;
        let name = text(&keys, "name").unwrap_or_default().to_owned();
        if !is_valid_name(&name) {
            let rule = "has to begin with a letter or digit, and only _ . - may follow besides those";
            return Err(invalid(format!("has the name {name:?}; it {rule}")));
        }
        let plugins = match keys.remove("plugins") {
            None if keys.contains_key("type") => vec![NetConf::from_keys(keys.clone())?],
            None => return Err(invalid("has neither \"plugins\" nor \"type\"")),
            Some(Value::Array(plugins)) if !plugins.is_empty() => {
                plugins.into_iter().map(NetConf::from_value).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(invalid("has no plugins: \"plugins\" has to be a list of objects")),
        };
        let (disable_check, disable_gc) = (flag(&keys, "disableCheck")?, flag(&keys, "disableGC")?);
        Ok(NetConfList { name, cni_version, disable_check, disable_gc, plugins })
    }
}

impl NetConf {
    fn from_value(value: Value) -> Result<NetConf, ConfError> {
        let Value::Object(keys) = value else {
            return Err(invalid("has a plugin that is no JSON object"));
        };
        NetConf::from_keys(keys)
    }

    fn from_keys(keys: Map<String, Value>) -> Result<NetConf, ConfError> {
        let plugin = text(&keys, "type").unwrap_or_default().to_owned();
        // It is looked up in the folders of CNI_PATH, and nowhere else.
        if plugin.is_empty() || plugin.contains('/') || plugin == ".." || plugin == "." {
            return Err(invalid(format!("has a plugin of type {plugin:?}; it has to be a file name")));
        }
        Ok(NetConf { plugin, keys })
    }

    /// Whether the plugin takes this capability as part of `runtimeConfig`.
    pub fn has_capability(&self, name: &str) -> bool {
        self.keys.get("capabilities").and_then(|all| all.get(name)) == Some(&Value::Bool(true))
    }
}

/// The newest version that both the configuration and we know. `cniVersions` came with 1.1.0, to let newer runtimes use
/// newer versions without breaking older ones.
fn version(keys: &Map<String, Value>) -> Result<Version, ConfError> {
    let single = text(keys, "cniVersion");
    let many = keys.get("cniVersions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named: Vec<&str> = many.iter().filter_map(Value::as_str).chain(single).collect();
    let known = SUPPORTED.into_iter().rev().find(|version| named.contains(&version.as_str()));
    known.ok_or_else(|| match named.as_slice() {
        [] => ConfError::Version("no version: \"cniVersion\" is missing".to_owned()),
        named => ConfError::Version(named.join(", ")),
    })
}

/// A boolean that some configurations write as text.
fn flag(keys: &Map<String, Value>, name: &str) -> Result<bool, ConfError> {
    match keys.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(value)) if value == "true" => Ok(true),
        Some(Value::String(value)) if value == "false" => Ok(false),
        Some(other) => Err(invalid(format!("has {name} {other}; it has to be true or false"))),
    }
}

fn text<'a>(keys: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    keys.get(name).and_then(Value::as_str)
}

fn invalid(what: impl Into<String>) -> ConfError {
    ConfError::Invalid(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_with_what_only_its_plugins_know() {
        let list = NetConfList::parse(
            br#"{"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "9.9.9"], "name": "pods", "disableCheck": "true",
                "plugins": [{"type": "switchyard-cni", "ranges": ["10.244.1.0/24"]},
                            {"type": "portmap", "capabilities": {"portMappings": true}}]}"#,
        )
        .unwrap();
        assert_eq!((list.name.as_str(), list.cni_version), ("pods", Version::V1_1_0));
        assert!(list.disable_check && !list.disable_gc);
        assert_eq!(list.plugins[0].keys["ranges"][0], "10.244.1.0/24");
        assert!(
            list.plugins[1].has_capability("portMappings") && !list.plugins[0].has_capability("portMappings")
        );
    }

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let list = NetConfList::parse(br#"{"cniVersion": "0.4.0", "name": "n", "type": "bridge"}"#).unwrap();
        assert_eq!(list.plugins.len(), 1);
        assert_eq!(list.plugins[0].plugin, "bridge");
    }

    #[test]
    fn what_is_wrong_with_a_list_is_told() {
        for (text, part) in [
            ("", "no JSON"),
            ("[]", "no JSON object"),
            (r#"{"name": "n", "type": "x"}"#, "cniVersion"),
            (r#"{"cniVersion": "0.2.0", "name": "n", "type": "x"}"#, "0.2.0"),
            (r#"{"cniVersion": "1.0.0", "type": "x"}"#, "name"),
            (r#"{"cniVersion": "1.0.0", "name": "../x", "type": "x"}"#, "../x"),
            (r#"{"cniVersion": "1.0.0", "name": "n"}"#, "plugins"),
            (r#"{"cniVersion": "1.0.0", "name": "n", "plugins": []}"#, "plugins"),
            (r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{}]}"#, "type"),
            (r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "../sh"}]}"#, "file name"),
            (r#"{"cniVersion": "1.0.0", "name": "n", "type": "x", "disableGC": 1}"#, "disableGC"),
        ] {
            let error = NetConfList::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
