//! Links, addresses and routes of one network namespace, over route netlink.

mod list;
mod make;
mod neighbour;
mod route;

use std::cell::Cell;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use thiserror::Error;

use crate::namespace::{Namespace, NamespaceError, NamespaceFile};

pub use list::{Link, RouteEntry};
pub use make::{VethPair, Vxlan};
pub use neighbour::Neighbour;
pub use route::Route;

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

impl LinkError {
    /// Whether the link, address or route asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        // A missing link is ENODEV, a missing address EADDRNOTAVAIL, a missing route ESRCH.
        self.is(&[Errno::ENODEV, Errno::ENOENT, Errno::EADDRNOTAVAIL, Errno::ESRCH])
    }

    /// Whether the link, address or route to be made exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.is(&[Errno::EEXIST])
    }

    /// Whether the kernel has no links of the kind asked for.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.is(&[Errno::EOPNOTSUPP])
    }

    fn is(&self, errors: &[Errno]) -> bool {
        let LinkError::Refused { source, .. } = self else { return false };
        source.raw_os_error().is_some_and(|code| errors.contains(&Errno::from_raw(code)))
    }
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
        Links::over(namespace.run(route_socket)?, namespace.name())
    }

    /// Opens the links of a namespace that somebody else keeps.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel is out of descriptors.
    pub fn open_in(namespace: &NamespaceFile) -> Result<Links, LinkError> {
        Links::over(namespace.run(route_socket)?, &namespace.path().display().to_string())
    }

    /// Opens the links of the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel is out of descriptors.
    pub fn open_here() -> Result<Links, LinkError> {
        Links::over(route_socket(), "this namespace")
    }

    fn over(socket: io::Result<Socket>, place: &str) -> Result<Links, LinkError> {
        let socket = socket.map_err(|source| refused(format!("opening route netlink in {place}"), source))?;
        Ok(Links { socket, sequence: Cell::new(0) })
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

    /// Takes an address from a link.
    ///
    /// # Errors
    /// When there is no such link or it has no such address.
    pub fn remove_address(&self, name: &str, address: IpNet) -> Result<(), LinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.index = self.index(name)?;
        message.attributes = vec![AddressAttribute::Local(address.addr())];
        let action = || format!("removing {address} from {name}");
        self.change(RouteNetlinkMessage::DelAddress(message), action)
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
        let mut first = None;
        self.exchange(message, flags, &mut |answer| {
            first.get_or_insert(answer);
        })?;
        Ok(first)
    }

    /// Asks for all of a kind and gives what is there. The kernel says when something changed meanwhile; then it is
    /// asked again.
    fn dump(
        &self,
        message: &RouteNetlinkMessage,
        action: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, LinkError> {
        const ATTEMPTS: usize = 10;
        let mut result = Err(io::Error::from(Errno::EINTR));
        for _ in 0..ATTEMPTS {
            let mut all = Vec::new();
            result = self.exchange(message.clone(), NLM_F_DUMP, &mut |answer| all.push(answer)).map(|()| all);
            if !matches!(&result, Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32)) {
                break;
            }
        }
        result.map_err(|source| refused(action.to_owned(), source))
    }

    fn exchange(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        visit: &mut dyn FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence.set(self.sequence.get().wrapping_add(1));
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence.get();
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let listing = flags & NLM_F_DUMP == NLM_F_DUMP;
        let mut interrupted = false;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            // One datagram of a listing holds many messages.
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(unreadable)?;
                let length = (answer.header.length as usize).next_multiple_of(4).clamp(1, rest.len());
                rest = &rest[length..];
                if answer.header.sequence_number != self.sequence.get() {
                    continue;
                }
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => {
                        visit(message);
                        if !listing {
                            return Ok(());
                        }
                    }
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    _ if interrupted => return Err(Errno::EINTR.into()),
                    _ => return Ok(()),
                }
            }
        }
    }
}

/// The objects listed changed while they were listed, so that some may be missing.
const NLM_F_DUMP_INTR: u16 = 0x10;

fn route_socket() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn unreadable(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
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
