//! What a lab is to be, checked; and the machines and addresses that follow from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::flags::{Network, UpFlags};
use crate::topology::{Machine, Node, Outside, Topology};

/// The place of the API server.
pub(super) const CONTROL: &str = "control";
/// The place of whoever is no part of the cluster.
pub(super) const OUTSIDE: &str = "outside";

/// The LAN's second family where services have two, to go with 172.30.0.0/24.
const LAN_IPV6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, 0), 64);
/// Numbers of the machines on the LAN.
const ROUTER: u32 = 1;
const CONTROL_NUMBER: u32 = 2;
const OUTSIDE_NUMBER: u32 = 3;
const BEFORE_FIRST_NODE: u32 = 10;
/// A namespace's name has to fit into a file name with the name of a pod's sandbox behind it.
const LONGEST_NAME: usize = 40;

/// A flag that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    #[error(
        "--name={0}: a name has lower-case letters, digits and dashes between them, at most {LONGEST_NAME}"
    )]
    Name(String),
    #[error("--nodes={0}: a lab has at least one node")]
    NoNodes(u8),
    #[error("--{flag}: give one range, or two of different families")]
    Families { flag: &'static str },
    #[error("--{flag}={range}: {why}")]
    Range { flag: &'static str, range: IpNet, why: String },
}

/// A lab, by what its user decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) nodes: u8,
    pub(super) proxy_mode: String,
    /// The primary family first.
    pub(super) service_ranges: Vec<IpNet>,
    pub(super) pod_ranges: Vec<IpNet>,
    /// One a family of the services, the primary one first.
    pub(super) lan: Vec<IpNet>,
    pub(super) network: Network,
}

impl Settings {
    /// What the flags ask for.
    pub(super) fn check(flags: &UpFlags) -> Result<Settings, SettingsError> {
        check_name(&flags.name)?;
        if flags.nodes == 0 {
            return Err(SettingsError::NoNodes(flags.nodes));
        }
        let service_ranges = families("service-cluster-ip-range", &flags.service_cluster_ip_range)?;
        let pod_ranges = families("cluster-cidr", &flags.cluster_cidr)?;
        pod_ranges.iter().try_for_each(|range| check_pod_range(*range, flags.nodes))?;
        let lan = lan(flags, &service_ranges)?;
        Ok(Settings {
            name: flags.name.clone(),
            nodes: flags.nodes,
            proxy_mode: flags.proxy_mode.clone(),
            service_ranges,
            pod_ranges,
            lan,
            network: flags.network,
        })
    }

    /// The nodes' names, in order.
    pub(super) fn node_names(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.nodes).map(|number| format!("node-{number}"))
    }

    /// Where the lab's own machines reach the API server.
    pub(super) fn control_address(&self) -> Option<IpAddr> {
        self.addresses(CONTROL_NUMBER).first().map(IpNet::addr)
    }

    /// The machines, and how they are joined. The nodes' bridges and the routes between pods are the agents' work.
    pub(super) fn topology(&self) -> Topology {
        let node = |(number, name): (u32, String)| Node {
            addresses: self.addresses(BEFORE_FIRST_NODE + number),
            zone: format!("zone-{number}"),
            name,
            pod_cidrs: Vec::new(),
            pods: Vec::new(),
        };
        Topology {
            router: self.addresses(ROUTER),
            control: Some(Machine { name: CONTROL.to_owned(), addresses: self.addresses(CONTROL_NUMBER) }),
            nodes: (1..).zip(self.node_names()).map(node).collect(),
            outside: Outside {
                name: OUTSIDE.to_owned(),
                addresses: self.addresses(OUTSIDE_NUMBER),
                // From outside there is a way to the nodes and to nothing else.
                remote_addresses: Vec::new(),
                service_cidrs: Vec::new(),
            },
        }
    }

    /// The addresses of a machine on the LAN.
    fn addresses(&self, number: u32) -> Vec<IpNet> {
        let address = |lan: &IpNet| {
            let address = match lan.network() {
                IpAddr::V4(network) => Ipv4Addr::from(u32::from(network) + number).into(),
                IpAddr::V6(network) => Ipv6Addr::from(u128::from(network) + u128::from(number)).into(),
            };
            IpNet::new(address, lan.prefix_len()).ok()
        };
        self.lan.iter().filter_map(address).collect()
    }
}

/// As Kubernetes names things, so that it fits into names of namespaces and contexts.
pub(super) fn check_name(name: &str) -> Result<(), SettingsError> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_good = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.bytes().all(is_allowed)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_good { Ok(()) } else { Err(SettingsError::Name(name.to_owned())) }
}

