//! The command line of `switchyard agent`: kubelet's names where kubelet has one.
//!
//! Flags are read in two steps: what was typed ([`Flags`]), then what is meant, checked ([`Settings`]).

mod settings;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use jiff::SignedDuration;

pub use settings::{FlagError, Host, Settings};

/// The node agent: runs the pods that are bound to its node.
#[derive(Debug, Clone, Parser)]
#[command(name = "switchyard agent", disable_version_flag = true, max_term_width = 100)]
pub struct Flags {
    /// How to reach the API server, and as whom
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// The node's name; default: the host name
    #[arg(long, value_name = "NAME", default_value = "")]
    pub hostname_override: String,
    /// The node's addresses: one, or two of different families separated by a comma; default: those of the interface of
    /// the default route
    #[arg(long, value_name = "IPS", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Where the agent keeps its state
    #[arg(long, value_name = "DIR", default_value = "/var/lib/switchyard/agent")]
    pub root_dir: PathBuf,
    /// What the names of pods' network namespaces begin with; default: the node's name
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub namespace_prefix: String,
    /// Where network configurations are. If there is none, one for switchyard-cni is written
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Where CNI plugins are; switchyard-cni is always found
    #[arg(long, value_name = "DIRS", value_delimiter = ',', default_value = "/opt/cni/bin")]
    pub cni_bin_dir: Vec<PathBuf>,
    /// Whether the node is made known to the API server if it is not yet
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub register_node: bool,
    /// Labels for the node when it is made known: KEY=VALUE, separated by commas
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// How many pods the node takes
    #[arg(long, value_name = "NUMBER", default_value_t = 110)]
    pub max_pods: u32,
    /// How often the node's status is told
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub node_status_update_frequency: Duration,
    /// Port for logs, exec and port-forward, over HTTPS; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 10250)]
    pub port: u16,
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub address: IpAddr,
    /// Authorities whose client certificates may ask for logs, exec and port-forward, in PEM; default: that of the
    /// kubeconfig
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Addresses of the cluster's DNS, for pods
    #[arg(long, value_name = "IPS", value_delimiter = ',')]
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster, for pods
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Addresses for the pods of this node, if the API server gives it none: one CIDR, or two of different families
    #[arg(long, value_name = "CIDRS", default_value = "")]
    pub pod_cidr: String,
    /// How pods of other nodes are reached
    #[arg(long, value_name = "HOW", value_enum, default_value_t = PodNetwork::Routes)]
    pub network: PodNetwork,
    /// How much is logged: 0 to 10
    #[arg(short = 'v', value_name = "LEVEL", default_value_t = 0)]
    pub verbosity: u8,
}

/// How pods of other nodes are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PodNetwork {
    /// By a route for each node, through its address: nodes share a link
    Routes,
    /// Inside UDP packets between the nodes, which then need share no link
    Vxlan,
    /// Not by the agent's doing
    None,
}

/// A duration as Go writes it: `10s`, `1m30s`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration; write one as 10s or 1m30s");
    let duration: SignedDuration = text.parse().map_err(|_| bad())?;
    Duration::try_from(duration).ok().filter(|duration| !duration.is_zero()).ok_or_else(bad)
}

#[cfg(test)]
mod tests;
