//! A small API server on loopback that can be told to fail in every way a real one does.
#![allow(dead_code)] // Each test file uses its own part.

pub(crate) mod answer;
pub(crate) mod api_server;
pub(crate) mod world;
