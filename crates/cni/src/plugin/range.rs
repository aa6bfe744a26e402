//! The addresses of a range: which can be given out, and which comes next.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A node's pod CIDR of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    network: IpNet,
}

impl Range {
    /// Fails, saying why, for what is no network or leaves no address beside the gateway's.
    pub(super) fn new(network: IpNet) -> Result<Range, String> {
        if network.trunc() != network {
            return Err(format!("has bits beyond its prefix; write {}", network.trunc()));
        }
        let range = Range { network };
        if network.max_prefix_len() - network.prefix_len() < 2 {
            return Err("has no address for a container; it needs at least four".to_owned());
        }
        Ok(range)
    }

    pub(super) fn network(&self) -> IpNet {
        self.network
    }

    pub(super) fn is_ipv4(&self) -> bool {
        self.network.addr().is_ipv4()
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.network.contains(&address)
    }

    /// The first address of a host.
    pub(super) fn gateway(&self) -> IpAddr {
        self.address(number(self.network.network()) + 1)
    }

    /// An address with the length of the range's prefix, as a link has it.
    pub(super) fn on_link(&self, address: IpAddr) -> IpNet {
        // The length is that of a network of the same family, so it fits.
        IpNet::new(address, self.network.prefix_len()).unwrap_or(self.network)
    }

    /// How many containers can have one.
    pub(super) fn capacity(&self) -> u128 {
        self.last() - self.first() + 1
    }

    /// The next free address after the one given out last, so that an address comes to rest before it is used again:
    /// neighbours and connections may remember its last owner.
    pub(super) fn next(&self, taken: &BTreeSet<IpAddr>, last: Option<IpAddr>) -> Option<IpAddr> {
        let (first, end) = (self.first(), self.last());
        let start = match last.filter(|last| self.contains(*last)).map(number) {
            Some(last) if last >= first && last < end => last + 1,
            _ => first,
        };
        // At most as many steps as addresses are taken, however large the range is.
        (start..=end)
            .chain(first..start)
            .map(|candidate| self.address(candidate))
            .find(|candidate| !taken.contains(candidate))
    }

    fn first(&self) -> u128 {
        // After the network's own address, which in IPv6 every router answers to, and the gateway's.
        number(self.network.network()) + 2
    }

    fn last(&self) -> u128 {
        let last = number(self.network.broadcast());
        // IPv6 has no broadcast.
        if self.is_ipv4() { last - 1 } else { last }
    }

    fn address(&self, number: u128) -> IpAddr {
        match u32::try_from(number) {
            Ok(number) if self.is_ipv4() => Ipv4Addr::from_bits(number).into(),
            _ => Ipv6Addr::from_bits(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> Range {
        Range::new(text.parse().unwrap()).unwrap()
    }

    fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_host_is_the_gateway_and_containers_come_after_it() {
        for (text, gateway, first, capacity) in [
            ("10.244.1.0/24", "10.244.1.1", "10.244.1.2", 253),
            ("10.0.0.0/30", "10.0.0.1", "10.0.0.2", 1),
            ("255.255.255.252/30", "255.255.255.253", "255.255.255.254", 1),
            ("fd00:10:244:1::/64", "fd00:10:244:1::1", "fd00:10:244:1::2", (1 << 64) - 2),
            ("fd00::/126", "fd00::1", "fd00::2", 2),
            ("::/0", "::1", "::2", u128::MAX - 1),
        ] {
            let range = range(text);
            assert_eq!(range.gateway().to_string(), gateway);
            assert_eq!(range.next(&BTreeSet::new(), None).unwrap().to_string(), first);
            assert_eq!(range.capacity(), capacity, "{text}");
        }
    }

    #[test]
    fn an_address_is_not_used_again_at_once() {
        let range = range("10.0.0.0/29");
        let next = |taken: &[&str], last: &str| {
            range.next(&addresses(taken), last.parse().ok()).map(|address| address.to_string())
        };
        assert_eq!(next(&[], "10.0.0.2").as_deref(), Some("10.0.0.3"));
        assert_eq!(next(&["10.0.0.3"], "10.0.0.2").as_deref(), Some("10.0.0.4"));
        // Beyond the end it starts over; the broadcast address is nobody's.
        assert_eq!(next(&["10.0.0.2"], "10.0.0.6").as_deref(), Some("10.0.0.3"));
        // What was noted for another range does not count.
        assert_eq!(next(&[], "10.9.0.9").as_deref(), Some("10.0.0.2"));
        assert_eq!(next(&["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"], "10.0.0.3"), None);
    }

    #[test]
    fn ranges_without_room_are_refused() {
        for text in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/127", "fd00::1/128"] {
            assert!(Range::new(text.parse().unwrap()).unwrap_err().contains("no address"), "{text}");
        }
        assert!(Range::new("10.0.0.9/24".parse().unwrap()).unwrap_err().contains("10.0.0.0/24"));
    }

    proptest! {
        #[test]
        fn a_range_gives_each_address_once_and_then_none(prefix in 24u8..=30, last in any::<u32>()) {
            let network = IpNet::new(Ipv4Addr::new(10, 0, 0, 0).into(), prefix).unwrap();
            let range = Range::new(network).unwrap();
            let (mut taken, mut last) = (BTreeSet::new(), Some(IpAddr::from(Ipv4Addr::from_bits(last))));
            while let Some(address) = range.next(&taken, last) {
                prop_assert!(range.contains(address) && address != range.gateway());
                prop_assert!(address != network.network() && address != network.broadcast());
                prop_assert!(taken.insert(address));
                last = Some(address);
            }
            prop_assert_eq!(taken.len() as u128, range.capacity());
        }
    }
}
