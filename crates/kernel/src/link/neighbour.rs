//! Who is behind a link: neighbours by their address, and where a tunnel sends frames for a hardware address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{LinkError, Links, family, refused};

/// The hardware address of a neighbour, or the way to it through a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    pub address: IpAddr,
    pub mac: [u8; 6],
}

/// Which of the kernel's two tables.
#[derive(Debug, Clone, Copy)]
enum Table {
    /// From an address to a hardware address (`ip neighbour`).
    Neighbours,
    /// From a hardware address to the tunnel's other end (`bridge fdb`).
    Forwarding,
}

impl Links {
    /// The neighbours of a link that somebody has set for good.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn neighbours(&self, name: &str) -> Result<Vec<Neighbour>, LinkError> {
        self.entries(name, Table::Neighbours)
    }

    /// Sets a neighbour's hardware address, for good.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn set_neighbour(&self, name: &str, neighbour: Neighbour) -> Result<(), LinkError> {
        self.set_entry(name, neighbour, Table::Neighbours)
    }

    /// Forgets a neighbour. False if it is not known.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn remove_neighbour(&self, name: &str, neighbour: Neighbour) -> Result<bool, LinkError> {
        self.remove_entry(name, neighbour, Table::Neighbours)
    }

    /// Where a VXLAN link sends frames: for each hardware address the other end's address.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn tunnel_ends(&self, name: &str) -> Result<Vec<Neighbour>, LinkError> {
        self.entries(name, Table::Forwarding)
    }

    /// Has a VXLAN link send frames for a hardware address to this end.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn set_tunnel_end(&self, name: &str, end: Neighbour) -> Result<(), LinkError> {
        self.set_entry(name, end, Table::Forwarding)
    }

    /// The opposite. False if there is no such entry.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn remove_tunnel_end(&self, name: &str, end: Neighbour) -> Result<bool, LinkError> {
        self.remove_entry(name, end, Table::Forwarding)
    }

    fn entries(&self, name: &str, table: Table) -> Result<Vec<Neighbour>, LinkError> {
        let index = self.index(name)?;
        let mut request = NeighbourMessage::default();
        request.header.family = table.family_of_listing();
        let action = format!("listing the neighbours of {name}");
        let answers = self.dump(&RouteNetlinkMessage::GetNeighbour(request), &action)?;
        let entries = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) if message.header.ifindex == index => {
                let is_permanent = message.header.state == NeighbourState::Permanent;
                entry(&message).filter(|_| is_permanent)
            }
            _ => None,
        });
        Ok(entries.collect())
    }

    fn set_entry(&self, name: &str, entry: Neighbour, table: Table) -> Result<(), LinkError> {
        let message = table.message(self.index(name)?, entry);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let result = self.request(RouteNetlinkMessage::NewNeighbour(message), flags);
        result
            .map(drop)
            .map_err(|source| refused(format!("setting neighbour {} of {name}", entry.address), source))
    }

    fn remove_entry(&self, name: &str, entry: Neighbour, table: Table) -> Result<bool, LinkError> {
        let message = table.message(self.index(name)?, entry);
        let action = || format!("removing neighbour {} of {name}", entry.address);
        match self.change(RouteNetlinkMessage::DelNeighbour(message), action) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Table {
    fn family_of_listing(self) -> AddressFamily {
        match self {
            Table::Neighbours => AddressFamily::Unspec,
            Table::Forwarding => AddressFamily::Bridge,
        }
    }

    fn message(self, index: u32, entry: Neighbour) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.header.family = match self {
            Table::Neighbours => family(entry.address),
            Table::Forwarding => AddressFamily::Bridge,
        };
        if let Table::Forwarding = self {
            // The link's own table, and not that of a bridge that it may be a port of.
            message.header.flags = NeighbourFlags::Own;
        }
        let destination = match entry.address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        };
        message.attributes = vec![
            NeighbourAttribute::Destination(destination),
            NeighbourAttribute::LinkLayerAddress(entry.mac.to_vec()),
        ];
        message
    }
}

fn entry(message: &NeighbourMessage) -> Option<Neighbour> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(address) => plain(address),
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
        _ => None,
    })?;
    Some(Neighbour { address, mac })
}

/// In the table of a tunnel the family of an address shows in its length only.
fn plain(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(address) => Some((*address).into()),
        NeighbourAddress::Inet6(address) => Some((*address).into()),
        NeighbourAddress::Other(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(Ipv4Addr::from).map(IpAddr::V4);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(|bytes| Ipv6Addr::from(bytes).into()))
                .ok()
        }
        _ => None,
    }
}
