//! Asking: real connections to a target, and what came of them.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, getsockopt, socket,
    sockopt,
};

/// More bytes than two addresses take.
const MAX_ANSWER: u64 = 512;

/// The transport protocol of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// A connection; the backend speaks first.
    Tcp,
    /// One datagram, and one back.
    Udp,
}

/// Where to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Address and port as the asker names them: a virtual address, a node port, an endpoint.
    pub address: SocketAddr,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// What came of one try.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// A backend answered.
    Answer {
        /// The endpoint that answered.
        backend: IpAddr,
        /// The source address that the endpoint saw.
        peer: IpAddr,
    },
    /// The peer, or a reject rule on the way, refused.
    Refused,
    /// Nothing came back in time.
    Timeout,
    /// Anything else, such as an unreachable network or an answer no backend gives.
    Failed(String),
}

/// How to ask: from which address, how patiently, how often.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The source address; without it the kernel chooses by route.
    pub source: Option<IpAddr>,
    /// How long to wait for the connection, and again for the answer. Keep it under a second: a lost SYN is
    /// sent again after one, which would hide the loss.
    pub patience: Duration,
    /// How often to ask, so that every endpoint gets its turn. 48 random choices miss one of three endpoints
    /// once in a hundred million times.
    pub tries: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Probe { source: None, patience: Duration::from_millis(900), tries: 48 }
    }
}

impl Probe {
    /// Asks once, from the calling thread's network namespace.
    #[must_use]
    pub fn once(&self, target: Target) -> Outcome {
        match self.answer(target) {
            Ok(answer) => Outcome::from_answer(&answer),
            Err(error) => Outcome::from_error(&error),
        }
    }

    /// Asks until every try is used or one brings no answer, and gives the different outcomes.
    #[must_use]
    pub fn outcomes(&self, target: Target) -> BTreeSet<Outcome> {
        let mut seen = BTreeSet::new();
        for _ in 0..self.tries {
            let outcome = self.once(target);
            let answered = matches!(outcome, Outcome::Answer { .. });
            seen.insert(outcome);
            if !answered {
                break;
            }
        }
        seen
    }

    /// Asks all targets at once, each from a thread of its own, and gives the outcomes in the targets' order.
    pub(crate) fn outcomes_of_all(&self, targets: &[Target]) -> Vec<BTreeSet<Outcome>> {
        std::thread::scope(|scope| {
            let asking: Vec<_> =
                targets.iter().map(|target| scope.spawn(|| self.outcomes(*target))).collect();
            let outcomes = asking.into_iter().map(|asker| {
                let panicked = |_| BTreeSet::from([Outcome::Failed("the asking thread panicked".into())]);
                asker.join().unwrap_or_else(panicked)
            });
            outcomes.collect()
        })
    }

    fn answer(&self, target: Target) -> io::Result<String> {
        let socket = self.connected(target)?;
        let mut answer = Vec::new();
        match target.protocol {
            Protocol::Tcp => {
                let connection = TcpStream::from(socket);
                connection.set_nonblocking(false)?;
                connection.set_read_timeout(Some(self.patience))?;
                connection.take(MAX_ANSWER).read_to_end(&mut answer)?;
            }
            Protocol::Udp => {
                let asker = UdpSocket::from(socket);
                asker.set_nonblocking(false)?;
                asker.set_read_timeout(Some(self.patience))?;
                asker.send(b"?")?;
                answer.resize(MAX_ANSWER as usize, 0);
                let length = asker.recv(&mut answer)?;
                answer.truncate(length);
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// A connected, non-blocking socket. The standard library can bind a source address or bound the time of
    /// a connect, but not both.
    ///
    /// A blocking connect would miss rejections: the ICMP error of a reject rule on this very machine arrives
    /// while the socket is still locked by the connect, so it is only noted, for SO_ERROR to report.
    fn connected(&self, target: Target) -> nix::Result<OwnedFd> {
        let family = if target.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let (kind, protocol) = match target.protocol {
            Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
            Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, kind, flags, protocol)?;
        if let Some(source) = self.source {
            bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
        }
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(target.address)) {
            Err(Errno::EINPROGRESS) => {}
            other => return other.map(|()| socket),
        }
        let patience = PollTimeout::try_from(self.patience).unwrap_or(PollTimeout::MAX);
        let ready = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], patience)?;
        match getsockopt(&socket, sockopt::SocketError)? {
            0 if ready == 0 => Err(Errno::ETIMEDOUT),
            0 => Ok(socket),
            error => Err(Errno::from_raw(error)),
        }
    }
}

impl Outcome {
    fn from_answer(answer: &str) -> Outcome {
        let addresses = answer.split_once(' ').and_then(|(backend, peer)| {
            Some(Outcome::Answer { backend: backend.parse().ok()?, peer: peer.parse().ok()? })
        });
        addresses.unwrap_or_else(|| Outcome::Failed(format!("strange answer {answer:?}")))
    }

    fn from_error(error: &io::Error) -> Outcome {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ECONNREFUSED) => Outcome::Refused,
            // A read that outlasts its time limit gives EAGAIN.
            Some(Errno::ETIMEDOUT | Errno::EAGAIN) => Outcome::Timeout,
            _ => Outcome::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Answer { backend, peer } => write!(f, "{backend} {peer}"),
            Outcome::Refused => write!(f, "refused"),
            Outcome::Timeout => write!(f, "timeout"),
            Outcome::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        write!(f, "{}/{protocol}", self.address)
    }
}
