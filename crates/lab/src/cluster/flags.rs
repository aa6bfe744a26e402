//! What is typed after `switchyard up`, `down`, `status`, `shell` and `logs`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ipnet::IpNet;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// The name that a lab has if none is given.
pub(super) const DEFAULT_NAME: &str = "lab";

/// Bring up a Kubernetes cluster on this machine, made of network namespaces
///
/// Needs root. Everything lives in namespaces of its own: the firewall, routes and settings of this machine stay as
/// they are. `switchyard down` takes all of it away.
#[derive(Debug, Parser)]
#[command(name = "switchyard up", disable_version_flag = true, max_term_width = 100)]
pub(super) struct UpFlags {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(super) nodes: u8,
    /// How the nodes' proxies program the kernel, as kube-proxy's flag
    #[arg(long, value_name = "MODE", default_value = "iptables")]
    pub(super) proxy_mode: String,
    /// Addresses for services: one CIDR, or two of different families separated by a comma
    #[arg(long, value_name = "CIDRS", default_value = "10.96.0.0/12", value_delimiter = ',')]
    pub(super) service_cluster_ip_range: Vec<IpNet>,
    /// Addresses for pods: one CIDR, or two of different families. Nodes get a share each
    #[arg(long, value_name = "CIDRS", default_value = "10.244.0.0/16", value_delimiter = ',')]
    pub(super) cluster_cidr: Vec<IpNet>,
    /// Addresses of the LAN between the nodes: .2 is the API server, .3 the client outside, .11 the first node
    #[arg(long, value_name = "CIDR", default_value = "172.30.0.0/24")]
    pub(super) lan_cidr: IpNet,
    /// What tells this lab from others that run beside it
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME)]
    pub(super) name: String,
    /// How pods reach those of other nodes
    #[arg(long, value_enum, value_name = "KIND", default_value_t = Network::Routes)]
    pub(super) network: Network,
    /// The file that the lab's context is added to; default: the first one of $KUBECONFIG, or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// How long everything may take to be ready: 60s
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(super) wait: Duration,
}

/// How pods reach those of other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Network {
    /// Each node has a route to every other node's pods
    Routes,
    /// Packets between nodes travel inside UDP
    Vxlan,
}

impl Network {
    /// The word that the flag takes.
    pub(super) fn word(self) -> &'static str {
        match self {
            Network::Routes => "routes",
            Network::Vxlan => "vxlan",
        }
    }
}

/// Take a lab away: its processes, namespaces, files and kubeconfig entries
///
/// Also what is left of one that crashed. A lab that is not there is no error.
#[derive(Debug, Parser)]
#[command(name = "switchyard down", disable_version_flag = true, max_term_width = 100)]
pub(super) struct DownFlags {
    /// Which lab
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME)]
    pub(super) name: String,
}

/// Show what a lab consists of and how it is
#[derive(Debug, Parser)]
#[command(name = "switchyard status", disable_version_flag = true, max_term_width = 100)]
pub(super) struct StatusFlags {
    /// Which lab; default: the one of kubectl's current context, or else "lab"
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// The form of the output; without it, tables for people
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(super) output: Option<Output>,
}

/// Forms of output for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// One JSON object
    Json,
}

/// Run a shell or a command in the network of a place of the lab
///
/// Places are node-1 and so on, pod/NAME, outside (a user who is no part of the cluster) and control (the API server's
/// machine). Only the network is that of the place: files and processes are those of this machine. The exit code is that
/// of the command.
#[derive(Debug, Parser)]
#[command(name = "switchyard shell", disable_version_flag = true, max_term_width = 100)]
pub(super) struct ShellFlags {
    /// node-1, pod/NAME, outside or control
    #[arg(value_name = "PLACE")]
    pub(super) place: String,
    /// The command and its arguments; default: $SHELL
    #[arg(value_name = "COMMAND", last = true)]
    pub(super) command: Vec<String>,
    /// The namespace of the pod
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(super) namespace: String,
    /// Which lab; default: the one of kubectl's current context, or else "lab"
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
}

/// Print what the programs of a place have logged
///
/// Places are node-1 and so on, control and keeper; node-1/proxy is one program of a place.
#[derive(Debug, Parser)]
#[command(name = "switchyard logs", disable_version_flag = true, max_term_width = 100)]
pub(super) struct LogsFlags {
    /// node-1, node-1/proxy, control or keeper
    #[arg(value_name = "PLACE")]
    pub(super) place: String,
    /// Go on printing what is added
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Which lab; default: the one of kubectl's current context, or else "lab"
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
}

/// What `switchyard up` starts; not for people.
#[derive(Debug, Parser)]
#[command(name = "switchyard lab-keeper", disable_version_flag = true)]
pub(super) struct KeeperFlags {
    /// Which lab
    #[arg(long)]
    pub(super) name: String,
}

/// A span of time as Go and systemd write it: `60s`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration; write one as 60s or 1m30s");
    let parsed: SignedDuration = text.parse().map_err(|_| bad())?;
    Duration::try_from(parsed).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("-5s").is_err());
        assert!(duration("60").unwrap_err().contains("60s"));
    }

    #[test]
    fn a_command_for_a_place_keeps_its_own_flags() {
        let flags = ShellFlags::parse_from(["shell", "pod/db", "-n", "data", "--", "ip", "-n", "x"]);
        assert_eq!((flags.place.as_str(), flags.namespace.as_str()), ("pod/db", "data"));
        assert_eq!(flags.command, ["ip", "-n", "x"]);
    }
}
