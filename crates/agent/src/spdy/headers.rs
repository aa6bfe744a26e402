//! Names and values of a stream, compressed. All of one direction are one stream of zlib, in the order of their frames.

use bytes::{Buf, BufMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;
use super::dictionary::DICTIONARY;

/// Names are of small letters.
pub(crate) type Headers = Vec<(String, String)>;

/// More than headers of port-forward ever have; what decompresses to more is no honest block.
const MOST_BYTES: usize = 64 << 10;

pub(super) struct Compressor(Compress);

impl Compressor {
    pub(super) fn new() -> Result<Compressor, SpdyError> {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(&DICTIONARY).map_err(|error| SpdyError::Headers(error.to_string()))?;
        Ok(Compressor(compress))
    }

    pub(super) fn block(&mut self, headers: &Headers) -> Result<Vec<u8>, SpdyError> {
        let mut plain = Vec::new();
        plain.put_u32(length(headers.len())?);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(length(text.len())?);
            plain.put_slice(text.as_bytes());
        }
        let mut block = Vec::new();
        let begun = self.0.total_in();
        loop {
            block.reserve(plain.len().max(64));
            let taken = usize::try_from(self.0.total_in() - begun).unwrap_or_default();
            let rest = plain.get(taken..).unwrap_or_default();
            let status = self.0.compress_vec(rest, &mut block, FlushCompress::Sync);
            status.map_err(|error| SpdyError::Headers(error.to_string()))?;
            // With room left, all of it has been flushed.
            if block.len() < block.capacity() {
                return Ok(block);
            }
        }
    }
}

fn length(length: usize) -> Result<u32, SpdyError> {
    u32::try_from(length).map_err(|_| SpdyError::Long(length))
}

pub(super) struct Decompressor(Decompress);

impl Decompressor {
    pub(super) fn new() -> Decompressor {
        Decompressor(Decompress::new(true))
    }

    pub(super) fn headers(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let plain = self.decompress(block)?;
        read(&plain).ok_or_else(|| SpdyError::Headers("they end too early".to_owned()))
    }

    fn decompress(&mut self, block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let wrong = |cause: String| SpdyError::Headers(cause);
        let mut plain = Vec::new();
        let begun = self.0.total_in();
        loop {
            plain.reserve(1024);
            let taken = usize::try_from(self.0.total_in() - begun).unwrap_or_default();
            let rest = block.get(taken..).unwrap_or_default();
            match self.0.decompress_vec(rest, &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Ok(plain),
                Ok(_) if plain.len() > MOST_BYTES => return Err(wrong("they are too long".to_owned())),
                Ok(_) if plain.len() < plain.capacity() => return Ok(plain),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|error| wrong(error.to_string()))?;
                }
                Err(error) => return Err(wrong(error.to_string())),
            }
        }
    }
}

/// `None` if there is less than it says.
fn read(mut bytes: &[u8]) -> Option<Headers> {
    let count = bytes.try_get_u32().ok()?;
    let mut text = || {
        let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
        let text = String::from_utf8_lossy(bytes.get(..length)?).into_owned();
        bytes.advance(length);
        Some(text)
    };
    let mut headers = Headers::new();
    for _ in 0..count {
        headers.push((text()?, text()?));
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn blocks_are_read_in_the_order_in_which_they_were_written() {
        let (mut compressor, mut decompressor) = (Compressor::new().unwrap(), Decompressor::new());
        let long = "x".repeat(5000);
        for block in [
            headers(&[("streamtype", "error"), ("port", "80"), ("requestid", "0")]),
            headers(&[]),
            headers(&[("streamtype", "data"), ("port", &long)]),
        ] {
            let bytes = compressor.block(&block).unwrap();
            assert_eq!(decompressor.headers(&bytes).unwrap(), block);
        }
    }

    #[test]
    fn a_stream_begins_by_naming_the_dictionary() {
        let block = Compressor::new().unwrap().block(&headers(&[])).unwrap();
        assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for bytes in [&b"nonsense"[..], &[]] {
            assert!(Decompressor::new().headers(bytes).is_err(), "{bytes:?}");
        }
        // It says that there is one, and there is none.
        assert_eq!(read(&[0, 0, 0, 1]), None);
        assert_eq!(read(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0]), None);
    }
}