fn families(flag: &'static str, ranges: &[IpNet]) -> Result<Vec<IpNet>, SettingsError> {
    let ranges: Vec<IpNet> = ranges.iter().map(IpNet::trunc).collect();
    match ranges.as_slice() {
        [_] => Ok(ranges),
        [one, other] if one.addr().is_ipv4() != other.addr().is_ipv4() => Ok(ranges),
        _ => Err(SettingsError::Families { flag }),
    }
}

/// The API server gives each node a share of the pods' addresses, and leaves the first one free.
fn check_pod_range(range: IpNet, nodes: u8) -> Result<(), SettingsError> {
    let share: u8 = if range.addr().is_ipv4() { 24 } else { 64 };
    let bits = share.checked_sub(range.prefix_len());
    let shares = bits.map_or(0, |bits| 1u128.checked_shl(bits.into()).unwrap_or(u128::MAX));
    if shares > u128::from(nodes) {
        return Ok(());
    }
    let why = format!(
        "too small for {nodes} nodes: there have to be {} ranges of /{share} in it",
        u16::from(nodes) + 1
    );
    Err(SettingsError::Range { flag: "cluster-cidr", range, why })
}

/// A LAN for every family of the services.
fn lan(flags: &UpFlags, services: &[IpNet]) -> Result<Vec<IpNet>, SettingsError> {
    let given = flags.lan_cidr.trunc();
    let bad = |why: String| SettingsError::Range { flag: "lan-cidr", range: given, why };
    let IpNet::V4(_) = given else {
        return Err(bad(format!(
            "give an IPv4 range; where services have IPv6 addresses, nodes have those of {LAN_IPV6}"
        )));
    };
    let last = BEFORE_FIRST_NODE + u32::from(flags.nodes);
    // The last address of all is the broadcast address.
    if u64::from(last) + 1 >= 1u64 << (32 - given.prefix_len()) {
        return Err(bad(format!(
            "too small for {} nodes: there have to be {} addresses",
            flags.nodes,
            last + 2
        )));
    }
    let lan = |service: &IpNet| if service.addr().is_ipv4() { given } else { IpNet::V6(LAN_IPV6) };
    Ok(services.iter().map(lan).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn settings(args: &[&str]) -> Result<Settings, SettingsError> {
        Settings::check(&UpFlags::parse_from([&["up"], args].concat()))
    }

    #[test]
    fn the_machines_have_the_addresses_that_the_help_tells() {
        let topology = settings(&[]).unwrap().topology();
        let text = |networks: &[IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&topology.control.unwrap().addresses), ["172.30.0.2/24"]);
        assert_eq!(text(&topology.outside.addresses), ["172.30.0.3/24"]);
        assert_eq!(text(&topology.nodes[0].addresses), ["172.30.0.11/24"]);
        assert_eq!((topology.nodes[2].name.as_str(), topology.nodes[2].zone.as_str()), ("node-3", "zone-3"));
    }

    #[test]
    fn a_second_family_of_services_gives_the_lan_one_too() {
        let ranges = ["--service-cluster-ip-range=fd00:96::/112,10.96.0.0/12"];
        let node = settings(&ranges).unwrap().topology().nodes.remove(0);
        let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["fd00:172:30::b/64", "172.30.0.11/24"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_flag_to_change() {
        let refused = |args: &[&str]| settings(args).unwrap_err().to_string();
        assert!(refused(&["--name=Lab"]).contains("--name=Lab"));
        assert!(refused(&["--name=-lab"]).contains("--name"));
        assert!(refused(&["--nodes=0"]).contains("--nodes=0"));
        assert!(refused(&["--lan-cidr=172.30.0.0/28", "--nodes=6"]).contains("--lan-cidr=172.30.0.0/28"));
        assert!(settings(&["--lan-cidr=172.30.0.0/28", "--nodes=4"]).is_ok());
        assert!(refused(&["--lan-cidr=fd00::/64"]).contains("IPv4"));
        assert!(refused(&["--cluster-cidr=10.1.0.0/22", "--nodes=4"]).contains("5 ranges of /24"));
        assert!(settings(&["--cluster-cidr=10.1.0.0/22", "--nodes=3"]).is_ok());
        assert!(settings(&["--cluster-cidr=10.1.0.0/16,fd00:1::/48"]).is_ok());
        assert!(refused(&["--cluster-cidr=10.1.0.0/25", "--nodes=1"]).contains("--cluster-cidr=10.1.0.0/25"));
        assert!(refused(&["--cluster-cidr=10.1.0.0/16,10.2.0.0/16"]).contains("--cluster-cidr"));
    }
}
