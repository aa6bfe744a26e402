//! Cluster IPs: an address is taken by writing the IPAddress object of its name, which must not be there yet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::json;

use crate::object::Object;
use crate::store::{Key, Snapshot, Write};

pub const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
pub const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub const ALLOCATOR: &str = "ipallocator.k8s.io";
const GROUP: &str = "networking.k8s.io";

/// `IPv4` or `IPv6`.
pub fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The family of a range.
pub fn family_of_range(range: &IpNet) -> &'static str {
    family(range.network())
}

/// Why an address that somebody asked for is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Taken,
    OutOfRange,
}

impl Refusal {
    pub fn text(self) -> &'static str {
        match self {
            Refusal::Taken => "provided IP is already allocated",
            Refusal::OutOfRange => "the provided network does not match the current range",
        }
    }
}

/// The ranges of a family from which addresses may be taken now: of those ServiceCIDRs that are ready.
pub fn usable_ranges(snapshot: &Snapshot, family: &str) -> Vec<IpNet> {
    let prefix = Key::prefix(GROUP, "servicecidrs", "");
    let mut ranges: Vec<IpNet> = Vec::new();
    for cached in snapshot.range(&prefix, None) {
        let cidr = cached.object();
        if !is_ready(&cidr) {
            continue;
        }
        let texts = cidr.list(&["spec", "cidrs"]).iter().filter_map(|range| range.as_str());
        for range in texts.filter_map(|text| text.parse::<IpNet>().ok()) {
            // Upstream counts the addresses of a range, and a longer IPv6 range has more than fit a number.
            let is_small_enough = matches!(range, IpNet::V4(_)) || range.prefix_len() >= 64;
            if is_small_enough && family_of_range(&range) == family && !ranges.contains(&range) {
                ranges.push(range);
            }
        }
    }
    ranges
}

/// Not on its way out, and not said to be unfit.
fn is_ready(cidr: &Object) -> bool {
    let conditions = cidr.list(&["status", "conditions"]);
    let ready = conditions.iter().find(|condition| condition.get("type").is_some_and(|kind| kind == "Ready"));
    !cidr.is_being_deleted()
        && ready.is_none_or(|ready| ready.get("status").is_none_or(|status| status == "True"))
}

pub fn key(address: IpAddr) -> Key {
    Key::object(GROUP, "ipaddresses", "", &address.to_string())
}

/// The IPAddress that gives an address to a Service.
pub fn entry(address: IpAddr, namespace: &str, service: &str, uid: &str, created: &str) -> Write {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "uid": uid,
            "creationTimestamp": created,
            "labels": {FAMILY: family(address), MANAGED_BY: ALLOCATOR},
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}},
    });
    Write { key: key(address), value: Some(object.to_string().into()) }
}

/// Whether an address that was asked for can be had. `taken` are those that this request has already.
pub fn check(snapshot: &Snapshot, address: IpAddr, taken: &[IpAddr]) -> Result<(), Refusal> {
    let ranges = usable_ranges(snapshot, family(address));
    if !ranges.iter().any(|range| Band::all(range).holds(address)) {
        return Err(Refusal::OutOfRange);
    }
    match taken.contains(&address) || snapshot.get(&key(address)).is_some() {
        true => Err(Refusal::Taken),
        false => Ok(()),
    }
}

/// A free address of a family; `None` when there is none. The lower band of a range is left for those who ask for an
/// address by name, as long as there is anything else.
pub fn automatic(snapshot: &Snapshot, family: &str, random: u64) -> Option<IpAddr> {
    let ranges = usable_ranges(snapshot, family);
    let is_free = |address: &IpAddr| snapshot.get(&key(*address)).is_none();
    let bands = |band: fn(&IpNet) -> Option<Band>| ranges.iter().filter_map(band).collect::<Vec<_>>();
    let in_order = bands(Band::dynamic).into_iter().chain(bands(Band::fixed));
    in_order.into_iter().find_map(|band| band.from(random).find(|address| is_free(address)))
}

