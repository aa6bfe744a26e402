//! What an attachment will look like, once its addresses are known.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::identity::Identity;
use super::range::Range;
use super::settings::Settings;
use crate::types::{AddResult, Interface, Ip, Route};

/// One address of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) on_link: IpNet,
    /// The bridge's address, where it is the gateway.
    pub(super) gateway: Option<IpNet>,
    /// Whether the family's default route is to lead there.
    pub(super) default_route: bool,
}

/// Everything that ADD makes but the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) bridge: String,
    pub(super) bridge_mac: [u8; 6],
    pub(super) host_link: String,
    /// The alias of the host's link.
    pub(super) note: String,
    pub(super) interface: String,
    pub(super) mac: [u8; 6],
    pub(super) mtu: Option<u32>,
    pub(super) hairpin: bool,
    pub(super) addresses: Vec<Address>,
}

/// What the kernel chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) bridge: Made,
    pub(super) host_link: Made,
    pub(super) interface: Made,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) mac: Option<[u8; 6]>,
    pub(super) mtu: u32,
}

impl Plan {
    /// `addresses` are in the order of the settings' ranges.
    pub(super) fn new(settings: &Settings, identity: &Identity, addresses: &[IpAddr]) -> Plan {
        let has_default_route = |everything: IpNet| {
            let previous = settings.previous.as_ref();
            previous.is_some_and(|result| result.routes.iter().any(|route| route.dst == everything))
        };
        let address = |(range, address): (&Range, &IpAddr)| Address {
            on_link: range.on_link(*address),
            gateway: settings.gateway.then(|| range.on_link(range.gateway())),
            // An earlier plugin of the chain may have made one; the kernel takes no second.
            default_route: settings.gateway && !has_default_route(everything(*address)),
        };
        let gateways: Vec<IpAddr> = settings.ranges.iter().map(Range::gateway).collect();
        Plan {
            bridge: settings.bridge.clone(),
            bridge_mac: mac(&gateways),
            host_link: identity.host_link(),
            note: identity.note(&settings.network),
            interface: identity.attachment.interface.clone(),
            mac: mac(addresses),
            mtu: settings.mtu,
            hairpin: settings.hairpin,
            addresses: settings.ranges.iter().zip(addresses).map(address).collect(),
        }
    }

    /// The result, after that of the plugins before us.
    pub(super) fn result(&self, settings: &Settings, namespace: &str, chosen: &Chosen) -> AddResult {
        let mut result = settings.previous.clone().unwrap_or_else(|| AddResult::empty(settings.version));
        result.cni_version = settings.version;
        let made = |name: &str, made: &Made, sandbox: &str| Interface {
            name: name.to_owned(),
            mac: made.mac.map(mac_text).unwrap_or_default(),
            mtu: Some(made.mtu),
            sandbox: sandbox.to_owned(),
            ..Interface::default()
        };
        result.interfaces.push(made(&self.bridge, &chosen.bridge, ""));
        result.interfaces.push(made(&self.host_link, &chosen.host_link, ""));
        let interface = result.interfaces.len();
        result.interfaces.push(made(&self.interface, &chosen.interface, namespace));
        for address in &self.addresses {
            let gateway = address.gateway.map(|gateway| gateway.addr());
            result.ips.push(Ip { address: address.on_link, gateway, interface: Some(interface) });
            if address.default_route {
                result.routes.push(Route::through(everything(address.on_link.addr()), gateway));
            }
        }
        let (dns, wanted) = (&mut result.dns, settings.dns.clone());
        dns.nameservers.extend(wanted.nameservers);
        dns.search.extend(wanted.search);
        dns.options.extend(wanted.options);
        dns.domain = wanted.domain.or(dns.domain.take());
        result
    }
}

/// The destination of a family's default route.
pub(super) fn everything(family: IpAddr) -> IpNet {
    if family.is_ipv4() { Ipv4Net::default().into() } else { Ipv6Net::default().into() }
}

