//! The same answer over TCP and over UDP: who this is, whom it sees, and what was said.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::thread;

use super::identity::{Identity, plain};
use super::{port, server};

/// The largest datagram there is, in bytes.
const DATAGRAM_MAX: usize = 65_507;

/// `tcp-udp-echo [PORT]`: a line over TCP is answered with a line, a datagram with a datagram.
pub(super) fn main(arguments: &[String]) -> io::Result<()> {
    let port = port(arguments, 8080)?;
    let identity = Identity::of_this_process();
    let for_datagrams = identity.clone();
    answer_datagrams(port, move |client, said| answer(&for_datagrams, client, said))?;
    server::serve(&[port], move |connection| {
        let client = plain(connection.stream.peer_addr()?);
        for line in BufReader::new(&connection.stream).lines() {
            connection.set_busy(true);
            (&connection.stream).write_all(answer(&identity, client, &line?).as_bytes())?;
            connection.set_busy(false);
        }
        Ok(())
    })
}

fn answer(identity: &Identity, client: SocketAddr, said: &str) -> String {
    format!("{} on {} to {client}: {said}\n", identity.pod, identity.node)
}

/// Answers datagrams on a thread, for the rest of the process's life.
pub(super) fn answer_datagrams(
    port: u16,
    answer: impl Fn(SocketAddr, &str) -> String + Send + 'static,
) -> io::Result<()> {
    let socket = server::datagram_socket(port)?;
    thread::Builder::new().spawn(move || {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            // An error is that of an earlier answer which nobody took.
            let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
            let said = String::from_utf8_lossy(&buffer[..length]);
            let _ = socket.send_to(answer(plain(client), said.trim_end()).as_bytes(), client);
        }
    })?;
    Ok(())
}
