//! The node's own addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use switchyard_model::IpFamily;

/// One address of each family; loopback where the node has none that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeAddresses {
    pub primary: IpFamily,
    v4: IpAddr,
    v6: IpAddr,
}

impl NodeAddresses {
    /// `node_ips` are the addresses of the Node object, the first deciding the primary family. A bind address other
    /// than zero overrides the one of its family, and decides the primary family itself.
    pub fn new(node_ips: &[IpAddr], bind_address: IpAddr) -> NodeAddresses {
        let mut addresses = NodeAddresses {
            primary: node_ips.first().map_or(IpFamily::V4, |ip| IpFamily::of(*ip)),
            v4: Ipv4Addr::LOCALHOST.into(),
            v6: Ipv6Addr::LOCALHOST.into(),
        };
        // In reverse, so that the first address of a family is the one that stays.
        for ip in node_ips.iter().rev() {
            *addresses.slot(IpFamily::of(*ip)) = *ip;
        }
        if !bind_address.is_unspecified() {
            addresses.primary = IpFamily::of(bind_address);
            *addresses.slot(addresses.primary) = bind_address;
        }
        addresses
    }

    pub fn of(&self, family: IpFamily) -> IpAddr {
        match family {
            IpFamily::V4 => self.v4,
            IpFamily::V6 => self.v6,
        }
    }

    fn slot(&mut self, family: IpFamily) -> &mut IpAddr {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_node_address_decides_the_primary_family() {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let addresses = NodeAddresses::new(&ips(&["fd00:56::11", "192.168.56.11"]), any);
        assert_eq!(addresses.primary, IpFamily::V6);
        assert_eq!(addresses.of(IpFamily::V4), ips(&["192.168.56.11"])[0]);
        let unknown = NodeAddresses::new(&[], any);
        assert_eq!((unknown.primary, unknown.of(IpFamily::V4).is_loopback()), (IpFamily::V4, true));
    }

    #[test]
    fn a_bind_address_overrides_and_decides() {
        let addresses = NodeAddresses::new(&ips(&["192.168.56.11"]), "fd00::9".parse().unwrap());
        assert_eq!((addresses.primary, addresses.of(IpFamily::V6)), (IpFamily::V6, ips(&["fd00::9"])[0]));
    }
}
