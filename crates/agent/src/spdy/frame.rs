//! Frames, from bytes and to bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::headers::{Compressor, Decompressor};
use super::{Headers, SpdyError};

const VERSION: u16 = 3;
const HEAD: usize = 8;
const CONTROL: u16 = 0x8000;
/// The sender has nothing more to say on the stream.
const FIN: u8 = 1;
/// Clients write 32 KiB at most.
const MOST_BYTES: usize = 1 << 20;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;

/// Streams are known by a number: those of the client have odd ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A new stream.
    SynStream {
        stream: u32,
        headers: Headers,
        is_last: bool,
    },
    /// The answer to a new stream.
    SynReply {
        stream: u32,
        headers: Headers,
    },
    Data {
        stream: u32,
        bytes: Bytes,
        is_last: bool,
    },
    /// A stream is given up.
    RstStream {
        stream: u32,
        status: u32,
    },
    /// To be answered with the same.
    Ping(u32),
    /// No new streams are wanted.
    GoAway {
        last_stream: u32,
    },
    /// Known to the protocol, and without meaning here.
    Other,
}

/// Makes frames from bytes, as they come.
pub(crate) struct Decoder {
    bytes: BytesMut,
    headers: Decompressor,
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder { bytes: BytesMut::new(), headers: Decompressor::new() }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, as soon as all of it is there.
    ///
    /// # Errors
    /// When the bytes are no SPDY; the connection is of no use then.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        let mut head = self.bytes.get(..HEAD).unwrap_or_default();
        let Ok(first) = head.try_get_u32() else { return Ok(None) };
        let flags_and_length = head.get_u32();
        let length = (flags_and_length & 0x00ff_ffff) as usize;
        if length > MOST_BYTES {
            return Err(SpdyError::Long(length));
        }
        if self.bytes.len() < HEAD + length {
            return Ok(None);
        }
        self.bytes.advance(HEAD);
        let body = self.bytes.split_to(length).freeze();
        let is_last = flags_and_length >> 24 & u32::from(FIN) != 0;
        let (high, low) = ((first >> 16) as u16, first as u16);
        if high & CONTROL == 0 {
            return Ok(Some(Frame::Data { stream: first, bytes: body, is_last }));
        }
        match high & !CONTROL {
            VERSION => self.control(low, is_last, body).map(Some),
            other => Err(SpdyError::Version(other)),
        }
    }

    fn control(&mut self, kind: u16, is_last: bool, mut body: Bytes) -> Result<Frame, SpdyError> {
        let length = body.len();
        let short = move |_| SpdyError::Short { kind, length };
        let mut number = || body.try_get_u32().map(|number| number & 0x7fff_ffff).map_err(short);
        Ok(match kind {
            SYN_STREAM => {
                let stream = number()?;
                // The stream it belongs to, its priority and a slot for credentials: unused.
                number()?;
                body.try_get_u16().map_err(short)?;
                Frame::SynStream { stream, headers: self.headers.headers(&body)?, is_last }
            }
            SYN_REPLY => {
                let stream = number()?;
                Frame::SynReply { stream, headers: self.headers.headers(&body)? }
            }
            RST_STREAM => Frame::RstStream { stream: number()?, status: number()? },
            PING => Frame::Ping(body.try_get_u32().map_err(short)?),
            GO_AWAY => Frame::GoAway { last_stream: number()? },
            _ => Frame::Other,
        })
    }
}

/// Makes bytes from frames.
pub(crate) struct Encoder {
    headers: Compressor,
}

impl Encoder {
    /// # Errors
    /// When there is no memory for the compression.
    pub(crate) fn new() -> Result<Encoder, SpdyError> {
        Ok(Encoder { headers: Compressor::new()? })
    }

