//! The checks of single options.
//!
//! Each returns its typed value, or a stand-in after recording the error; the stand-ins are never seen, since
//! with any error there is no configuration.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use switchyard_api::IpFamily;
use switchyard_api::address::{parse_cidr, parse_ip};

use super::error::FieldError;
use super::file::KubeProxyConfiguration;
use super::{Conntrack, DetectLocal, DetectLocalMode, Ipvs, NodePortAddresses, ProxyMode, Userspace};
use crate::flags::{GoDuration, split_host_port};

/// The syncs of modes iptables and nftables come at least this often, so a longer pause cannot be kept.
const MAX_SYNC_INTERVAL: GoDuration = GoDuration::from_secs(3600);

/// The release whose metrics may be shown although they are hidden now.
const PREVIOUS_RELEASE: &str = "1.35";

/// The errors found so far.
#[derive(Default)]
pub(super) struct Check {
    pub(super) errors: Vec<FieldError>,
}

impl Check {
    /// Records an error at `KubeProxyConfiguration.<path>`.
    fn invalid(&mut self, path: &str, value: impl Display, text: &str) {
        self.errors.push(FieldError::invalid(&absolute(path), value, text));
    }

    /// The mark bits of iptables (always checked) and nftables (in its mode); the one in use is returned.
    pub(super) fn masquerade_bit(&mut self, file: &KubeProxyConfiguration) -> u8 {
        let path = "KubeProxyIPTablesConfiguration.MasqueradeBit";
        let bit = self.bit(path, file.iptables.masquerade_bit);
        if file.mode != "nftables" {
            return bit; // ipvs shares the bit of iptables
        }
        self.bit("KubeProxyNFTablesConfiguration.MasqueradeBit", file.nftables.masquerade_bit)
    }

    fn bit(&mut self, path: &str, bit: Option<i32>) -> u8 {
        let bit = bit.unwrap_or(14);
        u8::try_from(bit).ok().filter(|bit| *bit < 32).unwrap_or_else(|| {
            self.invalid(path, bit, "must be within the range [0, 31]");
            0
        })
    }

    pub(super) fn oom_score(&mut self, score: Option<i32>) -> i32 {
        let score = score.unwrap_or(-999);
        if !(-1000..=1000).contains(&score) {
            let path = "KubeProxyLinuxConfiguration.OOMScoreAdj";
            self.invalid(path, score, "must be within the range [-1000, 1000]");
        }
        score
    }

    pub(super) fn count(&mut self, path: &str, count: Option<i32>) -> u32 {
        let count = count.unwrap_or(0);
        u32::try_from(count).unwrap_or_else(|_| {
            self.invalid(path, count, "must be greater than or equal to 0");
            0
        })
    }

    pub(super) fn positive(&mut self, path: &str, duration: GoDuration) -> Duration {
        if duration <= GoDuration::ZERO {
            self.invalid(path, quoted(duration), "must be greater than 0");
        }
        duration.to_std()
    }

    fn not_negative(&mut self, path: &str, duration: GoDuration) -> Duration {
        if duration < GoDuration::ZERO {
            self.invalid(path, quoted(duration), "must be greater than or equal to 0");
        }
        duration.to_std()
    }

    /// A timeout; zero means to leave the kernel's value alone.
    fn timeout(&mut self, path: &str, duration: GoDuration) -> Option<Duration> {
        Some(self.not_negative(path, duration)).filter(|timeout| !timeout.is_zero())
    }

    pub(super) fn ipvs(&mut self, file: &KubeProxyConfiguration) -> Ipvs {
        let section = &file.ipvs;
        let mut ipvs = Ipvs {
            scheduler: section.scheduler.clone(),
            exclude_cidrs: Vec::new(),
            strict_arp: section.strict_arp,
            tcp_timeout: None,
            tcp_fin_timeout: None,
            udp_timeout: None,
        };
        if file.mode == "ipvs" {
            let path = |field: &str| format!("KubeProxyIPVSConfiguration.{field}");
            ipvs.tcp_timeout = self.timeout(&path("TCPTimeout"), section.tcp_timeout);
            ipvs.tcp_fin_timeout = self.timeout(&path("TCPFinTimeout"), section.tcp_fin_timeout);
            ipvs.udp_timeout = self.timeout(&path("UDPTimeout"), section.udp_timeout);
            ipvs.exclude_cidrs = self.cidrs(&path("ExcludeCidrs"), &section.exclude_cidrs);
        }
        ipvs
    }

