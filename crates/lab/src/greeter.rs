//! A pod's web server for people: says which pod answered, and whom it saw asking.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// A client that says nothing must not keep the others waiting for long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers HTTP on `address` in the calling thread's network namespace, for the rest of the process's life.
///
/// # Errors
/// When the address is taken or not there.
pub fn start(pod: String, address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    thread::Builder::new().name(format!("greeter {pod}")).spawn(move || {
        for connection in listener.incoming().flatten() {
            // A client that went away is its own affair.
            let _ = greet(&pod, &connection);
        }
    })?;
    Ok(())
}

fn greet(pod: &str, mut connection: &TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    // Read to the blank line: an answer to an unread request would be cut off by a reset.
    let mut request = BufReader::new(connection).lines();
    while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let (own, peer) = (connection.local_addr()?, connection.peer_addr()?);
    let body = format!("I am pod {pod} at {own}. I see you as {}.\n", peer.ip());
    write!(connection, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