    /// # Errors
    /// When headers are longer than the protocol can say.
    pub(crate) fn encode(&mut self, frame: &Frame) -> Result<Bytes, SpdyError> {
        let mut body = BytesMut::new();
        let (kind, is_last) = match frame {
            Frame::Data { stream, bytes, is_last } => return data(*stream, bytes, *is_last),
            Frame::SynStream { stream, headers, is_last } => {
                body.put_u32(*stream);
                body.put_u32(0);
                body.put_u16(0);
                body.put_slice(&self.headers.block(headers)?);
                (SYN_STREAM, *is_last)
            }
            Frame::SynReply { stream, headers } => {
                body.put_u32(*stream);
                body.put_slice(&self.headers.block(headers)?);
                (SYN_REPLY, false)
            }
            Frame::RstStream { stream, status } => {
                body.put_u32(*stream);
                body.put_u32(*status);
                (RST_STREAM, false)
            }
            Frame::Ping(number) => {
                body.put_u32(*number);
                (PING, false)
            }
            Frame::GoAway { last_stream } => {
                body.put_u32(*last_stream);
                body.put_u32(0);
                (GO_AWAY, false)
            }
            Frame::Other => return Ok(Bytes::new()),
        };
        let mut bytes = BytesMut::new();
        bytes.put_u16(CONTROL | VERSION);
        bytes.put_u16(kind);
        bytes.put_u32(flags_and_length(is_last, body.len())?);
        bytes.unsplit(body);
        Ok(bytes.freeze())
    }
}

fn data(stream: u32, data: &Bytes, is_last: bool) -> Result<Bytes, SpdyError> {
    let mut bytes = BytesMut::with_capacity(HEAD + data.len());
    bytes.put_u32(stream);
    bytes.put_u32(flags_and_length(is_last, data.len())?);
    bytes.put_slice(data);
    Ok(bytes.freeze())
}

fn flags_and_length(is_last: bool, length: usize) -> Result<u32, SpdyError> {
    let bits = u32::try_from(length).ok().filter(|length| *length <= 0x00ff_ffff);
    let flags = if is_last { u32::from(FIN) << 24 } else { 0 };
    bits.map(|length| flags | length).ok_or(SpdyError::Long(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> Vec<Frame> {
        let headers: Headers = vec![("port".to_owned(), "80".to_owned())];
        vec![
            Frame::SynStream { stream: 1, headers: headers.clone(), is_last: true },
            Frame::SynReply { stream: 1, headers: Headers::new() },
            Frame::Data { stream: 3, bytes: Bytes::from_static(b"hello"), is_last: false },
            Frame::Data { stream: 3, bytes: Bytes::new(), is_last: true },
            Frame::RstStream { stream: 3, status: 5 },
            Frame::Ping(1),
            Frame::GoAway { last_stream: 3 },
            Frame::SynReply { stream: 3, headers },
        ]
    }

    #[test]
    fn frames_arrive_as_they_were_sent_in_whatever_pieces() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new());
        let bytes: Vec<u8> = frames().iter().flat_map(|frame| encoder.encode(frame).unwrap()).collect();
        let mut arrived = Vec::new();
        for piece in bytes.chunks(3) {
            decoder.add(piece);
            while let Some(frame) = decoder.next().unwrap() {
                arrived.push(frame);
            }
        }
        assert_eq!(arrived, frames());
    }

    /// Worked out by hand from the specification.
    #[test]
    fn the_layout_is_that_of_the_specification() {
        let mut encoder = Encoder::new().unwrap();
        assert_eq!(encoder.encode(&Frame::Ping(7)).unwrap()[..], [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
        let data = Frame::Data { stream: 5, bytes: Bytes::from_static(b"ab"), is_last: true };
        assert_eq!(encoder.encode(&data).unwrap()[..], [0, 0, 0, 5, 1, 0, 0, 2, b'a', b'b']);
        let reset = Frame::RstStream { stream: 5, status: 1 };
        assert_eq!(encoder.encode(&reset).unwrap()[..], [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 1]);
    }

    #[test]
    fn what_is_no_spdy_is_refused() {
        let decoded = |bytes: &[u8]| {
            let mut decoder = Decoder::new();
            decoder.add(bytes);
            decoder.next()
        };
        assert_eq!(decoded(&[0x80, 2, 0, 6, 0, 0, 0, 0]), Err(SpdyError::Version(2)));
        assert_eq!(decoded(&[0x80, 3, 0, 6, 0, 0, 0, 0]), Err(SpdyError::Short { kind: 6, length: 0 }));
        assert_eq!(decoded(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]), Err(SpdyError::Long(0x00ff_ffff)));
        assert_eq!(decoded(&[0x80, 3, 0, 9, 0, 0, 0, 0]), Ok(Some(Frame::Other)));
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_breaks_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::new();
            decoder.add(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
        }
    }
}
