//! What there is: links, their addresses, the routes of the main table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};

use super::{LinkError, Links, link};

/// A link as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    pub name: String,
    pub index: u32,
    pub up: bool,
    pub mtu: u32,
    pub mac: Option<[u8; 6]>,
    /// The index of the bridge that this is a port of.
    pub master: Option<u32>,
    /// `veth`, `bridge` and so on; none for hardware and the loopback.
    pub kind: Option<String>,
    pub alias: Option<String>,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEntry {
    /// The default route's is of length 0.
    pub destination: IpNet,
    pub gateway: Option<IpAddr>,
    /// The index of the link that it leads out of.
    pub link: Option<u32>,
    /// Who made it: a number of `/etc/iproute2/rt_protos`.
    pub protocol: u8,
}

impl Links {
    /// All links of the namespace.
    ///
    /// # Errors
    /// When the kernel's answer cannot be read.
    pub fn all(&self) -> Result<Vec<Link>, LinkError> {
        let answers = self.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()), "listing links")?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(Link::from(message)),
            _ => None,
        });
        Ok(links.collect())
    }

    /// The link of that name, if there is one.
    ///
    /// # Errors
    /// When the kernel's answer cannot be read.
    pub fn find(&self, name: &str) -> Result<Option<Link>, LinkError> {
        match self.request(RouteNetlinkMessage::GetLink(link(name, Vec::new())), 0) {
            Ok(Some(RouteNetlinkMessage::NewLink(message))) => Ok(Some(Link::from(message))),
            Ok(_) => Ok(None),
            Err(source) => {
                let error = super::refused(format!("looking up link {name}"), source);
                if error.is_not_found() { Ok(None) } else { Err(error) }
            }
        }
    }

    /// The addresses of a link, those that the kernel gave it included.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn addresses(&self, name: &str) -> Result<Vec<IpNet>, LinkError> {
        let index = self.index(name)?;
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.dump(&request, &format!("listing the addresses of {name}"))?;
        let addresses = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) if message.header.index == index => address(&message),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// The routes of the main table, of both families.
    ///
    /// # Errors
    /// When the kernel's answer cannot be read.
    pub fn routes(&self) -> Result<Vec<RouteEntry>, LinkError> {
        let answers = self.dump(&RouteNetlinkMessage::GetRoute(RouteMessage::default()), "listing routes")?;
        let routes = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(message) if message.header.table == RouteHeader::RT_TABLE_MAIN => {
                route(&message)
            }
            _ => None,
        });
        Ok(routes.collect())
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Link {
        let up = message.header.flags.contains(LinkFlags::Up);
        let mut link = Link { index: message.header.index, up, ..Link::default() };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::LinkInfo(information) => {
                    link.kind = information.into_iter().find_map(|item| match item {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

/// IPv4 gives a link's own address as the local one, and on point-to-point links the other end's as the address.
fn address(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let plain = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(plain)?, message.header.prefix_len).ok()
}

fn route(message: &RouteMessage) -> Option<RouteEntry> {
    let everything: IpAddr = match u8::from(message.header.address_family) {
        2 => Ipv4Addr::UNSPECIFIED.into(),
        10 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut destination, mut gateway, mut link) = (everything, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = plain(address)?,
            RouteAttribute::Gateway(address) => gateway = plain(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    let protocol = message.header.protocol.into();
    Some(RouteEntry { destination, gateway, link, protocol })
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
