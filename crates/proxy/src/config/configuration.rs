//! The effective configuration: every value checked, in the type that the proxy works with.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{Actions, KubeProxyConfiguration, Logging, NodePortAddresses};
use crate::feature_gates::FeatureGates;

/// All that the proxy is told; made by [`super::validate`] only, so holding one means it is consistent.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// How packets are forwarded.
    pub mode: ProxyMode,
    /// Whether the mode was left to the proxy.
    pub mode_was_blank: bool,
    /// The node's name, lower case; `None` is the host's name.
    pub hostname_override: Option<String>,
    /// Overrides the node's primary address, unless it is the zero address.
    pub bind_address: IpAddr,
    /// Where the health server listens; `None` switches it off.
    pub healthz_bind_address: Option<SocketAddr>,
    /// Where the metrics server listens.
    pub metrics_bind_address: SocketAddr,
    /// Whether a server that cannot listen ends the process.
    pub bind_address_hard_fail: bool,
    /// Whether the metrics server has `/debug`.
    pub enable_profiling: bool,
    /// Whether metrics that were hidden in this release are shown.
    pub show_hidden_metrics: bool,
    /// How often the kernel's state is checked without any change.
    pub sync_period: Duration,
    /// The least time between two syncs; zero is no limit.
    pub min_sync_period: Duration,
    /// The bit of the packet mark that asks for masquerading, 0 to 31, of the mode in use.
    pub masquerade_bit: u8,
    /// Whether all traffic to cluster IPs is masqueraded.
    pub masquerade_all: bool,
    /// Whether node ports are reachable on IPv4 loopback (mode iptables).
    pub localhost_node_ports: bool,
    /// How traffic of local pods is recognised.
    pub detect_local_mode: DetectLocalMode,
    /// What the modes of detection need.
    pub detect_local: DetectLocal,
    /// Which of the node's addresses take node port traffic.
    pub node_port_addresses: NodePortAddresses,
    /// The process's `oom_score_adj`, -1000 to 1000.
    pub oom_score_adj: i32,
    /// Kernel settings of connection tracking.
    pub conntrack: Conntrack,
    /// How often informers refresh.
    pub config_sync_period: Duration,
    /// How to talk to the API server.
    pub client_connection: ClientConnection,
    /// URL of the API server, over the one in the kubeconfig.
    pub master: Option<String>,
    /// YAML file or folder that stands in for the API server.
    pub manifests: Option<PathBuf>,
    /// Options of mode ipvs.
    pub ipvs: Ipvs,
    /// Options of mode userspace.
    pub userspace: Userspace,
    /// Feature gates.
    pub feature_gates: FeatureGates,
    /// How to log.
    pub logging: Logging,
    /// What to do instead of running.
    pub actions: Actions,
    /// The configuration file in use, to be watched for changes.
    pub loaded_from: Option<PathBuf>,
    /// The same configuration in the file's form, for `/configz` and `--write-config-to`.
    pub file: KubeProxyConfiguration,
}

/// The way packets are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyMode {
    /// iptables-restore and NAT chains.
    Iptables,
    /// IPVS virtual servers with ipset.
    Ipvs,
    /// nftables maps over netlink.
    Nftables,
    /// Connections copied in this process.
    Userspace,
}

impl ProxyMode {
    /// The mode of this name, as the file and `--proxy-mode` spell it.
    pub fn from_name(name: &str) -> Option<ProxyMode> {
        match name {
            "iptables" => Some(ProxyMode::Iptables),
            "ipvs" => Some(ProxyMode::Ipvs),
            "nftables" => Some(ProxyMode::Nftables),
            "userspace" => Some(ProxyMode::Userspace),
            _ => None,
        }
    }

    /// The name as file, flags, `/proxyMode` and log lines have it.
    pub fn name(self) -> &'static str {
        match self {
            ProxyMode::Iptables => "iptables",
            ProxyMode::Ipvs => "ipvs",
            ProxyMode::Nftables => "nftables",
            ProxyMode::Userspace => "userspace",
        }
    }
}

