//! Joins pods to the network by whatever CNI plugins the node is configured with.
//!
//! All of it blocks for as long as the plugins take.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use switchyard_cni::runtime::{Container, Runtime, RuntimeError, load_folder};
use switchyard_cni::types::{AddResult, Attachment, ConfError, NetConfList};
use thiserror::Error;

use crate::pod::spec;
use crate::runtime::Sandbox;

/// The interface of a pod, by custom.
const INTERFACE: &str = "eth0";
/// Our plugin, and the file in which the network is that it makes.
const PLUGIN: &str = "switchyard-cni";
const OWN_FILE: &str = "10-switchyard.conflist";
const OWN_NETWORK: &str = "switchyard";
/// The note on a sandbox that names its network.
pub(crate) const NETWORK_NOTE: &str = "network";

/// Why a pod could not be joined to the network, or taken from it.
#[derive(Debug, Error)]
pub enum CniError {
    #[error(transparent)]
    Configuration(#[from] ConfError),
    #[error(transparent)]
    Plugin(#[from] RuntimeError),
    #[error("the sandbox has no network namespace to connect")]
    NoNamespace,
    #[error("CNI network {network:?} gave the pod no address")]
    NoAddress { network: String },
    #[error("{doing} {}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
}

/// The node's network configuration and its plugins.
#[derive(Debug, Clone)]
pub struct Cni {
    runtime: Runtime,
    conf_dir: PathBuf,
    root: PathBuf,
}

impl Cni {
    /// `bin_dirs` are where plugins are looked for, before a folder in `root` which has ours, and `root` is where the agent
    /// keeps its state.
    ///
    /// # Errors
    /// When the folder for our plugin cannot be made.
    pub fn new(conf_dir: &Path, bin_dirs: &[PathBuf], root: &Path) -> Result<Cni, CniError> {
        let own = root.join("cni/bin");
        link_plugin(&own).map_err(|source| CniError::File {
            doing: "linking our CNI plugin in",
            path: own.clone(),
            source,
        })?;
        let path = bin_dirs.iter().cloned().chain([own]).collect();
        let runtime = Runtime::new(path, &root.join("cni/results"));
        Ok(Cni { runtime, conf_dir: conf_dir.to_owned(), root: root.to_owned() })
    }

    /// Writes a network of ours for these ranges, unless somebody has put another one there.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn configure(&self, pod_cidrs: &[IpNet], mtu: Option<u32>) -> Result<(), CniError> {
        let path = self.conf_dir.join(OWN_FILE);
        let is_ours = path.exists();
        if !is_ours
            && !matches!(load_folder(&self.conf_dir), Err(ConfError::NoneIn { .. } | ConfError::Read { .. }))
        {
            return Ok(());
        }
        let text = format!("{:#}\n", own_network(pod_cidrs, mtu, &self.root.join("cni/leases")));
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        let write = || {
            fs::create_dir_all(&self.conf_dir)?;
            let new = path.with_extension("new");
            fs::write(&new, &text)?;
            fs::rename(&new, &path)
        };
        write().map_err(|source| CniError::File {
            doing: "writing the network configuration",
            path: path.clone(),
            source,
        })
    }

    /// Whether a pod could be joined now.
    ///
    /// # Errors
    /// Why not.
    pub fn status(&self) -> Result<(), CniError> {
        Ok(self.runtime.status(&self.network()?)?)
    }

    /// The name of the network that pods are joined to.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn network_name(&self) -> Result<String, CniError> {
        Ok(self.network()?.name)
    }

    /// Joins a pod's sandbox and gives the pod's addresses.
    ///
    /// # Errors
    /// When there is no network or a plugin fails; nothing is left of the attempt then.
    pub fn connect(&self, pod: &Pod, sandbox: &Sandbox) -> Result<Vec<IpAddr>, CniError> {
        let namespace = sandbox.network.as_deref().ok_or(CniError::NoNamespace)?;
        let network = self.network()?;
        let container = Container {
            arguments: arguments(sandbox),
            capabilities: match port_mappings(pod) {
                mappings if mappings.is_empty() => serde_json::Map::new(),
                mappings => [("portMappings".to_owned(), Value::Array(mappings))].into_iter().collect(),
            },
            ..Container::new(&sandbox.pod.uid, Some(namespace), INTERFACE)
        };
        if let Some(cached) = self.runtime.cached(&network.name, &container)? {
            // From before a restart, or it was made by a call whose answer was lost.
            return addresses(&network.name, serde_json::from_value(cached.result).ok());
        }
        let result = self.runtime.add(&network, &container)?;
        addresses(&network.name, Some(result))
    }

    /// Takes a pod's sandbox from its network. One that is in none is no error.
    ///
    /// # Errors
    /// When a plugin fails.
    pub fn disconnect(&self, sandbox: &Sandbox) -> Result<(), CniError> {
        let container = Container {
            arguments: arguments(sandbox),
            ..Container::new(&sandbox.pod.uid, sandbox.network.as_deref(), INTERFACE)
        };
        for name in self.names(sandbox) {
            if let Some(cached) = self.runtime.cached(&name, &container)? {
                // As it was when the pod was joined, with the ports it had then.
                let then = cached.network().map_or_else(|| self.network(), Ok)?;
                let container = Container { namespace: container.namespace.clone(), ..cached.container };
                self.runtime.delete(&then, &container)?;
            }
        }
        Ok(())
    }

