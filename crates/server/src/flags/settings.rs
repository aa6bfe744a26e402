//! What the flags mean, checked.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;

use super::ServeFlags;
use crate::allocation::ClusterSettings;
use crate::store::EtcdSettings;

/// Why the flags cannot be followed. Each says the way out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FlagError {
    #[error("--{flag}={value}: {why}")]
    Bad { flag: &'static str, value: String, why: String },
    #[error("--{flag} {value} contains the {what} {other}: choose ranges that do not overlap")]
    Overlap { flag: &'static str, value: IpNet, what: &'static str, other: String },
    #[error("{0}")]
    Other(String),
}

fn bad(flag: &'static str, value: impl ToString, why: impl Into<String>) -> FlagError {
    FlagError::Bad { flag, value: value.to_string(), why: why.into() }
}

/// What the server is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub cluster: ClusterSettings,
    pub bind_address: IpAddr,
    pub store: StoreSettings,
    pub data_dir: PathBuf,
    pub cert_dir: PathBuf,
    pub kubeconfig: PathBuf,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub client_ca: Option<PathBuf>,
    /// Who signs the certificates of node agents; anybody if it is not given.
    pub agent_ca: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    pub allows_anonymous: bool,
    pub event_ttl: Duration,
    pub verbosity: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// A file in the data directory.
    Embedded,
    Etcd(EtcdSettings),
}

impl Settings {
    /// `own_addresses` are those of the interface of the default route, one a family at most.
    ///
    /// # Errors
    /// The first flag that cannot be followed.
    pub fn check(flags: &ServeFlags, own_addresses: &[IpAddr]) -> Result<Settings, FlagError> {
        let service_ranges = ranges("service-cluster-ip-range", &flags.service_cluster_ip_range)?;
        for range in &service_ranges {
            check_service_range(range)?;
        }
        let Some(primary) = service_ranges.first() else {
            let why = "must contain one CIDR, as in 10.0.0.0/24, or two of different families";
            return Err(bad("service-cluster-ip-range", &flags.service_cluster_ip_range, why));
        };
        let cluster_cidrs = ranges("cluster-cidr", &flags.cluster_cidr)?;
        let is_primary = |address: &&IpAddr| address.is_ipv4() == primary.addr().is_ipv4();
        let own_address = own_addresses.iter().find(is_primary).or(own_addresses.first());
        let advertise_address = advertise_address(flags, own_address.copied())?;
        if primary.addr().is_ipv4() != advertise_address.is_ipv4() {
            return Err(FlagError::Other(format!(
                "service IP family {primary:?} must match public address family {:?}: put the range of that family \
                 first in --service-cluster-ip-range, or set --advertise-address",
                advertise_address.to_string()
            )));
        }
        check_overlaps(&service_ranges, &cluster_cidrs, advertise_address)?;
        let data_dir = flags.data_dir.clone();
        let beside =
            |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| data_dir.join(name));
        Ok(Settings {
            cluster: ClusterSettings {
                node_ports: node_ports(&flags.service_node_port_range)?,
                secure_port: flags.secure_port,
                service_ranges,
                cluster_cidrs,
                advertise_address,
            },
            bind_address: flags.bind_address,
            store: store(flags)?,
            cert_dir: beside(&flags.cert_dir, "pki"),
            kubeconfig: beside(&flags.kubeconfig_out, "admin.kubeconfig"),
            tls: pair(
                ("tls-cert-file", &flags.tls_cert_file),
                ("tls-private-key-file", &flags.tls_private_key_file),
            )?,
            client_ca: flags.client_ca_file.clone(),
            agent_ca: flags.kubelet_certificate_authority.clone(),
            token_file: flags.token_auth_file.clone(),
            allows_anonymous: flags.anonymous_auth,
            event_ttl: flags.event_ttl,
            verbosity: flags.verbosity,
            data_dir,
        })
    }
}

/// At most one range a family.
fn ranges(flag: &'static str, text: &str) -> Result<Vec<IpNet>, FlagError> {
    let mut ranges: Vec<IpNet> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let range: IpNet = part
            .parse()
            .map_err(|_| bad(flag, text, format!("{part:?} is not a valid CIDR, as in 10.0.0.0/24")))?;
        ranges.push(range.trunc());
    }
    match ranges.as_slice() {
        [] | [_] => Ok(ranges),
        [one, other] if one.addr().is_ipv4() != other.addr().is_ipv4() => Ok(ranges),
        [_, _] => {
            Err(bad(flag, text, "the two ranges must be of different families: an IPv4 and an IPv6 one"))
        }
        _ => Err(bad(flag, text, "must not contain more than two entries, one a family")),
    }
}

