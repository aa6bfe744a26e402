//! A pod that answers: over TCP and UDP it says who it is and whom it sees.
//!
//! Every answer is `its-own-address the-peer's-address`, so one line tells the asker which endpoint was
//! chosen and whether its source address was kept or masqueraded.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

/// The TCP ports a backend answers on.
pub const TCP_PORTS: [u16; 5] = [8080, 8443, 3306, 9090, 5353];
/// The UDP ports a backend answers on.
pub const UDP_PORTS: [u16; 2] = [53, 5353];

/// One address's open ports; dropping it stops the answering and closes them.
#[derive(Debug)]
pub struct Backend {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// A bound socket of either kind, non-blocking: between `poll` and `accept` the peer may have gone.
enum Port {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Backend {
    /// Opens all ports on `address` in the calling thread's network namespace and answers from a thread of
    /// its own, which stays in that namespace.
    ///
    /// # Errors
    /// When a port cannot be bound or the kernel is out of descriptors.
    pub fn start(address: IpAddr) -> io::Result<Backend> {
        let tcp = TCP_PORTS.iter().map(|port| Port::tcp(SocketAddr::new(address, *port)));
        let udp = UDP_PORTS.iter().map(|port| Port::udp(SocketAddr::new(address, *port)));
        let ports = tcp.chain(udp).collect::<io::Result<Vec<Port>>>()?;
        let stop = Arc::new(EventFd::new()?);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name(format!("backend {address}"))
            .spawn(move || answer_until_stopped(address, &ports, &stopped))?;
        Ok(Backend { stop, thread: Some(thread) })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // Writing 1 to a fresh eventfd cannot fail or block; were it to fail, joining would hang.
        if self.stop.write(1).is_ok()
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("a backend's thread had panicked");
        }
    }
}

impl Port {
    fn tcp(address: SocketAddr) -> io::Result<Port> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Port::Tcp(listener))
    }

    fn udp(address: SocketAddr) -> io::Result<Port> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Port::Udp(socket))
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Port::Tcp(listener) => listener.as_fd(),
            Port::Udp(socket) => socket.as_fd(),
        }
    }

    /// Takes one request and answers it.
    fn answer(&self, own: IpAddr) -> io::Result<()> {
        match self {
            Port::Tcp(listener) => {
                let (mut connection, peer) = listener.accept()?;
                connection.write_all(format!("{own} {}", peer.ip()).as_bytes())
            }
            Port::Udp(socket) => {
                let (_, peer) = socket.recv_from(&mut [0; 512])?;
                socket.send_to(format!("{own} {}", peer.ip()).as_bytes(), peer).map(|_| ())
            }
        }
    }
}

fn answer_until_stopped(own: IpAddr, ports: &[Port], stop: &EventFd) {
    let mut waiting: Vec<PollFd<'_>> =
        ports.iter().map(|port| PollFd::new(port.descriptor(), PollFlags::POLLIN)).collect();
    waiting.push(PollFd::new(stop.as_fd(), PollFlags::POLLIN));
    loop {
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return tracing::warn!("backend {own} stops answering: waiting failed: {error}"),
        }
        if waiting.last().and_then(PollFd::any).unwrap_or(false) {
            return;
        }
        for (port, ready) in ports.iter().zip(&waiting) {
            // A peer that went away, or whose ICMP error came back, is its own affair.
            if ready.any().unwrap_or(false)
                && let Err(error) = port.answer(own)
            {
                tracing::debug!("backend {own} could not answer: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn a_backend_names_itself_and_its_peer_until_dropped() {
        // An address of this test's own in 127.0.0.0/8, so that nothing else listens there.
        let own = IpAddr::V4(Ipv4Addr::new(127, 56, 0, 2));
        let backend = Backend::start(own).unwrap();

        let mut answer = String::new();
        TcpStream::connect((own, 8080)).unwrap().read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "127.56.0.2 127.0.0.1");

        let asker = UdpSocket::bind("127.0.0.1:0").unwrap();
        asker.send_to(b"?", (own, 5353)).unwrap();
        let mut buffer = [0; 64];
        let length = asker.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"127.56.0.2 127.0.0.1");

        drop(backend);
        assert!(TcpStream::connect((own, 8080)).is_err());
    }
}
