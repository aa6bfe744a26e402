//! What came of ADD, kept on disk: CHECK and DEL are to be given it, also by a runtime that was started since.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Container;
use super::error::RuntimeError;
use crate::types::{AddResult, Attachment, NetConfList};

const ENDING: &str = ".json";

/// A folder a network, a file an attachment.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    folder: PathBuf,
}

/// An ADD that succeeded.
#[derive(Debug, Clone)]
pub struct Cached {
    pub container: Container,
    /// The result as a plugin takes it for `prevResult`.
    pub result: Value,
    configuration: Value,
}

impl Cached {
    /// The network as it was when the container was added; none if that cannot be read any more.
    pub fn network(&self) -> Option<NetConfList> {
        NetConfList::parse(self.configuration.to_string().as_bytes()).ok()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    container: String,
    interface: String,
    namespace: Option<PathBuf>,
    #[serde(default)]
    arguments: Vec<(String, String)>,
    #[serde(default)]
    capabilities: Map<String, Value>,
    configuration: Value,
    result: Value,
}

impl Cache {
    pub(super) fn new(folder: &Path) -> Cache {
        Cache { folder: folder.to_owned() }
    }

    pub(super) fn store(
        &self,
        network: &NetConfList,
        container: &Container,
        result: &AddResult,
    ) -> Result<(), RuntimeError> {
        let entry = Entry {
            container: container.id.clone(),
            interface: container.interface.clone(),
            namespace: container.namespace.clone(),
            arguments: container.arguments.clone(),
            capabilities: container.capabilities.clone(),
            configuration: configuration(network),
            result: result.to_value(network.cni_version),
        };
        let path = self.file(&network.name, &container.attachment());
        let text = json!(entry).to_string();
        write_whole(&path, text.as_bytes()).map_err(|source| RuntimeError::Cache {
            doing: "keeping the result in",
            path,
            source,
        })
    }

    pub(super) fn load(
        &self,
        network: &str,
        attachment: &Attachment,
    ) -> Result<Option<Cached>, RuntimeError> {
        let path = self.file(network, attachment);
        match fs::read(&path) {
            // A file that is no entry is as good as none: plugins have to manage without.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().map(cached)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RuntimeError::Cache { doing: "reading the result in", path, source }),
        }
    }

    /// Everything of a network.
    pub(super) fn all(&self, network: &str) -> Result<Vec<Cached>, RuntimeError> {
        let path = self.folder.join(network);
        let read = || -> io::Result<Vec<Cached>> {
            let entries = match fs::read_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                other => other?,
            };
            let mut all = Vec::new();
            for entry in entries {
                let file = entry?.path();
                if file.to_string_lossy().ends_with(ENDING) {
                    all.extend(serde_json::from_slice(&fs::read(&file)?).ok().map(cached));
                }
            }
            Ok(all)
        };
        read().map_err(|source| RuntimeError::Cache {
            doing: "reading the results in",
            path: path.clone(),
            source,
        })
    }

    pub(super) fn remove(&self, network: &str, attachment: &Attachment) -> Result<(), RuntimeError> {
        let path = self.file(network, attachment);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(RuntimeError::Cache { doing: "removing the result in", path, source })
            }
            _ => Ok(()),
        }
    }

    /// A container's id has no `@`, so no two attachments share a file.
    fn file(&self, network: &str, attachment: &Attachment) -> PathBuf {
        let name = format!("{}@{}{ENDING}", attachment.container, attachment.interface);
        self.folder.join(network).join(name)
    }
}

fn cached(entry: Entry) -> Cached {
    Cached {
        container: Container {
            id: entry.container,
            namespace: entry.namespace,
            interface: entry.interface,
            arguments: entry.arguments,
            capabilities: entry.capabilities,
        },
        result: entry.result,
        configuration: entry.configuration,
    }
}

fn configuration(network: &NetConfList) -> Value {
    json!({
        "name": network.name,
        "cniVersion": network.cni_version,
        "disableCheck": network.disable_check,
        "disableGC": network.disable_gc,
        "plugins": network.plugins.iter().map(|plugin| &plugin.keys).collect::<Vec<_>>(),
    })
}

/// Whatever happens, the file is the old one or the new one.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Version;

    #[test]
    fn what_is_kept_is_found_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let network =
            NetConfList::parse(br#"{"cniVersion": "1.0.0", "name": "n", "type": "t", "own": true}"#).unwrap();
        let container = Container::new("c", Some(Path::new("/run/netns/c")), "eth0");
        let attachment = container.attachment();
        assert!(cache.load("n", &attachment).unwrap().is_none());
        cache.store(&network, &container, &AddResult::empty(Version::V1_0_0)).unwrap();
        // A later runtime.
        let cache = Cache::new(folder.path());
        let found = cache.load("n", &attachment).unwrap().unwrap();
        assert_eq!(found.network().unwrap(), network);
        assert_eq!(found.result["cniVersion"], "1.0.0");
        assert_eq!(cache.all("n").unwrap().len(), 1);
        assert!(cache.all("other").unwrap().is_empty());
        cache.remove("n", &attachment).unwrap();
        cache.remove("n", &attachment).unwrap();
        assert!(cache.load("n", &attachment).unwrap().is_none());
    }

    #[test]
    fn a_spoiled_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let attachment = Container::new("c", None, "eth0").attachment();
        fs::create_dir_all(folder.path().join("n")).unwrap();
        fs::write(cache.file("n", &attachment), "{").unwrap();
        assert!(cache.load("n", &attachment).unwrap().is_none());
    }
}
