//! Calls plugins as a container runtime does: finds a network's configuration, runs its chain of plugins, and remembers
//! what came of it.
//!
//! Everything blocks, for as long as the plugins take, and happens in the calling thread's network namespace, which has
//! to be the host's.

mod cache;
mod call;
mod error;
mod folder;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::types::{AddResult, Attachment, Command, NetConf, NetConfList};
use cache::Cache;
use call::{Caller, Subject};

pub use cache::Cached;
pub use error::RuntimeError;
pub use folder::{load, load_folder};

/// How long one plugin may take: kubelet gives a pod's whole sandbox four minutes.
const LIMIT: Duration = Duration::from_secs(60);

/// Where plugins are, where results are kept, and how long to wait.
#[derive(Debug, Clone)]
pub struct Runtime {
    path: Vec<PathBuf>,
    cache: Cache,
    limit: Duration,
}

/// What a container is to be joined to a network with.
#[derive(Debug, Clone, Default)]
pub struct Container {
    pub id: String,
    /// Its network namespace. Only DEL can do without.
    pub namespace: Option<PathBuf>,
    pub interface: String,
    /// `CNI_ARGS`.
    pub arguments: Vec<(String, String)>,
    /// What plugins may ask for by their capabilities, such as `portMappings`.
    pub capabilities: Map<String, Value>,
}

impl Container {
    pub fn new(id: &str, namespace: Option<&Path>, interface: &str) -> Container {
        Container {
            id: id.to_owned(),
            namespace: namespace.map(Path::to_owned),
            interface: interface.to_owned(),
            ..Container::default()
        }
    }

    fn attachment(&self) -> Attachment {
        Attachment { container: self.id.clone(), interface: self.interface.clone() }
    }
}

impl Runtime {
    /// `path` are the folders that plugins are looked for in, `cache` the one where results are kept.
    pub fn new(path: Vec<PathBuf>, cache: &Path) -> Runtime {
        Runtime { path, cache: Cache::new(cache), limit: LIMIT }
    }

    /// With another limit on the time that each plugin may take.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Runtime {
        self.limit = limit;
        self
    }

    /// Joins a container to a network and gives the result of the last plugin. If a plugin fails, what the others had
    /// made is removed again.
    ///
    /// # Errors
    /// The first plugin's that failed, with its name; also when it is remembered to have been added.
    pub fn add(&self, network: &NetConfList, container: &Container) -> Result<AddResult, RuntimeError> {
        if self.cached(&network.name, container)?.is_some() {
            // To add it again fails with most plugins, and undoing that would take away what works.
            return Err(RuntimeError::AlreadyAdded {
                network: network.name.clone(),
                container: container.id.clone(),
                interface: container.interface.clone(),
            });
        }
        let result = self.add_chain(network, container).and_then(|result| {
            self.cache.store(network, container, &result)?;
            Ok(result)
        });
        if result.is_err()
            && let Err(error) = self.delete(network, container)
        {
            tracing::warn!("{error}, while undoing an ADD that failed");
        }
        result
    }

    fn add_chain(&self, network: &NetConfList, container: &Container) -> Result<AddResult, RuntimeError> {
        let mut previous: Option<Value> = None;
        for plugin in &network.plugins {
            let conf = configuration(network, plugin, container, previous.as_ref());
            let printed = self.call(plugin, Command::Add, Some(container), &conf)?;
            let value: Value = serde_json::from_slice(&printed)
                .map_err(|source| RuntimeError::answer(plugin, Command::Add, &printed, &source))?;
            // Read at once, so that it is this plugin that is blamed and not the next.
            serde_json::from_value::<AddResult>(value.clone())
                .map_err(|source| RuntimeError::answer(plugin, Command::Add, &printed, &source))?;
            previous = Some(value);
        }
        let value = previous.unwrap_or_default();
        serde_json::from_value(value).map_err(|source| RuntimeError::Answer {
            plugin: network.name.clone(),
            command: Command::Add.as_str(),
            answer: "no plugins".to_owned(),
            source,
        })
    }

    /// Takes a container from a network: the plugins in reverse, each given the result of ADD if it is remembered.
    ///
    /// # Errors
    /// The first plugin's that failed; those before it in the list have not been called then, and the result stays
    /// remembered, so that DEL can be tried again.
    pub fn delete(&self, network: &NetConfList, container: &Container) -> Result<(), RuntimeError> {
        let cached = self.cached(&network.name, container)?;
        let previous = cached.map(|cached| cached.result).filter(|_| network.cni_version.has_check());
        for plugin in network.plugins.iter().rev() {
            let conf = configuration(network, plugin, container, previous.as_ref());
            self.call(plugin, Command::Del, Some(container), &conf)?;
        }
        self.cache.remove(&network.name, &container.attachment())
    }

    /// Asks the plugins whether a container is still joined as ADD had left it.
    ///
    /// # Errors
    /// The first plugin's that says no; also when no result is remembered, or the version has no CHECK.
    pub fn check(&self, network: &NetConfList, container: &Container) -> Result<(), RuntimeError> {
        if !network.cni_version.has_check() {
            return Err(RuntimeError::NotInVersion { command: "CHECK", version: network.cni_version });
        }
        if network.disable_check {
            return Ok(());
        }
        let cached = self.cached(&network.name, container)?.ok_or_else(|| RuntimeError::NotAdded {
            network: network.name.clone(),
            container: container.id.clone(),
            interface: container.interface.clone(),
        })?;
        for plugin in &network.plugins {
            let conf = configuration(network, plugin, container, Some(&cached.result));
            self.call(plugin, Command::Check, Some(container), &conf)?;
        }
        Ok(())
    }

    /// Takes every container but these from a network, those remembered by DEL and all others by the plugins' GC, where
    /// the version has one. All are tried.
    ///
    /// # Errors
    /// The first that failed.
    pub fn gc(&self, network: &NetConfList, valid: &[Attachment]) -> Result<(), RuntimeError> {
        if network.disable_gc {
            return Ok(());
        }
        let mut result = Ok(());
        for cached in self.cache.all(&network.name)? {
            if !valid.contains(&cached.container.attachment()) {
                // As it was when the container was added, which may differ from what it is now.
                let then = cached.network().unwrap_or_else(|| network.clone());
                result = result.and(self.delete(&then, &cached.container));
            }
        }
        if network.cni_version.has_gc_and_status() {
            for plugin in &network.plugins {
                let mut conf = common_configuration(network, plugin);
                conf.insert("cni.dev/valid-attachments".to_owned(), json!(valid));
                result = result.and(self.call(plugin, Command::Gc, None, &conf).map(drop));
            }
        }
        result
    }

    /// Asks the plugins whether an ADD could succeed now. Before 1.1.0 nobody can say, and it is taken for granted once
    /// all plugins are installed.
    ///
    /// # Errors
    /// The first plugin's that is not ready, or not there.
    pub fn status(&self, network: &NetConfList) -> Result<(), RuntimeError> {
        for plugin in &network.plugins {
            if network.cni_version.has_gc_and_status() {
                let conf = common_configuration(network, plugin);
                self.call(plugin, Command::Status, None, &conf)?;
            } else {
                self.caller().find(&plugin.plugin)?;
            }
        }
        Ok(())
    }

    /// The versions that a plugin says it speaks.
    ///
    /// # Errors
    /// When there is no such plugin, or it does not answer.
    pub fn versions(&self, plugin: &str) -> Result<Vec<String>, RuntimeError> {
        let plugin = NetConf { plugin: plugin.to_owned(), keys: Map::new() };
        let mut conf = Map::new();
        conf.insert("cniVersion".to_owned(), json!(crate::types::Version::NEWEST));
        let printed = self.call(&plugin, Command::Version, None, &conf)?;
        let versions = serde_json::from_slice::<crate::types::VersionResult>(&printed);
        let versions =
            versions.map_err(|source| RuntimeError::answer(&plugin, Command::Version, &printed, &source))?;
        Ok(versions.supported_versions)
    }

    /// What is remembered of a container in a network.
    ///
    /// # Errors
    /// When there is something and it cannot be read.
    pub fn cached(&self, network: &str, container: &Container) -> Result<Option<Cached>, RuntimeError> {
        self.cache.load(network, &container.attachment())
    }

    /// Everything that is remembered of a network.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn all_cached(&self, network: &str) -> Result<Vec<Cached>, RuntimeError> {
        self.cache.all(network)
    }

    fn call(
        &self,
        plugin: &NetConf,
        command: Command,
        container: Option<&Container>,
        conf: &Map<String, Value>,
    ) -> Result<Vec<u8>, RuntimeError> {
        let subject = container.map(|container| Subject {
            container: &container.id,
            namespace: container.namespace.as_deref(),
            interface: &container.interface,
            arguments: &container.arguments,
        });
        self.caller().call(&plugin.plugin, command, subject.as_ref(), conf)
    }

    fn caller(&self) -> Caller<'_> {
        Caller { path: &self.path, limit: self.limit }
    }
}