/// Addresses of a range, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Band {
    first: u128,
    last: u128,
    is_v4: bool,
}

impl Band {
    /// All that a Service can have: not the first of a range, nor the last of an IPv4 range.
    fn all(range: &IpNet) -> Band {
        let (network, last, is_v4) = match range {
            IpNet::V4(range) => {
                (u128::from(u32::from(range.network())), u128::from(u32::from(range.broadcast())), true)
            }
            IpNet::V6(range) => (u128::from(range.network()), u128::from(range.broadcast()), false),
        };
        Band { first: network + 1, last: if is_v4 { last.saturating_sub(1) } else { last }, is_v4 }
    }

    fn dynamic(range: &IpNet) -> Option<Band> {
        let all = Band::all(range);
        Band { first: all.first + offset(range), ..all }.unless_empty()
    }

    fn fixed(range: &IpNet) -> Option<Band> {
        let all = Band::all(range);
        let last = (all.first + offset(range)).saturating_sub(1).min(all.last);
        Band { last, ..all }.unless_empty()
    }

    fn unless_empty(self) -> Option<Band> {
        (self.first <= self.last).then_some(self)
    }

    fn holds(self, address: IpAddr) -> bool {
        let (number, is_v4) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), true),
            IpAddr::V6(address) => (u128::from(address), false),
        };
        is_v4 == self.is_v4 && (self.first..=self.last).contains(&number)
    }

    /// All of it, from somewhere on and around the end.
    fn from(self, random: u64) -> impl Iterator<Item = IpAddr> {
        let count = self.last - self.first + 1;
        let start = u128::from(random) % count;
        (0..count).map(move |step| self.first + (start + step) % count).map(move |number| match self.is_v4 {
            true => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or_default())),
            false => IpAddr::V6(Ipv6Addr::from(number)),
        })
    }
}

/// How many addresses at the beginning of a range are left for those who ask for one by name.
fn offset(range: &IpNet) -> u128 {
    let bits = u32::from(range.max_prefix_len() - range.prefix_len());
    // Beyond 4,096 addresses the answer is the same.
    let size = 1u128 << bits.min(20);
    if size <= 16 { 0 } else { (size / 16).clamp(16, 256) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn band(band: Option<Band>) -> Option<(String, String)> {
        let ends = |band: Band| {
            let text = |number: u128| match band.is_v4 {
                true => Ipv4Addr::from(u32::try_from(number).unwrap()).to_string(),
                false => Ipv6Addr::from(number).to_string(),
            };
            (text(band.first), text(band.last))
        };
        band.map(ends)
    }

    #[test]
    fn bands_are_upstreams() {
        let bands = |range: &str| {
            let range: IpNet = range.parse().unwrap();
            (band(Band::fixed(&range)), band(Band::dynamic(&range)))
        };
        let pair = |first: &str, last: &str| Some((first.to_owned(), last.to_owned()));
        assert_eq!(bands("10.0.0.0/28"), (None, pair("10.0.0.1", "10.0.0.14")));
        assert_eq!(bands("10.0.0.0/24"), (pair("10.0.0.1", "10.0.0.16"), pair("10.0.0.17", "10.0.0.254")));
        assert_eq!(bands("10.0.0.0/16"), (pair("10.0.0.1", "10.0.1.0"), pair("10.0.1.1", "10.0.255.254")));
        assert_eq!(bands("fd00::/112"), (pair("fd00::1", "fd00::100"), pair("fd00::101", "fd00::ffff")));
    }

    #[test]
    fn a_band_is_gone_through_once_from_anywhere() {
        let range: IpNet = "10.0.0.0/28".parse().unwrap();
        for random in [0, 7, u64::MAX] {
            let mut addresses: Vec<IpAddr> = Band::all(&range).from(random).collect();
            addresses.sort();
            addresses.dedup();
            assert_eq!(addresses.len(), 14);
        }
    }
}
