//! Messages between processes of one machine that carry open files along.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Open files in one message. The kernel takes 253 (SCM_MAX_FD).
pub const FILES_MAX: usize = 200;

/// The other side may be of another version, or no friend: more than any message of ours is refused, in bytes.
const LENGTH_MAX: usize = 16 << 20;

/// What arrived.
#[derive(Debug)]
pub struct Message {
    pub bytes: Vec<u8>,
    /// In the order in which they were sent. No program that is started gets them.
    pub files: Vec<OwnedFd>,
}

/// Sends a message: its length in four bytes, to which the files are tied, then the bytes.
///
/// # Errors
/// When the other side is gone, does not read within the socket's limit, or the message is too large.
pub fn send(mut socket: &UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.len() > LENGTH_MAX || files.len() > FILES_MAX {
        let what = format!("a message of {} bytes and {} files is too large", bytes.len(), files.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    let sent = sendmsg(socket, &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL)?;
    socket.write_all(&length[sent..])?;
    socket.write_all(bytes)
}

/// Receives a message; `None` once the other side has closed.
///
/// # Errors
/// When the other side closes within a message, does not send within the socket's limit, or sends something else.
pub fn receive(mut socket: &UnixStream) -> io::Result<Option<Message>> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    if received == 0 {
        return Ok(None);
    }
    let mut files = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            files.extend(received);
        }
    }
    socket.read_exact(&mut length[received..])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LENGTH_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "that is no message of ours"));
    }
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes)?;
    Ok(Some(Message { bytes, files }))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_message_brings_its_files_and_the_next_one_brings_its_own() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut first, first_end) = io::pipe().unwrap();
        let (mut second, second_end) = io::pipe().unwrap();
        send(&here, b"two", &[first_end.as_fd(), second_end.as_fd()]).unwrap();
        send(&here, b"", &[]).unwrap();
        drop((here, first_end, second_end));

        let message = receive(&there).unwrap().unwrap();
        assert_eq!(message.bytes, b"two");
        let mut files = message.files.into_iter().map(std::fs::File::from);
        files.next().unwrap().write_all(b"1").unwrap();
        files.next().unwrap().write_all(b"2").unwrap();
        drop(files);
        let mut read = String::new();
        first.read_to_string(&mut read).unwrap();
        second.read_to_string(&mut read).unwrap();
        assert_eq!(read, "12");

        let message = receive(&there).unwrap().unwrap();
        assert!(message.bytes.is_empty() && message.files.is_empty());
        assert!(receive(&there).unwrap().is_none());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(receive(&there).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