/// How traffic that pods of this node send is told from other traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectLocalMode {
    /// Its source is in the cluster's pod ranges.
    ClusterCidr,
    /// Its source is in this node's pod ranges.
    NodeCidr,
    /// It comes in over the pods' bridge.
    BridgeInterface,
    /// It comes in over an interface whose name starts so.
    InterfaceNamePrefix,
}

impl DetectLocalMode {
    /// The names that the file and `--detect-local-mode` take.
    pub(super) const NAMES: [&str; 4] = ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"];

    /// The mode of this name; case matters.
    pub fn from_name(name: &str) -> Option<DetectLocalMode> {
        match name {
            "ClusterCIDR" => Some(DetectLocalMode::ClusterCidr),
            "NodeCIDR" => Some(DetectLocalMode::NodeCidr),
            "BridgeInterface" => Some(DetectLocalMode::BridgeInterface),
            "InterfaceNamePrefix" => Some(DetectLocalMode::InterfaceNamePrefix),
            _ => None,
        }
    }

    /// The name as file, flags and log lines have it.
    pub fn name(self) -> &'static str {
        match self {
            DetectLocalMode::ClusterCidr => "ClusterCIDR",
            DetectLocalMode::NodeCidr => "NodeCIDR",
            DetectLocalMode::BridgeInterface => "BridgeInterface",
            DetectLocalMode::InterfaceNamePrefix => "InterfaceNamePrefix",
        }
    }
}

/// What the modes of local detection need; only the field of the mode in use is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetectLocal {
    /// The bridge, in mode `BridgeInterface`.
    pub bridge_interface: String,
    /// The prefix, in mode `InterfaceNamePrefix`.
    pub interface_name_prefix: String,
    /// The pods' ranges, none or one a family; in mode `ClusterCidr`, otherwise empty.
    pub cluster_cidrs: Vec<IpNet>,
}

/// Kernel settings of connection tracking; `None` leaves the kernel's value alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Entries per CPU; 0 leaves the kernel's limit alone and makes `min` void.
    pub max_per_core: u32,
    /// Entries at least.
    pub min: u32,
    /// Of idle established TCP connections.
    pub tcp_established_timeout: Option<Duration>,
    /// Of TCP connections in CLOSE_WAIT.
    pub tcp_close_wait_timeout: Option<Duration>,
    /// Whether TCP packets outside the window are let pass.
    pub tcp_be_liberal: bool,
    /// Of UDP flows without an answer.
    pub udp_timeout: Option<Duration>,
    /// Of UDP flows with answers.
    pub udp_stream_timeout: Option<Duration>,
}

/// How to talk to the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientConnection {
    /// The kubeconfig file; `None` (and no master) means in-cluster.
    pub kubeconfig: Option<PathBuf>,
    /// The Accept header; blank is the client's own.
    pub accept_content_types: String,
    /// The Content-Type header.
    pub content_type: String,
    /// Requests a second; negative is no limit.
    pub qps: f32,
    /// Requests at once.
    pub burst: u32,
}

/// Options of mode ipvs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipvs {
    /// The scheduler; blank is `rr`.
    pub scheduler: String,
    /// Virtual servers in these ranges are not ours to remove.
    pub exclude_cidrs: Vec<IpNet>,
    /// Whether ARP answers are restricted to the interface that holds the address.
    pub strict_arp: bool,
    /// Of idle TCP connections; `None` leaves the kernel's.
    pub tcp_timeout: Option<Duration>,
    /// Of TCP connections after a FIN; `None` leaves the kernel's.
    pub tcp_fin_timeout: Option<Duration>,
    /// Of UDP flows; `None` leaves the kernel's.
    pub udp_timeout: Option<Duration>,
}

/// Options of mode userspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Userspace {
    /// First and last port that listeners may use; `None` lets the kernel choose.
    pub port_range: Option<(u16, u16)>,
    /// How long an idle UDP flow is kept.
    pub udp_idle_timeout: Duration,
}
