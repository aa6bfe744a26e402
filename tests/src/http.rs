//! One HTTP request, as a load balancer's health check or a scraper sends it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

const PATIENCE: Duration = Duration::from_secs(2);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The head, from the status line on.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Gets `path` from a port of 127.0.0.1 in the calling thread's network namespace.
///
/// # Errors
/// When nobody listens, or what comes is no HTTP.
pub fn get(port: u16, path: &str) -> Result<Reply> {
    request(port, "GET", path, "")
}

/// Any request, likewise.
///
/// # Errors
/// When nobody listens, or what comes is no HTTP.
pub fn request(port: u16, method: &str, path: &str, body: &str) -> Result<Reply> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("connecting to 127.0.0.1:{port}"))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = "Host: localhost\r\nConnection: close\r\n";
    let request = format!("{method} {path} HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{body}");
    connection.write_all(request.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| anyhow!("no HTTP: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| anyhow!("no status line: {head:?}"))?;
    Ok(Reply { status, head: head.to_owned(), body: body.to_owned() })
}