    pub(super) fn conntrack(&mut self, file: &KubeProxyConfiguration) -> Conntrack {
        let section = &file.conntrack;
        let path =
            |field: &str| format!("KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.{field}");
        let (established, close_wait) = (section.tcp_established_timeout, section.tcp_close_wait_timeout);
        Conntrack {
            max_per_core: self.count(&path("MaxPerCore"), section.max_per_core),
            min: self.count(&path("Min"), section.min),
            tcp_established_timeout: self
                .timeout(&path("TCPEstablishedTimeout"), established.unwrap_or_default()),
            tcp_close_wait_timeout: self
                .timeout(&path("TCPCloseWaitTimeout"), close_wait.unwrap_or_default()),
            tcp_be_liberal: section.tcp_be_liberal,
            udp_timeout: self.timeout(&path("UDPTimeout"), section.udp_timeout),
            udp_stream_timeout: self.timeout(&path("UDPStreamTimeout"), section.udp_stream_timeout),
        }
    }

    pub(super) fn mode(&mut self, name: &str) -> ProxyMode {
        ProxyMode::from_name(name).unwrap_or_else(|| {
            let text = "must be iptables, ipvs, nftables, userspace or blank (blank means the best-available \
                        proxy [currently iptables])";
            self.invalid("Mode.ProxyMode", quoted(name), text);
            ProxyMode::Iptables
        })
    }

    pub(super) fn min_sync_period(&mut self, file: &KubeProxyConfiguration) -> Duration {
        let bound = file.mode_bound();
        let (sync, min) = (bound.sync_period, bound.min_sync_period);
        let period = self.not_negative("MinSyncPeriod", min);
        if min > sync {
            let text = "must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod";
            self.invalid("SyncPeriod", quoted(min), text);
        }
        let limited = matches!(file.mode.as_str(), "iptables" | "nftables");
        if limited && min > MAX_SYNC_INTERVAL {
            let text = format!("must be less than or equal to {MAX_SYNC_INTERVAL} in mode {}", file.mode);
            self.invalid("MinSyncPeriod", quoted(min), &text);
        }
        period
    }

    pub(super) fn bind_address(&mut self, text: &str) -> IpAddr {
        parse_ip(text).unwrap_or_else(|| {
            self.invalid("BindAddress", quoted(text), "not a valid textual representation of an IP address");
            NOWHERE.ip()
        })
    }

    pub(super) fn socket(&mut self, path: &str, text: &str) -> SocketAddr {
        let Ok((host, port)) = split_host_port(text) else {
            self.invalid(path, quoted(text), "must be IP:port");
            return NOWHERE;
        };
        let ip = parse_ip(host);
        if ip.is_none() {
            self.invalid(path, quoted(host), "must be a valid IP");
        }
        let number = port.parse::<u16>().ok().filter(|port| *port != 0);
        if number.is_none() {
            self.invalid(path, quoted(port), "must be a valid port");
        }
        SocketAddr::new(ip.unwrap_or(NOWHERE.ip()), number.unwrap_or_default())
    }

    pub(super) fn node_port_addresses(&mut self, entries: &[String]) -> NodePortAddresses {
        const PATH: &str = "NodePortAddresses";
        if entries.is_empty() {
            return NodePortAddresses::All;
        }
        let primary = entries.iter().position(|entry| entry == "primary");
        let cidrs = self.cidrs(PATH, &entries[..primary.unwrap_or(entries.len())]);
        let Some(index) = primary else { return NodePortAddresses::Cidrs(cidrs) };
        if entries.len() > 1 {
            let path = format!("{PATH}[{index}]");
            self.invalid(&path, quoted("primary"), "can't use both 'primary' and CIDRs");
        }
        NodePortAddresses::Primary
    }

