//! A stand-in for a database: it speaks as much of MySQL's protocol as a client needs to log in and ask, and answers
//! whatever it is asked with which pod this is.
//!
//! A packet is its length in three bytes, its number in the exchange, and its content. The layouts are those of the protocol
//! that MySQL documents as 4.1 and greets with version 10.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use super::identity::{Identity, plain};
use super::server::{self, Connection};

const PORT: u16 = 3306;

/// What both sides must know: 4.1 layouts, long passwords, a database at login, authentication by a named method.
const CAPABILITIES: u32 = 0x0000_0200 | 0x0000_0001 | 0x0000_0008 | 0x0000_8000 | 0x0008_0000;
/// utf8mb4_general_ci.
const CHARACTER_SET: u8 = 45;
/// SERVER_STATUS_AUTOCOMMIT.
const STATUS: [u8; 2] = [2, 0];
const OK: [u8; 7] = [0, 0, 0, STATUS[0], STATUS[1], 0, 0];
const END_OF_ROWS: [u8; 5] = [0xfe, 0, 0, STATUS[0], STATUS[1]];

const QUIT: u8 = 0x01;
const QUERY: u8 = 0x03;

/// `mysql`: on port 3306, until SIGTERM.
pub(super) fn main() -> io::Result<()> {
    let identity = Identity::of_this_process();
    server::serve(&[PORT], move |connection| talk(connection, &identity))
}

fn talk(connection: &Connection, identity: &Identity) -> io::Result<()> {
    let client = plain(connection.stream.peer_addr()?);
    write(connection, 0, &greeting(identity))?;
    // Whoever it is, with whatever password.
    let (number, _) = read(connection)?;
    write(connection, number + 1, &OK)?;
    loop {
        connection.set_busy(false);
        let (number, packet) = read(connection)?;
        connection.set_busy(true);
        match packet.first() {
            None | Some(&QUIT) => return Ok(()),
            Some(&QUERY) => {
                for (packet, number) in answer(identity, client).iter().zip(number + 1..) {
                    write(connection, number, packet)?;
                }
            }
            Some(_) => write(connection, number + 1, &OK)?,
        }
    }
}

/// What the server says first: its version, where we put who this is, and half of a challenge that nobody looks at.
fn greeting(identity: &Identity) -> Vec<u8> {
    let [low0, low1, high0, high1] = CAPABILITIES.to_le_bytes();
    let mut packet = vec![10];
    packet.extend(format!("8.0.0-switchyard pod {} on {}\0", identity.pod, identity.node).bytes());
    packet.extend(1_u32.to_le_bytes());
    packet.extend(*b"switchya\0");
    packet.extend([low0, low1, CHARACTER_SET, STATUS[0], STATUS[1], high0, high1, 21]);
    packet.extend([0; 10]);
    packet.extend(*b"rd-challenge\0");
    packet.extend(*b"mysql_native_password\0");
    packet
}

/// A table of one row.
fn answer(identity: &Identity, client: SocketAddr) -> Vec<Vec<u8>> {
    let client = client.to_string();
    let row = [("pod", identity.pod.as_str()), ("node", identity.node.as_str()), ("client", client.as_str())];
    let mut packets = vec![vec![row.len() as u8]];
    packets.extend(row.map(|(name, _)| column(name)));
    packets.push(END_OF_ROWS.to_vec());
    packets.push(row.iter().flat_map(|(_, value)| string(value)).collect());
    packets.push(END_OF_ROWS.to_vec());
    packets
}

/// The definition of a column of text.
fn column(name: &str) -> Vec<u8> {
    const VAR_STRING: u8 = 0xfd;
    let mut packet = Vec::new();
    for part in ["def", "", "", "", name, name] {
        packet.extend(string(part));
    }
    packet.extend([12, CHARACTER_SET, 0, 0, 1, 0, 0, VAR_STRING, 0, 0, 0, 0, 0]);
    packet
}

/// A string after its length, which is one byte up to 250.
fn string(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(250)];
    [&[text.len() as u8], text].concat()
}

fn write(connection: &Connection, number: u8, content: &[u8]) -> io::Result<()> {
    let [first, second, third, ..] = content.len().to_le_bytes();
    (&connection.stream).write_all(&[&[first, second, third, number], content].concat())
}

/// A packet and its number; an empty one when the client has closed.
fn read(connection: &Connection) -> io::Result<(u8, Vec<u8>)> {
    const PACKET_MAX: usize = 1 << 20;
    let mut head = [0; 4];
    match (&connection.stream).read_exact(&mut head) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok((0, Vec::new())),
        other => other?,
    }
    let [first, second, third, number] = head;
    let length = u32::from_le_bytes([first, second, third, 0]) as usize;
    if length > PACKET_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut packet = vec![0; length];
    (&connection.stream).read_exact(&mut packet)?;
    Ok((number, packet))
}
