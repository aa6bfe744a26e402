//! Making and removing links, and what is set on one as a whole.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage,
};

use super::{LinkError, Links, link};
use crate::namespace::Namespace;

/// A veth pair to be made.
#[derive(Debug, Clone, Copy)]
pub struct VethPair<'a> {
    /// The end in the namespace of the [`Links`].
    pub name: &'a str,
    /// The other end, and the open file of the namespace that it is made in.
    pub peer: &'a str,
    pub peer_namespace: BorrowedFd<'a>,
    /// The hardware address of the other end; the kernel picks one at random without.
    pub peer_mac: Option<[u8; 6]>,
    /// Of both ends; the kernel's 1500 without.
    pub mtu: Option<u32>,
}

/// A VXLAN link to be made: a network of its own between hosts, in UDP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan<'a> {
    pub name: &'a str,
    /// The number of the network, of 24 bits.
    pub id: u32,
    /// The UDP port of all its ends.
    pub port: u16,
    /// The address of this end.
    pub local: IpAddr,
    pub mac: [u8; 6],
    pub mtu: u32,
}

impl Links {
    /// Makes a VXLAN link, down. It learns nothing by itself: where frames go is said with
    /// [`set_tunnel_end`](Links::set_tunnel_end).
    ///
    /// # Errors
    /// When a link has that name, another one the number on the same port, or the kernel has no VXLAN.
    pub fn add_vxlan(&self, vxlan: &Vxlan<'_>) -> Result<(), LinkError> {
        let local = match vxlan.local {
            IpAddr::V4(address) => InfoVxlan::Local(address),
            IpAddr::V6(address) => InfoVxlan::Local6(address),
        };
        let settings = vec![
            InfoVxlan::Id(vxlan.id),
            local,
            InfoVxlan::Port(vxlan.port),
            InfoVxlan::Learning(false),
            InfoVxlan::Ttl(64),
        ];
        let mut message =
            link(vxlan.name, vec![LinkAttribute::Address(vxlan.mac.to_vec()), LinkAttribute::Mtu(vxlan.mtu)]);
        let data = LinkInfo::Data(InfoData::Vxlan(settings));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan), data]));
        let action = || format!("making VXLAN link {} with number {}", vxlan.name, vxlan.id);
        self.create(RouteNetlinkMessage::NewLink(message), action)
    }

    /// Makes a bridge, down and without spanning tree: its ports forward at once.
    ///
    /// # Errors
    /// When a link has that name or the kernel has no bridges.
    pub fn add_bridge(&self, name: &str) -> Result<(), LinkError> {
        self.add_bridge_with(name, &[])
    }

    /// Makes a bridge that keeps this hardware address. Without one a bridge takes the lowest of its ports', and
    /// changes it as they come and go, so that neighbours send to an address that is no longer there.
    ///
    /// # Errors
    /// When a link has that name or the kernel has no bridges.
    pub fn add_bridge_with_mac(&self, name: &str, mac: [u8; 6]) -> Result<(), LinkError> {
        self.add_bridge_with(name, &[LinkAttribute::Address(mac.to_vec())])
    }

    fn add_bridge_with(&self, name: &str, attributes: &[LinkAttribute]) -> Result<(), LinkError> {
        let mut message = link(name, attributes.to_vec());
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.create(RouteNetlinkMessage::NewLink(message), || format!("making bridge {name}"))
    }

    /// Makes a veth pair, both ends down: `name` here, `peer` in the other namespace.
    ///
    /// # Errors
    /// When a link of either name exists or the kernel has no veth.
    pub fn add_veth(&self, name: &str, peer: &str, peer_namespace: &Namespace) -> Result<(), LinkError> {
        let there = link(peer, vec![LinkAttribute::NetNsFd(peer_namespace.file().as_raw_fd())]);
        let action = || format!("making veth {name} with {peer} in {}", peer_namespace.name());
        self.create(RouteNetlinkMessage::NewLink(veth(name, there, Vec::new())), action)
    }

    /// Makes a veth pair, both ends down.
    ///
    /// # Errors
    /// When a link of either name exists, the kernel has no veth or refuses the MTU.
    pub fn add_veth_pair(&self, pair: &VethPair<'_>) -> Result<(), LinkError> {
        let mtu = || pair.mtu.map(LinkAttribute::Mtu);
        let mut there = link(pair.peer, vec![LinkAttribute::NetNsFd(pair.peer_namespace.as_raw_fd())]);
        there.attributes.extend(mtu());
        there.attributes.extend(pair.peer_mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        let message = veth(pair.name, there, mtu().into_iter().collect());
        let action = || format!("making veth {} with {} in the other namespace", pair.name, pair.peer);
        self.create(RouteNetlinkMessage::NewLink(message), action)
    }

    /// Removes a link, and with one end of a veth pair the other. False if there was none.
    ///
    /// # Errors
    /// When the kernel does not let this kind of link go.
    pub fn delete(&self, name: &str) -> Result<bool, LinkError> {
        let message = RouteNetlinkMessage::DelLink(link(name, Vec::new()));
        match self.change(message, || format!("removing link {name}")) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sets a link's MTU.
    ///
    /// # Errors
    /// When there is no such link or the kernel refuses the size.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), LinkError> {
        let message = RouteNetlinkMessage::SetLink(link(name, vec![LinkAttribute::Mtu(mtu)]));
        self.change(message, || format!("setting the MTU of {name} to {mtu}"))
    }

    /// Writes a note on a link, at most 255 bytes, for whoever looks at it later (`ip link` shows it as alias).
    ///
    /// # Errors
    /// When there is no such link or the note is too long.
    pub fn set_alias(&self, name: &str, note: &str) -> Result<(), LinkError> {
        // The kernel ignores the alias in a request for a new link.
        let message = RouteNetlinkMessage::SetLink(link(name, vec![LinkAttribute::IfAlias(note.to_owned())]));
        self.change(message, || format!("setting the alias of {name}"))
    }

    /// Moves a link into another namespace, given by its open file; it loses its addresses and goes down.
    ///
    /// # Errors
    /// When there is no such link, or one of that name is there already.
    pub fn move_to(&self, name: &str, namespace: BorrowedFd<'_>) -> Result<(), LinkError> {
        let attributes = vec![LinkAttribute::NetNsFd(namespace.as_raw_fd())];
        let message = RouteNetlinkMessage::SetLink(link(name, attributes));
        self.change(message, || format!("moving {name} into another namespace"))
    }
}

fn veth(name: &str, peer: LinkMessage, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = link(name, attributes);
    let data = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), data]));
    message
}
