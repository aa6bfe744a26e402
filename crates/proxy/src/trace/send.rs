//! One real connection, to hold an answer against.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol as Number, Socket, Type};
use switchyard_api::{IpFamily, Protocol};
use switchyard_kernel::conntrack::{KernelConntrack, Tuple};
use switchyard_kernel::netlink::NetlinkError;

use super::answer::{Answer, Seen, Way, WayVerdict};
use super::question::Question;

/// Longer than a packet takes in any cluster; what is dropped is waited for as long.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection that was tried. Dropping it closes it.
#[derive(Debug)]
pub struct Tried {
    /// Kept so that connection tracking remembers it.
    _socket: Socket,
    first: Tuple,
    protocol: Protocol,
    result: io::Result<()>,
}

/// Opens a connection as a question asks. To be called in the network namespace that it comes from.
///
/// # Errors
/// If it cannot even be tried: the source is not an address of this place, the protocol is unknown to the kernel.
pub fn open(question: &Question) -> io::Result<Tried> {
    let kind = match question.protocol {
        Protocol::Tcp | Protocol::Sctp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let number = Number::from(i32::from(number(question.protocol)));
    let socket = Socket::new(Domain::for_address(question.destination), kind, Some(number))?;
    // What only stands for "somewhere outside" is no address that one can send from.
    let source = if question.is_source_made_up { unspecified(question.source) } else { question.source };
    socket.bind(&SocketAddr::new(source, 0).into())?;
    let mut result = socket.connect_timeout(&question.destination.into(), PATIENCE);
    if question.protocol == Protocol::Udp && result.is_ok() {
        result = socket.send(b"?").map(drop);
    }
    let own = socket.local_addr()?.as_socket().ok_or(ErrorKind::AddrNotAvailable)?;
    let first = Tuple { source: own, destination: question.destination };
    Ok(Tried { _socket: socket, first, protocol: question.protocol, result })
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    match IpFamily::of(like) {
        IpFamily::V4 => IpAddr::from([0; 4]),
        IpFamily::V6 => IpAddr::from([0; 16]),
    }
}

impl Tried {
    /// What connection tracking made of it. To be called in the network namespace of the node that decides.
    ///
    /// # Errors
    /// If connection tracking cannot be read.
    pub fn look_up(&self) -> Result<Option<Tuple>, NetlinkError> {
        let mut conntrack = KernelConntrack::open(IpFamily::of(self.first.destination.ip()))?;
        conntrack.reply_to(number(self.protocol), &self.first)
    }

    /// What became of it, in a line, and whether that was foretold.
    pub fn compare(&self, answer: &Answer, reply: Option<Tuple>) -> (String, bool) {
        let end = match &self.result {
            Ok(()) if self.protocol == Protocol::Udp => "sent".to_owned(),
            Ok(()) => "connected".to_owned(),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused".to_owned(),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                format!("no answer within {} s", PATIENCE.as_secs())
            }
            Err(error) => error.to_string(),
        };
        let way = match reply {
            // Connection tracking drops flows whose first packet was refused.
            None => String::new(),
            Some(reply) => format!(", to {}, which sees {}", reply.source, reply.destination.ip()),
        };
        let is_foretold = answer.ways.iter().any(|way| self.is(way, reply));
        let verdict = if is_foretold { "as foretold" } else { "NOT as foretold" };
        (format!("from {}: {end}{way}: {verdict}", self.first.source), is_foretold)
    }

    fn is(&self, way: &Way, reply: Option<Tuple>) -> bool {
        let failed_with =
            |kinds: &[ErrorKind]| self.result.as_ref().is_err_and(|error| kinds.contains(&error.kind()));
        match (way.verdict, reply) {
            (WayVerdict::Rejected, None) => failed_with(&[
                ErrorKind::ConnectionRefused,
                ErrorKind::HostUnreachable,
                ErrorKind::NetworkUnreachable,
            ]),
            (WayVerdict::Dropped, None) => failed_with(&[ErrorKind::TimedOut, ErrorKind::WouldBlock]),
            (WayVerdict::Forwarded | WayVerdict::Untouched, Some(reply)) => {
                let seen_there = reply.destination.ip();
                let is_as_told = |seen: &Seen| match (seen.masqueraded, seen.address) {
                    // The made-up source of a question is not the one that was sent from.
                    (false, _) => seen_there == self.first.source.ip(),
                    (true, Some(address)) => seen_there == address,
                    (true, None) => seen_there != self.first.source.ip(),
                };
                way.backend == Some(reply.source) && way.seen.as_ref().is_some_and(is_as_told)
            }
            _ => false,
        }
    }
}
