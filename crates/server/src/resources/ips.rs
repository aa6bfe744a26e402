//! Rules for addresses and ranges, with the texts that follow `Invalid value: "x": `.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address as it has always been taken: any way to write an IPv6 address is fine.
pub(super) fn legacy_ip(text: &str) -> Vec<String> {
    match parse(text) {
        Parsed::No => vec![IP.to_owned()],
        Parsed::LeadingZeros(_) => vec!["must not have leading 0s".to_owned()],
        Parsed::Yes(address) if is_mapped(address) => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Parsed::Yes(_) => Vec::new(),
    }
}

/// The same, written in the one canonical way.
pub(super) fn strict_ip(text: &str) -> Vec<String> {
    let mistakes = legacy_ip(text);
    match text.parse::<IpAddr>() {
        Ok(address) if mistakes.is_empty() && address.to_string() != text => {
            vec![format!("must be in canonical form (\"{address}\")")]
        }
        _ => mistakes,
    }
}

pub(super) fn legacy_cidr(text: &str) -> Vec<String> {
    let Some((address, length)) = text.split_once('/') else { return vec![CIDR.to_owned()] };
    let leading = length.len() > 1 && length.starts_with('0');
    match (parse(address), text.parse::<IpNet>()) {
        (Parsed::LeadingZeros(_), _) => vec!["must not have leading 0s in IP or prefix length".to_owned()],
        (Parsed::Yes(_), _) if leading && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            vec!["must not have leading 0s in IP or prefix length".to_owned()]
        }
        (Parsed::Yes(address), Ok(_)) if is_mapped(address) => {
            vec!["must not have an IPv4-mapped IPv6 address".to_owned()]
        }
        (Parsed::Yes(_), Ok(range)) if range.addr() != range.network() => {
            vec!["must not have bits set beyond the prefix length".to_owned()]
        }
        (Parsed::Yes(_), Ok(_)) => Vec::new(),
        _ => vec![CIDR.to_owned()],
    }
}

pub(super) fn strict_cidr(text: &str) -> Vec<String> {
    let mistakes = legacy_cidr(text);
    match text.parse::<IpNet>() {
        Ok(range) if mistakes.is_empty() && range.to_string() != text => {
            vec![format!("must be in canonical form (\"{range}\")")]
        }
        _ => mistakes,
    }
}

/// What an endpoint's address may not be besides.
pub(super) fn endpoint_ip(text: &str) -> Vec<String> {
    let Some(address) = lenient(text) else { return vec!["must be a valid IP address".to_owned()] };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    };
    let link_local_multicast = match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] == 0xff02,
    };
    let rules = [
        (address.is_unspecified(), format!("may not be unspecified ({text})")),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ];
    rules.into_iter().filter(|(broken, _)| *broken).map(|(_, mistake)| mistake).collect()
}

/// An address in any form that was ever taken: what is stored already has to stay good.
pub(super) fn lenient(text: &str) -> Option<IpAddr> {
    match parse(text) {
        Parsed::Yes(address) | Parsed::LeadingZeros(address) => Some(address),
        Parsed::No => None,
    }
}

/// Why an address that is accepted had better be written in another way.
pub(super) fn ip_warning(path: &str, text: &str) -> Option<String> {
    let address = lenient(text)?;
    if !legacy_ip(text).is_empty() {
        let plain = match address {
            IpAddr::V6(address) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
            address => address,
        };
        return Some(format!("{path}: non-standard IP address {text:?} is invalid: use \"{plain}\""));
    }
    let canonical = address.to_string();
    (address.is_ipv6() && canonical != text).then(|| {
        format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({canonical:?})")
    })
}

/// The same for a range.
pub(super) fn cidr_warning(path: &str, text: &str) -> Option<String> {
    let (address, length) = text.split_once('/')?;
    let range = IpNet::new(lenient(address)?, length.parse().ok()?).ok()?;
    let network = IpNet::new(range.network(), range.prefix_len()).ok()?;
    let has_odd_zeros = legacy_cidr(text).iter().any(|mistake| mistake.contains("leading 0s"));
    if has_odd_zeros || is_mapped(range.addr()) {
        return Some(format!("{path}: non-standard CIDR value {text:?} is invalid: use \"{network}\""));
    }
    if range.addr() != range.network() {
        let single = IpNet::from(range.addr());
        return Some(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be \"{network}\" or \"{single}\"?)"
        ));
    }
    (range.addr().is_ipv6() && network.to_string() != text).then(|| {
        format!("{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format (\"{network}\")")
    })
}