    /// The addresses of a pod that was joined before, perhaps by an agent that ran before.
    pub fn addresses(&self, sandbox: &Sandbox) -> Option<Vec<IpAddr>> {
        let container = Container::new(&sandbox.pod.uid, None, INTERFACE);
        let cached = |name: &String| self.runtime.cached(name, &container).ok().flatten();
        let cached = self.names(sandbox).iter().find_map(cached)?;
        addresses("", serde_json::from_value(cached.result).ok()).ok()
    }

    /// Gives back everything that belongs to no sandbox. Not while pods are being joined.
    ///
    /// # Errors
    /// When there is no network or a plugin fails.
    pub fn collect_garbage(&self, sandboxes: &[Sandbox]) -> Result<(), CniError> {
        let attachment = |sandbox: &Sandbox| Attachment {
            container: sandbox.pod.uid.clone(),
            interface: INTERFACE.to_owned(),
        };
        let valid: Vec<Attachment> = sandboxes.iter().map(attachment).collect();
        Ok(self.runtime.gc(&self.network()?, &valid)?)
    }

    /// The first in the folder counts, as with every container runtime.
    fn network(&self) -> Result<NetConfList, CniError> {
        let mut networks = load_folder(&self.conf_dir)?;
        match networks.is_empty() {
            true => Err(ConfError::NoneIn { folder: self.conf_dir.clone() }.into()),
            false => Ok(networks.swap_remove(0)),
        }
    }

    /// The networks that a sandbox may be in: the one it was made for, and the one of now.
    fn names(&self, sandbox: &Sandbox) -> Vec<String> {
        let mut names: Vec<String> = sandbox.annotations.get(NETWORK_NOTE).cloned().into_iter().collect();
        if let Ok(name) = self.network_name()
            && !names.contains(&name)
        {
            names.push(name);
        }
        names
    }
}

/// Our plugin is this very program, called by another name.
fn link_plugin(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let (program, link) = (std::env::current_exe()?, folder.join(PLUGIN));
    if fs::read_link(&link).is_ok_and(|target| target == program) {
        return Ok(());
    }
    let new = folder.join("new");
    // Left by a start that was cut short.
    let _ = fs::remove_file(&new);
    symlink(program, &new)?;
    fs::rename(new, link)
}

fn own_network(pod_cidrs: &[IpNet], mtu: Option<u32>, leases: &Path) -> Value {
    let mut plugin = json!({
        "type": PLUGIN,
        "ranges": pod_cidrs,
        "dataDir": leases,
        "capabilities": {"portMappings": true},
    });
    if let Some(mtu) = mtu {
        plugin["mtu"] = json!(mtu);
    }
    json!({"cniVersion": "1.1.0", "name": OWN_NETWORK, "plugins": [plugin]})
}

/// What plugins of Kubernetes networks expect to be told.
fn arguments(sandbox: &Sandbox) -> Vec<(String, String)> {
    let pod = &sandbox.pod;
    [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &pod.namespace),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_UID", &pod.uid),
        ("K8S_POD_INFRA_CONTAINER_ID", &pod.uid),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

fn port_mappings(pod: &Pod) -> Vec<Value> {
    let containers = spec::containers(pod).filter(|(role, _)| *role != spec::Role::Init);
    let ports = containers.flat_map(|(_, container)| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_port = port.host_port.filter(|port| *port > 0)?;
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
            let host_ip = port.host_ip.as_deref().unwrap_or_default();
            Some(json!({
                "hostPort": host_port, "containerPort": port.container_port, "protocol": protocol, "hostIP": host_ip,
            }))
        })
        .collect()
}

fn addresses(network: &str, result: Option<AddResult>) -> Result<Vec<IpAddr>, CniError> {
    let ips = result.map(|result| result.ips).unwrap_or_default();
    if ips.is_empty() {
        return Err(CniError::NoAddress { network: network.to_owned() });
    }
    Ok(ips.iter().map(|ip| ip.address.addr()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn cni(root: &Path) -> Cni {
        Cni::new(&root.join("net.d"), &[], root).unwrap()
    }

    fn ranges(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn our_network_is_written_where_there_is_none_and_follows_the_ranges() {
        let root = tempfile::tempdir().unwrap();
        let cni = cni(root.path());
        assert!(cni.network_name().is_err());
        cni.configure(&ranges(&["10.244.1.0/24"]), None).unwrap();
        cni.configure(&ranges(&["10.244.2.0/24", "fd00:2::/64"]), Some(1450)).unwrap();
        let network = cni.network().unwrap();
        assert_eq!(network.name, "switchyard");
        assert_eq!(network.plugins[0].keys["ranges"], json!(["10.244.2.0/24", "fd00:2::/64"]));
        assert_eq!(network.plugins[0].keys["mtu"], 1450);
    }

    #[test]
    fn somebody_elses_network_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let cni = cni(root.path());
        fs::create_dir(root.path().join("net.d")).unwrap();
        let theirs = r#"{"cniVersion": "1.0.0", "name": "theirs", "type": "bridge"}"#;
        fs::write(root.path().join("net.d/99-theirs.conf"), theirs).unwrap();
        cni.configure(&ranges(&["10.244.1.0/24"]), None).unwrap();
        assert_eq!(cni.network_name().unwrap(), "theirs");
    }

    #[test]
    fn ports_of_the_host_are_mapped_as_the_containers_ask() {
        let pod = testing::pod(json!({"containers": [{"name": "a", "ports": [
            {"containerPort": 80, "hostPort": 8080, "protocol": "TCP"},
            {"containerPort": 53, "protocol": "UDP"},
        ]}]}));
        let expected = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]);
        assert_eq!(Value::Array(port_mappings(&pod)), expected);
    }
}