/// A locally administered hardware address that follows from the IPv4 address, or else from the end of the IPv6 one. So
/// an address that passes from one container to the next keeps its hardware address, and what neighbours remember of
/// it stays right.
fn mac(addresses: &[IpAddr]) -> [u8; 6] {
    let v4 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(address.octets()),
        IpAddr::V6(_) => None,
    });
    let v6 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            Some([a, b, c, d])
        }
    });
    let [a, b, c, d] = v4.or(v6).unwrap_or_default();
    [0x0a, 0x58, a, b, c, d]
}

pub(super) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::*;
    use crate::types::{Command, Version};

    fn settings(more: &str) -> Settings {
        let text = format!(
            r#"{{"cniVersion": "1.1.0", "name": "pods", "ranges": ["10.244.1.0/24", "fd00:1::/64"]{more}}}"#
        );
        Settings::read(text.as_bytes(), Command::Add).unwrap()
    }

    fn plan(settings: &Settings) -> Plan {
        let addresses = ["10.244.1.2".parse().unwrap(), "fd00:1::2".parse().unwrap()];
        Plan::new(settings, &Identity::new("a", "eth0"), &addresses)
    }

    fn chosen() -> Chosen {
        let made = |last: u8| Made { mac: Some([2, 0, 0, 0, 0, last]), mtu: 1500 };
        Chosen { bridge: made(1), host_link: made(2), interface: made(3) }
    }

    #[test]
    fn the_result_says_what_was_made() {
        let settings = settings(r#", "dns": {"nameservers": ["10.96.0.10"]}"#);
        let result = plan(&settings).result(&settings, "/run/netns/a", &chosen());
        assert_eq!(result.interfaces.len(), 3);
        assert_eq!(result.interfaces[2].mac, "02:00:00:00:00:03");
        assert_eq!(result.interfaces[2].sandbox, "/run/netns/a");
        let ips: Vec<String> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
        assert_eq!(ips, ["10.244.1.2/24", "fd00:1::2/64"]);
        assert!(result.ips.iter().all(|ip| ip.interface == Some(2)));
        let routes: Vec<String> =
            result.routes.iter().map(|route| format!("{} {}", route.dst, route.gw.unwrap())).collect();
        assert_eq!(routes, ["0.0.0.0/0 10.244.1.1", "::/0 fd00:1::1"]);
        assert_eq!(result.dns.nameservers, ["10.96.0.10"]);
    }

    #[test]
    fn hardware_addresses_follow_from_addresses() {
        let plan = plan(&settings(""));
        assert_eq!(mac_text(plan.mac), "0a:58:0a:f4:01:02");
        assert_eq!(mac_text(plan.bridge_mac), "0a:58:0a:f4:01:01");
        assert_eq!(mac_text(mac(&["fd00::1:2".parse().unwrap()])), "0a:58:00:01:00:02");
    }

    #[test]
    fn what_earlier_plugins_made_stays_in_the_result() {
        let settings = settings(
            r#", "prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "net0", "sandbox": "/x"}],
                "routes": [{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}], "dns": {"domain": "d"}}"#,
        );
        let plan = plan(&settings);
        assert!(!plan.addresses[0].default_route && plan.addresses[1].default_route);
        let result = plan.result(&settings, "/x", &chosen());
        assert_eq!(result.interfaces[0].name, "net0");
        assert_eq!(result.ips[0].interface, Some(3));
        assert_eq!(result.routes.len(), 2);
        assert_eq!(result.dns.domain.as_deref(), Some("d"));
        assert_eq!(result.cni_version, Version::V1_1_0);
    }

    #[test]
    fn without_a_gateway_there_is_no_default_route() {
        let settings = settings(r#", "isGateway": false"#);
        let result = plan(&settings).result(&settings, "/x", &chosen());
        assert!(result.routes.is_empty() && result.ips.iter().all(|ip| ip.gateway.is_none()));
    }
}