enum Parsed {
    Yes(IpAddr),
    /// An IPv4 address of old, whose zeros some take for octal.
    LeadingZeros(IpAddr),
    No,
}

fn parse(text: &str) -> Parsed {
    if let Ok(address) = text.parse() {
        return Parsed::Yes(address);
    }
    let octet = |part: &str| part.parse::<u8>().ok().filter(|_| part.len() <= 4 && !part.starts_with('+'));
    let octets: Option<Vec<u8>> = text.split('.').map(octet).collect();
    match octets.and_then(|octets| <[u8; 4]>::try_from(octets).ok()) {
        Some(octets) => Parsed::LeadingZeros(IpAddr::from(octets)),
        None => Parsed::No,
    }
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if Ipv6Addr::to_ipv4_mapped(&address).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_held_against_the_old_rules_and_the_new() {
        for good in ["10.0.0.1", "fd00::1", "FD00:0::1"] {
            assert_eq!(legacy_ip(good), [""; 0], "{good}");
        }
        assert_eq!(legacy_ip("abc"), [IP]);
        assert_eq!(legacy_ip("010.0.0.1"), ["must not have leading 0s"]);
        assert_eq!(legacy_ip("::ffff:1.2.3.4"), ["must not be an IPv4-mapped IPv6 address"]);
        assert_eq!(strict_ip("FD00:0::1"), ["must be in canonical form (\"fd00::1\")"]);
    }

    #[test]
    fn ranges_have_no_bits_beyond_their_length() {
        assert_eq!(legacy_cidr("10.0.0.0/8"), [""; 0]);
        assert_eq!(legacy_cidr("10.0.0.1/8"), ["must not have bits set beyond the prefix length"]);
        assert_eq!(legacy_cidr("10.0.0.0"), [CIDR]);
        assert_eq!(legacy_cidr("10.0.0.0/08"), ["must not have leading 0s in IP or prefix length"]);
        assert_eq!(strict_cidr("FD00::/64"), ["must be in canonical form (\"fd00::/64\")"]);
    }

    #[test]
    fn what_is_accepted_but_odd_is_warned_of() {
        assert_eq!(ip_warning("p", "fd00::1"), None);
        assert_eq!(ip_warning("p", "10.0.0.1"), None);
        assert_eq!(
            ip_warning("p", "FD00:10::9").as_deref(),
            Some("p: IPv6 address \"FD00:10::9\" should be in RFC 5952 canonical format (\"fd00:10::9\")")
        );
        assert_eq!(
            ip_warning("p", "010.1.1.1").as_deref(),
            Some("p: non-standard IP address \"010.1.1.1\" is invalid: use \"10.1.1.1\"")
        );
        assert_eq!(
            cidr_warning("p", "10.0.0.1/8").as_deref(),
            Some(
                "p: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
            )
        );
        assert_eq!(
            cidr_warning("p", "FD00::/64").as_deref(),
            Some("p: IPv6 CIDR value \"FD00::/64\" should be in RFC 5952 canonical format (\"fd00::/64\")")
        );
        assert_eq!(
            cidr_warning("p", "010.0.0.0/8").as_deref(),
            Some("p: non-standard CIDR value \"010.0.0.0/8\" is invalid: use \"10.0.0.0/8\"")
        );
    }

    #[test]
    fn endpoints_are_not_at_addresses_that_lead_nowhere() {
        assert_eq!(endpoint_ip("10.0.0.1"), [""; 0]);
        assert_eq!(endpoint_ip("0.0.0.0"), ["may not be unspecified (0.0.0.0)"]);
        assert_eq!(endpoint_ip("::1"), ["may not be in the loopback range (127.0.0.0/8, ::1/128)"]);
        assert_eq!(
            endpoint_ip("fe80::1"),
            ["may not be in the link-local range (169.254.0.0/16, fe80::/10)"]
        );
        assert_eq!(
            endpoint_ip("224.0.0.1"),
            ["may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"]
        );
        assert_eq!(
            endpoint_ip("ff02::1"),
            ["may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"]
        );
    }
}