    fn cidrs(&mut self, path: &str, entries: &[String]) -> Vec<IpNet> {
        let mut cidrs = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            match parse_cidr(entry) {
                Some(cidr) => cidrs.push(cidr),
                None => self.invalid(&format!("{path}[{index}]"), quoted(entry), "must be a valid CIDR"),
            }
        }
        cidrs
    }

    pub(super) fn hidden_metrics(&mut self, version: &str) -> bool {
        if !version.is_empty() && version != PREVIOUS_RELEASE {
            let text = format!(
                "--show-hidden-metrics-for-version must be omitted or have the value '{PREVIOUS_RELEASE}'. \
                 Only the previous minor version is allowed"
            );
            self.invalid("ShowHiddenMetricsForVersion", quoted(version), &text);
        }
        !version.is_empty()
    }

    pub(super) fn detect_local_mode(&mut self, name: &str) -> DetectLocalMode {
        DetectLocalMode::from_name(name).unwrap_or_else(|| {
            let mut supported = DetectLocalMode::NAMES.to_vec();
            supported.push("");
            self.errors.push(FieldError::unsupported(&absolute("DetectLocalMode"), name, &supported));
            DetectLocalMode::ClusterCidr
        })
    }

    /// What the mode of detection needs; the rest is not looked at.
    pub(super) fn detect_local(&mut self, file: &KubeProxyConfiguration) -> DetectLocal {
        let mut detect_local = DetectLocal {
            bridge_interface: file.detect_local.bridge_interface.clone(),
            interface_name_prefix: file.detect_local.interface_name_prefix.clone(),
            cluster_cidrs: Vec::new(),
        };
        let name = |field: &str| format!("DetectLocalConfiguration.{field}");
        match DetectLocalMode::from_name(&file.detect_local_mode) {
            Some(DetectLocalMode::ClusterCidr) => {
                detect_local.cluster_cidrs = self.cluster_cidrs(&file.cluster_cidr);
            }
            Some(DetectLocalMode::BridgeInterface) => {
                self.not_empty(&name("InterfaceName"), &detect_local.bridge_interface);
            }
            Some(DetectLocalMode::InterfaceNamePrefix) => {
                self.not_empty(&name("InterfacePrefix"), &detect_local.interface_name_prefix);
            }
            Some(DetectLocalMode::NodeCidr) | None => {}
        }
        detect_local
    }

    fn not_empty(&mut self, path: &str, value: &str) {
        if value.is_empty() {
            self.invalid(path, quoted(value), "must not be empty");
        }
    }

    /// The pods' ranges: none, one, or one of each family. Blanks around the comma are not forgiven.
    fn cluster_cidrs(&mut self, text: &str) -> Vec<IpNet> {
        const PATH: &str = "DetectLocalConfiguration.ClusterCIDRs";
        if text.is_empty() {
            return Vec::new();
        }
        let entries: Vec<_> = text.split(',').map(str::to_owned).collect();
        let cidrs = self.cidrs(PATH, &entries);
        let same_family = matches!(cidrs.as_slice(), [a, b] if IpFamily::of_net(a) == IpFamily::of_net(b));
        if entries.len() > 2 || same_family {
            let value = serde_json::json!(entries);
            let text =
                "only one CIDR allowed or a valid DualStack CIDR (e.g. 10.100.0.0/16,fde4:8dba:82e1::/48)";
            self.invalid(PATH, value, text);
        }
        cidrs
    }

    pub(super) fn userspace(&mut self, file: &KubeProxyConfiguration) -> Userspace {
        let idle = file.udp_idle_timeout.unwrap_or(GoDuration::from_millis(250));
        if file.mode != "userspace" {
            return Userspace { port_range: None, udp_idle_timeout: idle.to_std() };
        }
        let udp_idle_timeout = self.positive("UDPIdleTimeout", idle);
        let port_range = parse_port_range(&file.port_range).unwrap_or_else(|reason| {
            self.invalid("PortRange", quoted(&file.port_range), &reason);
            None
        });
        Userspace { port_range, udp_idle_timeout }
    }
}

/// `from-to`, `base+offset` or one port; blank and zero leave the choice to the kernel.
fn parse_port_range(text: &str) -> Result<Option<(u16, u16)>, String> {
    let port = |text: &str| -> Result<u32, String> {
        let port = text.trim().parse::<u32>().map_err(|_| format!("{text:?} is not a port number"))?;
        if port > 65535 {
            return Err(format!("the port number cannot be greater than 65535: {port}"));
        }
        Ok(port)
    };
    let text = text.trim();
    let (first, last) = if text.is_empty() {
        (0, 0)
    } else if let Some((from, to)) = text.split_once('-') {
        (port(from)?, port(to)?)
    } else if let Some((base, offset)) = text.split_once('+') {
        let (base, offset) = (port(base)?, port(offset)?);
        (base, port(&(base + offset).to_string())?)
    } else {
        (port(text)?, port(text)?)
    };
    if last < first {
        return Err(format!("end port cannot be less than start port: {text}"));
    }
    let range = u16::try_from(first).ok().zip(u16::try_from(last).ok());
    Ok(range.filter(|range| *range != (0, 0)))
}

/// Stands for an address that was refused.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

fn absolute(path: &str) -> String {
    format!("KubeProxyConfiguration.{path}")
}

/// A value as JSON has it.
fn quoted(value: impl Display) -> String {
    format!("{:?}", value.to_string())
}
