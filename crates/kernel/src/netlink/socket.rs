//! A netfilter socket: requests with their answers, dumps, and notices of a multicast group.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use thiserror::Error;

use super::message::{
    ACKNOWLEDGE, CREATE, DUMP, INTERRUPTED, Message, MessageBuilder, Messages, Truncated, field,
};

/// The kernel's messages are at most this long, dumps included.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// Control messages of netlink itself.
const ERROR: u16 = 2;
const DONE: u16 = 3;

#[derive(Debug, Error)]
pub enum NetlinkError {
    #[error("{doing}: {source}")]
    Kernel { doing: &'static str, source: io::Error },
    /// The table kept changing while it was read; what was read is incomplete.
    #[error("{doing}: the table changed while it was read")]
    Interrupted { doing: &'static str },
    /// Notices were lost because they came faster than they were read.
    #[error("{doing}: the kernel dropped notices")]
    Overflow { doing: &'static str },
    #[error("{doing}: {source}")]
    Malformed { doing: &'static str, source: Truncated },
}

impl NetlinkError {
    fn kernel(doing: &'static str, errno: Errno) -> NetlinkError {
        match errno {
            Errno::ENOBUFS => NetlinkError::Overflow { doing },
            Errno::EINTR => NetlinkError::Interrupted { doing },
            _ => NetlinkError::Kernel { doing, source: errno.into() },
        }
    }

    /// Whether the object asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.is(Errno::ENOENT)
    }

    /// Whether the object to be created exists.
    pub fn exists(&self) -> bool {
        self.is(Errno::EEXIST) || self.is(Errno::EBUSY)
    }

    fn is(&self, errno: Errno) -> bool {
        matches!(self, NetlinkError::Kernel { source, .. } if source.raw_os_error() == Some(errno as i32))
    }
}

/// Bound to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub fn open() -> Result<Socket, NetlinkError> {
        Socket::bound_to(0)
    }

    /// Hears the notices of one multicast group. `buffer` bytes of them may wait to be read; beyond the system's limit
    /// this needs root, and less is no error.
    pub fn listen(group: u32, buffer: usize) -> Result<Socket, NetlinkError> {
        let socket = Socket::bound_to(1 << (group - 1))?;
        let _ = setsockopt(&socket.descriptor, sockopt::RcvBufForce, &buffer);
        Ok(socket)
    }

    fn bound_to(groups: u32) -> Result<Socket, NetlinkError> {
        const DOING: &str = "opening a netfilter socket";
        let open = || -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC;
            let descriptor =
                socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
            bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
            Ok(descriptor)
        };
        let descriptor = open().map_err(|errno| NetlinkError::kernel(DOING, errno))?;
        Ok(Socket { descriptor, sequence: 0, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// Sends a request and waits until the kernel has carried it out; `creates` where it makes something new.
    pub fn execute(
        &mut self,
        doing: &'static str,
        subsystem: u8,
        operation: u8,
        creates: bool,
        family: u8,
        fill: impl FnOnce(MessageBuilder) -> MessageBuilder,
    ) -> Result<(), NetlinkError> {
        let flags = ACKNOWLEDGE | if creates { CREATE } else { 0 };
        let request = fill(MessageBuilder::new(subsystem, operation, flags, family));
        self.exchange(doing, request, |_| {})
    }

    /// Sends a request and hands over the object that the kernel answers with.
    pub fn get(
        &mut self,
        doing: &'static str,
        subsystem: u8,
        operation: u8,
        fill: impl FnOnce(MessageBuilder) -> MessageBuilder,
        mut visit: impl FnMut(Message<'_>),
    ) -> Result<(), NetlinkError> {
        let request = fill(MessageBuilder::new(subsystem, operation, ACKNOWLEDGE, 0));
        self.exchange(doing, request, &mut visit)
    }

    /// Asks for all objects and hands them over one by one, however many there are.
    pub fn dump(
        &mut self,
        doing: &'static str,
        subsystem: u8,
        operation: u8,
        family: u8,
        fill: impl FnOnce(MessageBuilder) -> MessageBuilder,
        visit: impl FnMut(Message<'_>),
    ) -> Result<(), NetlinkError> {
        let request = fill(MessageBuilder::new(subsystem, operation, DUMP, family));
        self.exchange(doing, request, visit)
    }

    /// Reads until the kernel says that it is done with this request.
    fn exchange(
        &mut self,
        doing: &'static str,
        request: MessageBuilder,
        mut visit: impl FnMut(Message<'_>),
    ) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let bytes = request.finish(sequence);
        let sent = send(self.descriptor.as_raw_fd(), &bytes, MsgFlags::empty());
        sent.map_err(|errno| NetlinkError::kernel(doing, errno))?;
        let mut interrupted = false;
        loop {
            let length = self.receive(doing)?;
            for message in Messages(&self.buffer[..length]) {
                let message = message.map_err(|source| NetlinkError::Malformed { doing, source })?;
                if message.header.sequence != sequence {
                    continue; // the rest of an answer that an earlier error cut off
                }
                interrupted |= message.header.flags & INTERRUPTED != 0;
                match message.header.kind {
                    DONE | ERROR => {
                        return match status(&message) {
                            Some(errno) => Err(NetlinkError::kernel(doing, errno)),
                            None if interrupted => Err(NetlinkError::Interrupted { doing }),
                            None => Ok(()),
                        };
                    }
                    _ => visit(message),
                }
            }
        }
    }

    /// Waits for notices and hands over each; `Ok(false)` if none came within `limit`.
    pub fn notices(
        &mut self,
        doing: &'static str,
        limit: Duration,
        mut visit: impl FnMut(Message<'_>),
    ) -> Result<bool, NetlinkError> {
        let mut descriptors = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        match poll(&mut descriptors, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(errno) => return Err(NetlinkError::kernel(doing, errno)),
        }
        let length = self.receive(doing)?;
        for message in Messages(&self.buffer[..length]) {
            visit(message.map_err(|source| NetlinkError::Malformed { doing, source })?);
        }
        Ok(true)
    }

    fn receive(&mut self, doing: &'static str) -> Result<usize, NetlinkError> {
        loop {
            match recv(self.descriptor.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => return Ok(length),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(NetlinkError::kernel(doing, errno)),
            }
        }
    }
}

/// The error that ends an exchange, if it ended with one: a negative number at the start of the payload.
fn status(message: &Message<'_>) -> Option<Errno> {
    let code = field(message.payload, 0).map_or(0, i32::from_ne_bytes);
    (code != 0).then(|| Errno::from_raw(code.wrapping_neg()))
}
