//! Links, addresses and routes of one network namespace, over route netlink.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use thiserror::Error;

use crate::namespace::{Namespace, NamespaceError};

/// A link, address or route that could not be set.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The kernel refused.
    #[error("{action}")]
    Refused {
        /// What was tried, to which link.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

/// The links of one namespace, through a socket that was opened there.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
    /// The number of the last request. A cell also keeps two threads from mixing up their answers.
    sequence: Cell<u32>,
}

impl Links {
    /// Opens the links of a namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel is out of descriptors.
    pub fn open(namespace: &Namespace) -> Result<Links, LinkError> {
        // A socket stays in the namespace it was made in, whichever thread uses it later.
        let socket = namespace.run(|| {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        })?;
        let socket = socket
            .map_err(|source| refused(format!("opening route netlink in {}", namespace.name()), source))?;
        Ok(Links { socket, sequence: Cell::new(0) })
    }

    /// Makes a bridge, down and without spanning tree: its ports forward at once.
    ///
    /// # Errors
    /// When a link has that name or the kernel has no bridges.
    pub fn add_bridge(&self, name: &str) -> Result<(), LinkError> {
        let message = link(name, vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)])]);
        self.create(RouteNetlinkMessage::NewLink(message), || format!("making bridge {name}"))
    }

    /// Makes a veth pair, both ends down: `name` here, `peer` in the other namespace.
    ///
    /// # Errors
    /// When a link of either name exists or the kernel has no veth.
    pub fn add_veth(&self, name: &str, peer: &str, peer_namespace: &Namespace) -> Result<(), LinkError> {
        let there = link(peer, vec![LinkAttribute::NetNsFd(peer_namespace.file().as_raw_fd())]);
        let veth = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(there)));
        let message = link(name, vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), veth])]);
        let action = || format!("making veth {name} with {peer} in {}", peer_namespace.name());
        self.create(RouteNetlinkMessage::NewLink(message), action)
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn set_up(&self, name: &str) -> Result<(), LinkError> {
        let mut message = link(name, Vec::new());
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(message), || format!("setting {name} up"))
    }

    /// Makes a link a port of a bridge.
    ///
    /// # Errors
    /// When either is missing.
    pub fn set_master(&self, port: &str, bridge: &str) -> Result<(), LinkError> {
        let message = link(port, vec![LinkAttribute::Controller(self.index(bridge)?)]);
        self.change(RouteNetlinkMessage::SetLink(message), || format!("making {port} a port of {bridge}"))
    }

    /// Whether a bridge sends a frame back through the port it came in by.
    ///
    /// # Errors
    /// When there is no such bridge port.
    pub fn set_hairpin(&self, port: &str, on: bool) -> Result<(), LinkError> {
        let settings = vec![InfoBridgePort::HairpinMode(on)];
        let info = vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(settings)),
        ];
        // The kernel reads a port's settings in requests for new links only, also when the link exists.
        let message = RouteNetlinkMessage::NewLink(link(port, vec![LinkAttribute::LinkInfo(info)]));
        self.change(message, || format!("setting hairpin mode of {port}"))
    }

    /// Gives a link an address; its prefix length makes the route to the neighbours.
    ///
    /// # Errors
    /// When there is no such link or it has the address already.
    pub fn add_address(&self, name: &str, address: IpNet) -> Result<(), LinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        // Usable at once instead of after a second of asking whether a neighbour has it.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.header.index = self.index(name)?;
        message.attributes = vec![AddressAttribute::Address(address.addr())];
        if address.addr().is_ipv4() {
            // On a link that is no point-to-point link both attributes hold the same.
            message.attributes.push(AddressAttribute::Local(address.addr()));
        }
        self.create(RouteNetlinkMessage::NewAddress(message), || format!("adding {address} to {name}"))
    }

    /// Adds a route by way of a neighbour.
    ///
    /// # Errors
    /// When the neighbour is on no link of ours, or there is such a route.
    pub fn add_route(&self, destination: IpNet, gateway: IpAddr) -> Result<(), LinkError> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(gateway),
            destination_prefix_length: destination.prefix_len(),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes = vec![
            RouteAttribute::Destination(destination.network().into()),
            RouteAttribute::Gateway(gateway.into()),
        ];
        let action = || format!("adding the route to {destination} through {gateway}");
        self.create(RouteNetlinkMessage::NewRoute(message), action)
    }

    fn index(&self, name: &str) -> Result<u32, LinkError> {
        let action = || format!("looking up link {name}");
        match self.request(RouteNetlinkMessage::GetLink(link(name, Vec::new())), 0) {
            Ok(Some(RouteNetlinkMessage::NewLink(found))) => Ok(found.header.index),
            Ok(_) => Err(refused(action(), io::ErrorKind::InvalidData.into())),
            Err(source) => Err(refused(action(), source)),
        }
    }

    fn create(&self, message: RouteNetlinkMessage, action: impl Fn() -> String) -> Result<(), LinkError> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.request(message, flags).map(drop).map_err(|source| refused(action(), source))
    }

    fn change(&self, message: RouteNetlinkMessage, action: impl Fn() -> String) -> Result<(), LinkError> {
        self.request(message, NLM_F_ACK).map(drop).map_err(|source| refused(action(), source))
    }

    /// Sends one request and gives its answer; an acknowledgement is none.
    fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
        self.sequence.set(self.sequence.get() + 1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence.get();
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            if answer.header.sequence_number != self.sequence.get() {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
                NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
                _ => Ok(None),
            };
        }
    }
}

fn link(name: &str, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend(attributes);
    message
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn refused(action: String, source: io::Error) -> LinkError {
    LinkError::Refused { action, source }
}
