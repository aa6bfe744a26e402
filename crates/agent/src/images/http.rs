//! As much of HTTP/1.1 as clients of a small server need: kept connections, and bodies that are read and forgotten.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use super::identity::plain;
use super::server::{self, Connection};

/// A request's line and headers, in bytes.
const HEAD_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// For a client that keeps its connection to come back.
const IDLE: Duration = Duration::from_secs(120);

/// What a client asks for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// With its query.
    pub(super) path: String,
    pub(super) host: String,
    pub(super) wants_json: bool,
    /// Who asks, and the address that was asked.
    pub(super) client: SocketAddr,
    pub(super) own: SocketAddr,
    /// What of the body is to come.
    body: u64,
    /// Whether the client will ask again over this connection.
    keeps: bool,
}

pub(super) struct Response {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

impl Response {
    pub(super) fn text(status: u16, body: impl Into<String>) -> Response {
        Response { status, kind: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// Answers requests until SIGTERM.
pub(super) fn serve(
    ports: &[u16],
    answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> io::Result<()> {
    server::serve(ports, move |connection| {
        connection.stream.set_nodelay(true)?;
        connection.stream.set_read_timeout(Some(IDLE))?;
        let mut read = Vec::new();
        loop {
            let request = match next(connection, &mut read)? {
                Next::Request(request) => request,
                Next::End => return Ok(()),
                Next::Nonsense(response) => return write(connection, &response, false, false),
            };
            let keeps = request.keeps && !connection.is_last();
            write(connection, &answer(&request), keeps, request.method == "HEAD")?;
            connection.set_busy(false);
            if !keeps {
                return Ok(());
            }
        }
    })
}

enum Next {
    Request(Request),
    /// The client has closed.
    End,
    Nonsense(Response),
}

/// Reads up to the end of the next request; `read` is what was read beyond the one before.
fn next(connection: &Connection, read: &mut Vec<u8>) -> io::Result<Next> {
    let mut stream = &connection.stream;
    let mut buffer = [0; 4096];
    loop {
        if !read.is_empty() {
            connection.set_busy(true);
            match parse(connection, read) {
                Ok(Some((mut request, length))) => {
                    read.drain(..length);
                    discard_body(connection, &mut request, read)?;
                    return Ok(Next::Request(request));
                }
                Ok(None) if read.len() <= HEAD_MAX => {}
                Ok(None) => return Ok(Next::Nonsense(Response::text(431, "that is too long\n"))),
                Err(error) => return Ok(Next::Nonsense(Response::text(400, format!("{error}\n")))),
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(Next::End),
            length => read.extend_from_slice(&buffer[..length]),
        }
    }
}

/// The request that the bytes begin with, and the length of its head; `None` if that is not all there yet.
fn parse(connection: &Connection, bytes: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let header = |name: &str| {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).to_ascii_lowercase()).unwrap_or_default()
    };
    let connection_header = header("connection");
    let kept_by_default = head.version == Some(1);
    let chunked = !header("transfer-encoding").is_empty();
    let keeps = match kept_by_default {
        true => !connection_header.contains("close"),
        false => connection_header.contains("keep-alive"),
    };
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: head.path.unwrap_or_default().to_owned(),
        host: header("host"),
        wants_json: header("accept").contains("application/json"),
        client: plain(connection.stream.peer_addr()?),
        own: plain(connection.stream.local_addr()?),
        body: header("content-length").trim().parse().unwrap_or(0),
        // Where a body in chunks ends is not looked for.
        keeps: keeps && !chunked,
    };
    Ok(Some((request, length)))
}

fn discard_body(connection: &Connection, request: &mut Request, read: &mut Vec<u8>) -> io::Result<()> {
    let here = request.body.min(read.len() as u64);
    read.drain(..usize::try_from(here).unwrap_or(read.len()));
    io::copy(&mut (&connection.stream).take(request.body - here), &mut io::sink()).map(drop)
}

fn write(connection: &Connection, response: &Response, keeps: bool, head_only: bool) -> io::Result<()> {
    let reason = match response.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    };
    let mut text = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {}\r\n\r\n",
        response.status,
        response.kind,
        response.body.len(),
        if keeps { "keep-alive" } else { "close" },
    );
    if !head_only {
        text.push_str(&response.body);
    }
    (&connection.stream).write_all(text.as_bytes())
}
