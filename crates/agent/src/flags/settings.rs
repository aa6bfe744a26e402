//! What the flags mean, checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;

use super::{Flags, PodNetwork};

/// Why the flags cannot be followed. Each says the way out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FlagError {
    #[error("--{flag}={value}: {why}")]
    Bad { flag: &'static str, value: String, why: String },
    #[error("this host has no address on the way to others; set --node-ip")]
    NoAddress,
}

fn bad(flag: &'static str, value: impl ToString, why: impl Into<String>) -> FlagError {
    FlagError::Bad { flag, value: value.to_string(), why: why.into() }
}

/// What is not typed but found on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    pub name: String,
    /// Those of the interface of the default route, one a family at most.
    pub addresses: Vec<IpAddr>,
}

/// What the agent is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub kubeconfig: PathBuf,
    pub node_name: String,
    /// The first is the primary one; at most one a family.
    pub node_ips: Vec<IpAddr>,
    pub root_dir: PathBuf,
    /// What the names of pods' network namespaces begin with.
    pub namespace_prefix: String,
    pub cni_conf_dir: PathBuf,
    pub cni_bin_dirs: Vec<PathBuf>,
    pub register_node: bool,
    pub node_labels: BTreeMap<String, String>,
    pub max_pods: u32,
    pub status_interval: Duration,
    pub address: IpAddr,
    pub port: u16,
    /// Instead of the authority of the kubeconfig.
    pub client_ca_file: Option<PathBuf>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Used if the API server gives the node none.
    pub pod_cidrs: Vec<IpNet>,
    pub network: PodNetwork,
    pub verbosity: u8,
}

impl Settings {
    /// # Errors
    /// The first flag that cannot be followed.
    pub fn check(flags: &Flags, host: &Host) -> Result<Settings, FlagError> {
        let node_name = match flags.hostname_override.as_str() {
            "" => host.name.to_lowercase(),
            name => name.to_owned(),
        };
        let namespace_prefix = match flags.namespace_prefix.as_str() {
            "" => node_name.clone(),
            prefix => prefix.to_owned(),
        };
        if !is_node_name(&node_name) {
            let why = "a node's name is of small letters, digits, - and ., and begins and ends with a letter or digit";
            return Err(bad("hostname-override", node_name, why));
        }
        let node_ips = if flags.node_ip.is_empty() { host.addresses.clone() } else { flags.node_ip.clone() };
        if node_ips.is_empty() {
            return Err(FlagError::NoAddress);
        }
        check_families("node-ip", &node_ips)?;
        let pod_cidrs = ranges(&flags.pod_cidr)?;
        check_families("pod-cidr", &pod_cidrs.iter().map(IpNet::addr).collect::<Vec<_>>())?;
        Ok(Settings {
            kubeconfig: flags.kubeconfig.clone(),
            node_name,
            node_ips,
            root_dir: flags.root_dir.clone(),
            namespace_prefix,
            cni_conf_dir: flags.cni_conf_dir.clone(),
            cni_bin_dirs: flags.cni_bin_dir.clone(),
            register_node: flags.register_node,
            node_labels: labels(&flags.node_labels)?,
            max_pods: flags.max_pods,
            status_interval: flags.node_status_update_frequency,
            address: flags.address,
            port: flags.port,
            client_ca_file: flags.client_ca_file.clone(),
            cluster_dns: flags.cluster_dns.clone(),
            cluster_domain: flags.cluster_domain.clone(),
            pod_cidrs,
            network: flags.network,
            verbosity: flags.verbosity,
        })
    }
}

/// Names of nodes are names in DNS.
fn is_node_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        label.starts_with(is_plain)
            && label.ends_with(is_plain)
            && label.chars().all(|c| is_plain(c) || c == '-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn check_families(flag: &'static str, addresses: &[IpAddr]) -> Result<(), FlagError> {
    match addresses {
        [] | [_] => Ok(()),
        [one, other] if one.is_ipv4() != other.is_ipv4() => Ok(()),
        all => {
            let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
            Err(bad(flag, texts.join(","), "name one, or two of different families"))
        }
    }
}

fn ranges(text: &str) -> Result<Vec<IpNet>, FlagError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let range = |part: &str| {
        let range: Result<IpNet, _> = part.parse();
        range
            .map(|range| range.trunc())
            .map_err(|_| bad("pod-cidr", text, format!("{part:?} is not a valid CIDR, as in 10.244.1.0/24")))
    };
    parts.map(range).collect()
}

fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, FlagError> {
    let label = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(bad("node-labels", text, "write a label as KEY=VALUE")),
    };
    texts.iter().filter(|text| !text.is_empty()).map(label).collect()
}