/// As upstream bounds them: a bitmap of a larger range would not fit, and a smaller one has no address to give.
fn check_service_range(range: &IpNet) -> Result<(), FlagError> {
    let bits = range.max_prefix_len().saturating_sub(range.prefix_len());
    let flag = "service-cluster-ip-range";
    if range.addr().is_ipv4() && bits > 20 {
        return Err(bad(flag, range, "for 32-bit addresses, the mask must be >= 12"));
    }
    if range.addr().is_ipv6() && range.prefix_len() < 64 {
        return Err(bad(flag, range, "for 128-bit addresses, the mask must be >= 64"));
    }
    if bits < 3 {
        return Err(bad(flag, range, "the range must hold at least 8 addresses: take a shorter prefix"));
    }
    Ok(())
}

fn advertise_address(flags: &ServeFlags, own_address: Option<IpAddr>) -> Result<IpAddr, FlagError> {
    let bound = Some(flags.bind_address).filter(|address| !address.is_unspecified());
    let address = flags.advertise_address.or(bound).or(own_address).ok_or_else(|| {
        FlagError::Other(
            "Unable to find suitable network address: there is no default route; set --advertise-address or \
             --bind-address"
                .to_owned(),
        )
    })?;
    match address.is_unspecified() || address.is_multicast() {
        true => {
            Err(bad("advertise-address", address, "must be an address at which pods can reach this server"))
        }
        false => Ok(address),
    }
}

/// An address of one range that is also of another would go to either.
fn check_overlaps(services: &[IpNet], pods: &[IpNet], node: IpAddr) -> Result<(), FlagError> {
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    for service in services {
        if let Some(pod) = pods.iter().find(|pod| overlaps(service, pod)) {
            return Err(FlagError::Other(format!(
                "--service-cluster-ip-range {service} and --cluster-cidr {pod} overlap: choose ranges that do not"
            )));
        }
    }
    let of_node = |flag, ranges: &[IpNet]| {
        let found = ranges.iter().find(|range| range.contains(&node));
        found.map(|&value| FlagError::Overlap {
            flag,
            value,
            what: "address of this node",
            other: node.to_string(),
        })
    };
    match of_node("service-cluster-ip-range", services).or_else(|| of_node("cluster-cidr", pods)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// `30000-32767`, `30000+100`, or a single port.
fn node_ports(text: &str) -> Result<RangeInclusive<u16>, FlagError> {
    let flag = "service-node-port-range";
    let why = "must be a range of ports, as in 30000-32767";
    let port = |text: &str| text.trim().parse::<u16>().map_err(|_| bad(flag, text, why));
    let (first, last) = match (text.split_once('-'), text.split_once('+')) {
        (Some((first, last)), _) => (port(first)?, port(last)?),
        (None, Some((first, more))) => {
            let first = port(first)?;
            (first, first.checked_add(port(more)?).ok_or_else(|| bad(flag, text, why))?)
        }
        (None, None) => (port(text)?, port(text)?),
    };
    if first == 0 || first > last {
        return Err(bad(flag, text, why));
    }
    Ok(first..=last)
}

fn store(flags: &ServeFlags) -> Result<StoreSettings, FlagError> {
    let urls: Vec<String> = flags
        .etcd_servers
        .split(',')
        .map(str::trim)
        .filter(|url| !url.is_empty())
        .map(str::to_owned)
        .collect();
    let client = pair(("etcd-certfile", &flags.etcd_certfile), ("etcd-keyfile", &flags.etcd_keyfile))?;
    if urls.is_empty() {
        return Ok(StoreSettings::Embedded);
    }
    if let Some(url) = urls.iter().find(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        return Err(bad("etcd-servers", url, "must be a URL, as in https://127.0.0.1:2379"));
    }
    if let Some(url) = urls.iter().find(|url| url.starts_with("https://") && flags.etcd_cafile.is_none()) {
        return Err(bad(
            "etcd-servers",
            url,
            "needs --etcd-cafile, the authority that its certificate is of",
        ));
    }
    Ok(StoreSettings::Etcd(EtcdSettings {
        urls,
        authority: flags.etcd_cafile.clone(),
        client,
        prefix: flags.etcd_prefix.clone(),
    }))
}

type Given<'a> = (&'static str, &'a Option<PathBuf>);

/// Both or none.
fn pair(certificate: Given<'_>, key: Given<'_>) -> Result<Option<(PathBuf, PathBuf)>, FlagError> {
    match (certificate, key) {
        ((_, Some(certificate)), (_, Some(key))) => Ok(Some((certificate.clone(), key.clone()))),
        ((_, None), (_, None)) => Ok(None),
        ((given, Some(_)), (missing, None)) | ((missing, None), (given, Some(_))) => {
            Err(FlagError::Other(format!("--{given} is of no use without --{missing}: set both, or neither")))
        }
    }
}