/// What every plugin of a list is told: its own keys, and the list's name and version.
fn common_configuration(network: &NetConfList, plugin: &NetConf) -> Map<String, Value> {
    let mut keys = plugin.keys.clone();
    keys.insert("name".to_owned(), json!(network.name));
    keys.insert("cniVersion".to_owned(), json!(network.cni_version));
    keys.remove("cniVersions");
    keys
}

/// The same for one container: with the previous result, and with those of the container's capabilities that the plugin
/// takes.
fn configuration(
    network: &NetConfList,
    plugin: &NetConf,
    container: &Container,
    previous: Option<&Value>,
) -> Map<String, Value> {
    let mut keys = common_configuration(network, plugin);
    let taken = container.capabilities.iter().filter(|(name, _)| plugin.has_capability(name));
    let runtime: Map<String, Value> = taken.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !runtime.is_empty() {
        keys.insert("runtimeConfig".to_owned(), Value::Object(runtime));
    }
    if let Some(previous) = previous {
        keys.insert("prevResult".to_owned(), previous.clone());
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_told_what_it_takes_and_no_more() {
        let network = NetConfList::parse(
            br#"{"cniVersion": "0.4.0", "cniVersions": ["1.0.0"], "name": "pods", "plugins": [
                {"type": "a", "own": 1}, {"type": "b", "capabilities": {"portMappings": true, "ips": false}}]}"#,
        )
        .unwrap();
        let mut container = Container::new("c", None, "eth0");
        container.capabilities.insert("portMappings".to_owned(), json!([{"hostPort": 80}]));
        container.capabilities.insert("ips".to_owned(), json!(["10.0.0.9"]));
        let first = configuration(&network, &network.plugins[0], &container, None);
        assert_eq!(
            Value::Object(first),
            json!({"type": "a", "own": 1, "name": "pods", "cniVersion": "1.0.0"})
        );
        let previous = json!({"ips": []});
        let second = configuration(&network, &network.plugins[1], &container, Some(&previous));
        assert_eq!(second["runtimeConfig"], json!({"portMappings": [{"hostPort": 80}]}));
        assert_eq!(second["prevResult"], previous);
    }
}
