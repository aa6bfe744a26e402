//! Which of the node's addresses take node port traffic.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use switchyard_api::IpFamily;

/// The value of `nodePortAddresses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Not set: every local address.
    All,
    /// The addresses of the Node object, known only once the node is.
    Primary,
    /// Local addresses in these ranges; never empty.
    Cidrs(Vec<IpNet>),
}

impl NodePortAddresses {
    /// Replaces `Primary` by the node's addresses; loopback stands for "not known" and is left out.
    pub fn resolve(&self, node_ips: &[IpAddr]) -> NodePortAddresses {
        if *self != NodePortAddresses::Primary {
            return self.clone();
        }
        let known = node_ips.iter().filter(|ip| !ip.is_loopback());
        let cidrs: Vec<_> = known.map(|ip| IpNet::from(*ip)).collect();
        if cidrs.is_empty() { NodePortAddresses::All } else { NodePortAddresses::Cidrs(cidrs) }
    }

    /// The ranges of one family. With none of that family, all its addresses match, whatever the other
    /// family has; a range of all addresses makes the others void.
    pub fn of_family(&self, family: IpFamily) -> Vec<IpNet> {
        let cidrs = match self {
            NodePortAddresses::Cidrs(cidrs) => cidrs.as_slice(),
            NodePortAddresses::All | NodePortAddresses::Primary => &[],
        };
        let own: Vec<_> = cidrs.iter().filter(|cidr| IpFamily::of_net(cidr) == family).copied().collect();
        match own.iter().find(|cidr| cidr.prefix_len() == 0) {
            Some(all) => vec![*all],
            None if own.is_empty() => vec![all_of(family)],
            None => own,
        }
    }

    /// Whether every address of the family takes node port traffic.
    pub fn matches_all(&self, family: IpFamily) -> bool {
        self.of_family(family).iter().any(|cidr| cidr.prefix_len() == 0)
    }

    /// Whether IPv4 loopback takes node port traffic: a range inside 127/8, or around 127.0.0.0.
    pub fn contains_ipv4_loopback(&self) -> bool {
        let network = Ipv4Addr::new(127, 0, 0, 0);
        let loops =
            |cidr: &IpNet| cidr.addr().is_loopback() || cidr.contains(&IpNet::from(IpAddr::V4(network)));
        self.of_family(IpFamily::V4).iter().any(loops)
    }
}

/// The zero CIDR of a family.
fn all_of(family: IpFamily) -> IpNet {
    match family {
        IpFamily::V4 => IpNet::V4(ipnet::Ipv4Net::default()),
        IpFamily::V6 => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(texts: &[&str]) -> NodePortAddresses {
        NodePortAddresses::Cidrs(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn shown(addresses: &NodePortAddresses, family: IpFamily) -> String {
        addresses.of_family(family).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_family_without_ranges_matches_all_its_addresses() {
        let only_v4 = cidrs(&["10.0.0.0/8", "192.168.0.0/16"]);
        assert_eq!(shown(&only_v4, IpFamily::V4), "10.0.0.0/8 192.168.0.0/16");
        assert_eq!(shown(&only_v4, IpFamily::V6), "::/0");
        assert!(!only_v4.matches_all(IpFamily::V4));
        assert!(NodePortAddresses::All.matches_all(IpFamily::V4));
    }

    #[test]
    fn a_range_of_everything_makes_the_others_void() {
        assert_eq!(shown(&cidrs(&["10.0.0.0/8", "0.0.0.0/0"]), IpFamily::V4), "0.0.0.0/0");
    }

    #[test]
    fn primary_becomes_the_nodes_addresses_without_loopback() {
        let ips = ["10.1.2.3".parse().unwrap(), "::1".parse().unwrap()];
        let resolved = NodePortAddresses::Primary.resolve(&ips);
        assert_eq!(resolved, cidrs(&["10.1.2.3/32"]));
        assert_eq!(NodePortAddresses::Primary.resolve(&[]), NodePortAddresses::All);
    }

    #[test]
    fn loopback_is_inside_or_around() {
        for (range, contained) in
            [("127.0.0.1/32", true), ("127.0.0.0/8", true), ("0.0.0.0/0", true), ("10.0.0.0/8", false)]
        {
            assert_eq!(cidrs(&[range]).contains_ipv4_loopback(), contained, "{range}");
        }
        assert!(cidrs(&["fd00::/8"]).contains_ipv4_loopback(), "IPv4 is unrestricted");
    }
}
