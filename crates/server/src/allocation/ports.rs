//! Node ports: a port is taken by writing the entry of its number, which must not be there yet. All protocols share the
//! numbers.

use std::ops::RangeInclusive;

use serde_json::json;

use crate::store::{Key, Snapshot, Write};

/// Why a port that somebody asked for is not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Taken,
    OutOfRange(RangeInclusive<u16>),
}

impl Refusal {
    pub fn text(&self) -> String {
        match self {
            Refusal::Taken => "provided port is already allocated".to_owned(),
            Refusal::OutOfRange(range) => {
                let (first, last) = (range.start(), range.end());
                format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")
            }
        }
    }
}

pub fn key(port: u16) -> Key {
    Key::object("allocations", "nodeports", "", &port.to_string())
}

pub fn entry(port: u16, namespace: &str, service: &str) -> Write {
    let value = json!({"namespace": namespace, "name": service});
    Write { key: key(port), value: Some(value.to_string().into()) }
}

/// The ports of one request: those that are there, and those that it has taken so far.
#[derive(Debug)]
pub struct Ports<'a> {
    snapshot: &'a Snapshot,
    range: RangeInclusive<u16>,
    pub taken: Vec<u16>,
    random: u64,
}

impl<'a> Ports<'a> {
    pub fn new(snapshot: &'a Snapshot, range: RangeInclusive<u16>, random: u64) -> Ports<'a> {
        Ports { snapshot, range, taken: Vec::new(), random }
    }

    /// Takes a port that was asked for.
    pub fn take(&mut self, port: i64) -> Result<(), Refusal> {
        let Some(port) = u16::try_from(port).ok().filter(|port| self.range.contains(port)) else {
            return Err(Refusal::OutOfRange(self.range.clone()));
        };
        if !self.is_free(port) {
            return Err(Refusal::Taken);
        }
        self.taken.push(port);
        Ok(())
    }

    /// Takes any free port, those at the beginning of the range last: they are left for those who ask for one.
    pub fn take_any(&mut self) -> Option<u16> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let size = last - first + 1;
        let offset = if size <= 16 { 0 } else { (size / 32).clamp(16, 128) };
        let bands = [(first + offset, size - offset), (first, offset)];
        let found = bands.into_iter().filter(|(_, count)| *count > 0).find_map(|(first, count)| {
            let start = (self.random % u64::from(count)) as u16;
            (0..count).map(|step| first + (start + step) % count).find(|port| self.is_free(*port))
        })?;
        self.taken.push(found);
        Some(found)
    }

    fn is_free(&self, port: u16) -> bool {
        !self.taken.contains(&port) && self.snapshot.get(&key(port)).is_none()
    }
}
