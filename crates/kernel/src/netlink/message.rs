//! The wire format: a header, netfilter's own small header, and attributes that may hold attributes.

use thiserror::Error;

const HEADER_LENGTH: usize = 16;
const NETFILTER_HEADER_LENGTH: usize = 4;
const ATTRIBUTE_HEADER_LENGTH: usize = 4;
const NESTED: u16 = 0x8000;
/// The two flag bits of an attribute's type are not part of its number.
const TYPE_MASK: u16 = 0x3fff;

pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACKNOWLEDGE: u16 = 0x4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const CREATE: u16 = 0x400;
/// The table changed while it was dumped, so that entries may be missing or double.
pub(super) const INTERRUPTED: u16 = 0x10;

/// Something is shorter than its length says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the kernel's message is cut short")]
pub struct Truncated;

/// The part of a message's header that readers look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Subsystem in the high byte, operation in the low one; below 16 a control message of netlink itself.
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
}

/// One received message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub header: Header,
    /// Everything after the netlink header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The address family in netfilter's header.
    pub fn family(&self) -> Option<u8> {
        self.payload.first().copied()
    }

    /// The attributes that follow netfilter's header.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(NETFILTER_HEADER_LENGTH..).unwrap_or_default())
    }
}

/// Takes a buffer of one or more messages apart. Ends at the first one that does not add up.
#[derive(Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = split_message(&mut self.0);
        if message.is_none() {
            self.0 = &[];
        }
        Some(message.ok_or(Truncated))
    }
}

fn split_message<'a>(buffer: &mut &'a [u8]) -> Option<Message<'a>> {
    let length = u32::from_ne_bytes(field(buffer, 0)?) as usize;
    if length < HEADER_LENGTH || length > buffer.len() {
        return None;
    }
    let header = Header {
        kind: u16::from_ne_bytes(field(buffer, 4)?),
        flags: u16::from_ne_bytes(field(buffer, 6)?),
        sequence: u32::from_ne_bytes(field(buffer, 8)?),
    };
    let payload = &buffer[HEADER_LENGTH..length];
    *buffer = &buffer[length.next_multiple_of(4).min(buffer.len())..];
    Some(Message { header, payload })
}

/// `N` bytes at an offset.
pub(super) fn field<const N: usize>(buffer: &[u8], at: usize) -> Option<[u8; N]> {
    buffer.get(at..at + N)?.try_into().ok()
}

/// A list of attributes.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

/// One attribute: its number and what it holds.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    pub kind: u16,
    pub value: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16::from_ne_bytes(field(self.0, 0)?));
        let kind = u16::from_ne_bytes(field(self.0, 2)?) & TYPE_MASK;
        let value = self.0.get(ATTRIBUTE_HEADER_LENGTH..length)?;
        self.0 = &self.0[length.next_multiple_of(4).min(self.0.len())..];
        Some(Attribute { kind, value })
    }
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute with this number.
    pub fn get(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|attribute| attribute.kind == kind).map(|attribute| attribute.value)
    }

    pub fn nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.get(kind).map(Attributes)
    }

    pub fn u8(self, kind: u16) -> Option<u8> {
        self.get(kind)?.first().copied()
    }

    /// Netfilter's numbers are big-endian.
    pub fn be16(self, kind: u16) -> Option<u16> {
        field(self.get(kind)?, 0).map(u16::from_be_bytes)
    }

    pub fn be32(self, kind: u16) -> Option<u32> {
        field(self.get(kind)?, 0).map(u32::from_be_bytes)
    }

    pub fn be64(self, kind: u16) -> Option<u64> {
        field(self.get(kind)?, 0).map(u64::from_be_bytes)
    }

    /// A string that ends with a zero byte, or with the attribute.
    pub fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(&bytes[..end]).ok()
    }
}

/// Writes one message.
#[derive(Debug)]
pub struct MessageBuilder {
    bytes: Vec<u8>,
}

impl MessageBuilder {
    /// A netfilter message with its flags besides REQUEST. `family` is an address family of the kernel (2, 10), or 0.
    pub fn new(subsystem: u8, operation: u8, flags: u16, family: u8) -> MessageBuilder {
        let kind = u16::from(subsystem) << 8 | u16::from(operation);
        let mut bytes = vec![0; HEADER_LENGTH];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend([family, 0, 0, 0]);
        MessageBuilder { bytes }
    }

    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> MessageBuilder {
        self.push(kind, value);
        self
    }

    /// A string with the zero byte that the kernel expects at its end.
    #[must_use]
    pub fn text(self, kind: u16, text: &str) -> MessageBuilder {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.attribute(kind, &value)
    }

    #[must_use]
    pub fn nested(
        mut self,
        kind: u16,
        fill: impl FnOnce(MessageBuilder) -> MessageBuilder,
    ) -> MessageBuilder {
        let start = self.bytes.len();
        self.push(kind | NESTED, &[]);
        let mut filled = fill(self);
        // The kernel refuses attributes over 64 KiB; nothing here comes near, and a cut length would be an error.
        let length = u16::try_from(filled.bytes.len() - start).unwrap_or(u16::MAX);
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// The finished message.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    fn push(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(ATTRIBUTE_HEADER_LENGTH + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let builder = MessageBuilder::new(subsystem(), 3, DUMP, 2)
            .text(1, "name")
            .nested(2, |inner| inner.attribute(7, &443u16.to_be_bytes()).attribute(8, &[6]));
        let bytes = builder.finish(9);
        let message = Messages(&bytes).next().unwrap().unwrap();
        assert_eq!(message.header, Header { kind: 0x0103, flags: DUMP | REQUEST, sequence: 9 });
        assert_eq!(message.family(), Some(2));
        assert_eq!(message.attributes().text(1), Some("name"));
        let inner = message.attributes().nested(2).unwrap();
        assert_eq!((inner.be16(7), inner.u8(8), inner.u8(9)), (Some(443), Some(6), None));
    }

    fn subsystem() -> u8 {
        super::super::subsystem::CONNTRACK
    }

    #[test]
    fn a_message_longer_than_its_buffer_is_refused() {
        let mut bytes = MessageBuilder::new(1, 1, 0, 2).finish(1);
        bytes[0] = 200;
        assert!(matches!(Messages(&bytes).next(), Some(Err(Truncated))));
        assert_eq!(Messages(&bytes[..7]).count(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_run_on(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            for message in Messages(&bytes).take(1_000).flatten() {
                let attributes = message.attributes();
                attributes.take(1_000).for_each(|attribute| {
                    Attributes(attribute.value).count();
                });
                let _ = (attributes.be64(1), attributes.text(2), message.family());
            }
        }
    }
}
