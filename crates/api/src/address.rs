//! Addresses as Kubernetes writes them.
//!
//! Old API servers stored what users typed, so IPv4 octets may carry leading zeros. They are decimal
//! (`010.0.0.1` is 10.0.0.1, not 8.0.0.1), and an IPv4-mapped IPv6 address is the IPv4 address it maps.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// One of the two address families. Written `IPv4` and `IPv6` in objects, log lines and metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IpFamily {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

impl IpFamily {
    /// Both families, in the order in which Kubernetes notifies them.
    pub const BOTH: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

    pub fn of(address: IpAddr) -> IpFamily {
        if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 }
    }

    pub fn of_net(net: &IpNet) -> IpFamily {
        IpFamily::of(net.addr())
    }

    pub fn as_str(self) -> &'static str {
        match self {
            IpFamily::V4 => "IPv4",
            IpFamily::V6 => "IPv6",
        }
    }

    /// `0.0.0.0` or `::`.
    pub fn unspecified(self) -> IpAddr {
        match self {
            IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
            IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Bits in an address: 32 or 128, which is also the prefix length of a single host.
    pub fn host_prefix(self) -> u8 {
        match self {
            IpFamily::V4 => 32,
            IpFamily::V6 => 128,
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Parses an address leniently; `None` if it is none.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(unmap(address));
    }
    parse_ipv4_with_leading_zeros(text).map(IpAddr::V4)
}

/// Parses a range leniently and masks it to its network address; `None` if it is none.
pub fn parse_cidr(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.split_once('/')?;
    if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut prefix: u8 = prefix.parse().ok()?;
    let written: IpAddr =
        address.parse().ok().or_else(|| parse_ipv4_with_leading_zeros(address).map(IpAddr::V4))?;
    let address = unmap(written);
    if written != address {
        prefix = prefix.checked_sub(96)?; // ::ffff:a.b.c.d/120 is a.b.c.d/24
    }
    let net = match address {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::new(v4, prefix).ok()?),
        IpAddr::V6(v6) => IpNet::V6(Ipv6Net::new(v6, prefix).ok()?),
    };
    Some(net.trunc())
}

/// `IP:port`, with brackets around an IPv6 address: the identity of an endpoint.
pub fn join_host_port(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(v4) => format!("{v4}:{port}"),
        IpAddr::V6(v6) => format!("[{v6}]:{port}"),
    }
}

fn unmap(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn parse_ipv4_with_leading_zeros(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let significant = part.trim_start_matches('0');
        *octet = if significant.is_empty() { 0 } else { significant.parse().ok()? };
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_are_decimal() {
        assert_eq!(parse_ip("010.0.0.01"), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(parse_ip("000.0.0.0"), Some("0.0.0.0".parse().unwrap()));
        assert_eq!(parse_cidr("010.244.1.9/16").unwrap().to_string(), "10.244.0.0/16");
    }

    #[test]
    fn a_mapped_address_is_ipv4() {
        assert_eq!(parse_ip("::ffff:10.0.0.1"), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(parse_cidr("::ffff:10.0.0.9/120").unwrap().to_string(), "10.0.0.0/24");
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in
            ["", " ", "10.0.0", "10.0.0.256", "10.0.0.1.1", "10.0.0.+1", "fe80::1%eth0", "None", "::g"]
        {
            assert_eq!(parse_ip(text), None, "{text:?}");
        }
        for text in ["10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "::ffff:10.0.0.0/24"] {
            assert_eq!(parse_cidr(text), None, "{text:?}");
        }
    }

    #[test]
    fn ipv6_endpoints_wear_brackets() {
        assert_eq!(join_host_port("fd00::5".parse().unwrap(), 80), "[fd00::5]:80");
        assert_eq!(join_host_port("10.0.0.1".parse().unwrap(), 80), "10.0.0.1:80");
    }
}
