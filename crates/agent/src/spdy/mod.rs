//! SPDY/3.1, as far as `kubectl port-forward` speaks it inside a WebSocket: frames and their compressed headers, nothing of
//! connections.
//!
//! The protocol is that of the draft `draft-mbelshe-httpbis-spdy-00`. Its flow control is left out, as it is by the one
//! library that clients of Kubernetes use (`moby/spdystream`): nobody sends or waits for window updates.

mod dictionary;
mod frame;
mod headers;

pub(crate) use frame::{Decoder, Encoder, Frame};
pub(crate) use headers::Headers;

use thiserror::Error;

/// Why bytes are no SPDY.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum SpdyError {
    #[error("SPDY version {0}; only 3 is spoken here")]
    Version(u16),
    #[error("a SPDY frame of type {kind} is {length} bytes long, which is too short")]
    Short { kind: u16, length: usize },
    #[error("a SPDY frame is {0} bytes long, which is too long")]
    Long(usize),
    #[error("headers of a SPDY stream cannot be read: {0}")]
    Headers(String),
}
