//! The kernel's connection tracking: which flows it remembers, and making it forget UDP ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use switchyard_plan::IpFamily;

use crate::netlink::{Attributes, Message, MessageBuilder, NetlinkError, Socket, subsystem};

const GET: u8 = 1;
const DELETE: u8 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
/// The protocol's number in IP headers.
const UDP: u8 = 17;
/// Upstream's number of tries where a table changes while it is read.
const ATTEMPTS: usize = 5;

/// One flow, as its first packet was and as answers to it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    pub original: Tuple,
    pub reply: Tuple,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// The connection tracking table of one address family.
pub trait Conntrack: Send + std::fmt::Debug {
    /// Hands over every UDP flow, without ever holding them all. A table that keeps changing while it is read is read
    /// again a few times; after that, what was seen has to do.
    fn for_each_udp_flow(&mut self, visit: &mut dyn FnMut(Flow)) -> Result<(), NetlinkError>;

    /// Forgets a flow; false if it was gone already.
    fn delete(&mut self, flow: &Flow) -> Result<bool, NetlinkError>;
}

/// The kernel's own table.
#[derive(Debug)]
pub struct KernelConntrack {
    socket: Socket,
    family: IpFamily,
}

impl KernelConntrack {
    pub fn open(family: IpFamily) -> Result<KernelConntrack, NetlinkError> {
        Ok(KernelConntrack { socket: Socket::open()?, family })
    }

    /// How answers to a flow look, by what its first packet was; `None` if it is not remembered. `protocol` is the number in IP
    /// headers. Reads the whole table: for looking at one connection, not for many.
    pub fn reply_to(&mut self, protocol: u8, original: &Tuple) -> Result<Option<Tuple>, NetlinkError> {
        let mut reply = None;
        self.for_each_flow(protocol, &mut |flow| {
            if flow.original == *original {
                reply = Some(flow.reply);
            }
        })?;
        Ok(reply)
    }

    fn for_each_flow(&mut self, protocol: u8, visit: &mut dyn FnMut(Flow)) -> Result<(), NetlinkError> {
        let family = family_number(self.family);
        for attempt in 1..=ATTEMPTS {
            let read = |message: Message<'_>| {
                if let Some(flow) = flow(message.attributes(), protocol) {
                    visit(flow);
                }
            };
            let result =
                self.socket.dump("listing connections", subsystem::CONNTRACK, GET, family, |m| m, read);
            match result {
                Err(NetlinkError::Interrupted { .. }) if attempt < ATTEMPTS => {}
                Err(NetlinkError::Interrupted { .. }) => return Ok(()),
                other => return other,
            }
        }
        Ok(())
    }
}

impl Conntrack for KernelConntrack {
    fn for_each_udp_flow(&mut self, visit: &mut dyn FnMut(Flow)) -> Result<(), NetlinkError> {
        self.for_each_flow(UDP, visit)
    }

    fn delete(&mut self, flow: &Flow) -> Result<bool, NetlinkError> {
        let family = family_number(self.family);
        let mut tries = 0;
        loop {
            tries += 1;
            let request = |message: MessageBuilder| {
                let message = message.nested(TUPLE_ORIGINAL, |inner| write_tuple(inner, &flow.original));
                message.nested(TUPLE_REPLY, |inner| write_tuple(inner, &flow.reply))
            };
            let result = self.socket.execute(
                "deleting a connection",
                subsystem::CONNTRACK,
                DELETE,
                false,
                family,
                request,
            );
            match result {
                Ok(()) => return Ok(true),
                Err(error) if error.is_not_found() => return Ok(false),
                Err(NetlinkError::Interrupted { .. }) if tries < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn family_number(family: IpFamily) -> u8 {
    match family {
        IpFamily::V4 => 2,
        IpFamily::V6 => 10,
    }
}

/// The attributes inside a tuple.
mod tuple {
    pub(super) const IP: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const IPV4_SOURCE: u16 = 1;
    pub(super) const IPV4_DESTINATION: u16 = 2;
    pub(super) const IPV6_SOURCE: u16 = 3;
    pub(super) const IPV6_DESTINATION: u16 = 4;
    pub(super) const NUMBER: u16 = 1;
    pub(super) const SOURCE_PORT: u16 = 2;
    pub(super) const DESTINATION_PORT: u16 = 3;
}

/// `None` for flows of other protocols.
fn flow(attributes: Attributes<'_>, protocol: u8) -> Option<Flow> {
    let original = read_tuple(attributes.nested(TUPLE_ORIGINAL)?, protocol)?;
    let reply = read_tuple(attributes.nested(TUPLE_REPLY)?, protocol)?;
    Some(Flow { original, reply })
}

fn read_tuple(attributes: Attributes<'_>, wanted: u8) -> Option<Tuple> {
    let protocol = attributes.nested(tuple::PROTOCOL)?;
    if protocol.u8(tuple::NUMBER)? != wanted {
        return None;
    }
    let ip = attributes.nested(tuple::IP)?;
    let address = |v4, v6| read_address(ip.get(v4).or_else(|| ip.get(v6))?);
    Some(Tuple {
        source: SocketAddr::new(
            address(tuple::IPV4_SOURCE, tuple::IPV6_SOURCE)?,
            protocol.be16(tuple::SOURCE_PORT)?,
        ),
        destination: SocketAddr::new(
            address(tuple::IPV4_DESTINATION, tuple::IPV6_DESTINATION)?,
            protocol.be16(tuple::DESTINATION_PORT)?,
        ),
    })
}

fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
}

fn write_tuple(message: MessageBuilder, tuple: &Tuple) -> MessageBuilder {
    let address = |message: MessageBuilder, ip: IpAddr, v4, v6| match ip {
        IpAddr::V4(ip) => message.attribute(v4, &ip.octets()),
        IpAddr::V6(ip) => message.attribute(v6, &ip.octets()),
    };
    let message = message.nested(tuple::IP, |inner| {
        let inner = address(inner, tuple.source.ip(), tuple::IPV4_SOURCE, tuple::IPV6_SOURCE);
        address(inner, tuple.destination.ip(), tuple::IPV4_DESTINATION, tuple::IPV6_DESTINATION)
    });
    message.nested(tuple::PROTOCOL, |inner| {
        inner
            .attribute(tuple::NUMBER, &[UDP])
            .attribute(tuple::SOURCE_PORT, &tuple.source.port().to_be_bytes())
            .attribute(tuple::DESTINATION_PORT, &tuple.destination.port().to_be_bytes())
    })
}

/// A table in memory.
pub mod fake {
    use super::{Conntrack, Flow, NetlinkError};

    #[derive(Debug, Clone, Default)]
    pub struct FakeConntrack {
        pub flows: Vec<Flow>,
    }

    impl Conntrack for FakeConntrack {
        fn for_each_udp_flow(&mut self, visit: &mut dyn FnMut(Flow)) -> Result<(), NetlinkError> {
            self.flows.iter().copied().for_each(visit);
            Ok(())
        }

        fn delete(&mut self, flow: &Flow) -> Result<bool, NetlinkError> {
            let before = self.flows.len();
            self.flows.retain(|known| known != flow);
            Ok(self.flows.len() < before)
        }
    }
}
