//! The types of the API: their fields, how they merge, and their numbers on the wire.
//!
//! One table ([`types`]) is behind everything that has to know what an object may hold: decoding bodies, strategic merge
//! patches, and the documents that kubectl reads. It is facts only, in a notation of our own.

mod check;
mod decode;
mod duplicates;
pub mod openapi;
mod protobuf;
mod quantity;
pub mod types;

pub use decode::{check_patched, decode, decode_delete_options, of_kind};
