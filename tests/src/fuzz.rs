//! Requests that nobody would send: ones that make sense, spoilt in many ways.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::random::Random;

/// Bytes that end a token, a line, a head or a text, and numbers and words that mean something to a reader of such requests.
const WORDS: [&[u8]; 30] = [
    b"\0",
    b"\r\n",
    b"\r\n\r\n",
    b"%00",
    b"%2f",
    b"%",
    b"..",
    b"/",
    b"//",
    b"?",
    b"&",
    b"=",
    b"{",
    b"[",
    b"\"",
    b"\\ud800",
    b"\xff",
    b"-1",
    b"18446744073709551616",
    b"1e999",
    b"null",
    b"limit=-1",
    b"watch=true",
    b"dryRun=All",
    b"resourceVersion=x",
    b"continue=abc",
    b"Transfer-Encoding: chunked",
    b"Content-Length: 99999999999",
    b"$patch",
    b"k8s\0",
];

/// What a field could hold that its reader does not expect.
const VALUES: [&str; 22] = [
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "2147483648",
    "9223372036854775808",
    "1e300",
    "\"\"",
    "\"a\"",
    "\"\\u0000\"",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "{\"\": {}}",
    "{\"$patch\": \"replace\"}",
    "{\"$patch\": \"delete\"}",
    "{\"$retainKeys\": [\"x\"]}",
    "[{\"$patch\": \"delete\", \"name\": \"a\"}]",
    "\"9999999999999999999999999999Ei\"",
    "\"0001-01-01T00:00:00Z\"",
];

/// Fields that change how their neighbours are read.
const FIELDS: [&str; 10] = [
    "$patch",
    "$retainKeys",
    "$setElementOrder/ports",
    "$deleteFromPrimitiveList/finalizers",
    "metadata",
    "spec",
    "name",
    "ports",
    "ownerReferences",
    "deletionTimestamp",
];

/// Deeper than any reader follows.
const DEEP: usize = 3_000;

/// A request in parts, so that each can be spoilt by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method, path and version.
    pub line: Vec<u8>,
    /// Without the length, which follows from the body.
    pub headers: Vec<u8>,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a request as the files of the corpus hold it: its head with `\n` line ends, an empty line, the body.
    ///
    /// # Errors
    /// If there is no empty line.
    pub fn parse(text: &[u8]) -> Result<Request> {
        let end = text.windows(2).position(|two| two == b"\n\n").context("no empty line after the head")?;
        let (head, body) = (&text[..end], &text[end + 2..]);
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let headers = head.get(line.len() + 1..).unwrap_or_default();
        Ok(Request { line: line.to_vec(), headers: headers.to_vec(), body: body.to_vec() })
    }

    /// The same, to keep it.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = [&self.line[..], b"\n", &self.headers].concat();
        while text.last() == Some(&b'\n') {
            text.pop();
        }
        [&text[..], b"\n\n", &self.body].concat()
    }

    /// What goes over the connection, from somebody who may do everything. The connection ends with it.
    #[must_use]
    pub fn to_wire(&self, token: &str) -> Vec<u8> {
        let mut wire = [&self.line[..], b"\r\n"].concat();
        for header in self.headers.split(|byte| *byte == b'\n').filter(|header| !header.is_empty()) {
            wire.extend_from_slice(header);
            wire.extend_from_slice(b"\r\n");
        }
        let length = self.body.len();
        let ours = format!(
            "Host: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        wire.extend_from_slice(ours.as_bytes());
        wire.extend_from_slice(&self.body);
        wire
    }

    /// Spoils one thing or a few.
    #[must_use]
    pub fn spoilt(&self, others: &[Request], random: &mut Random) -> Request {
        let mut spoilt = self.clone();
        for _ in 0..=random.below(3) {
            match random.below(10) {
                0 => spoil_bytes(&mut spoilt.line, random),
                1 => spoil_bytes(&mut spoilt.headers, random),
                2 | 3 => spoil_bytes(&mut spoilt.body, random),
                4 => spoilt.line.clone_from(&random.choose(others).line),
                5 => spoilt.body.clone_from(&random.choose(others).body),
                _ => spoil_json(&mut spoilt.body, others, random),
            }
        }
        spoilt
    }
}

fn spoil_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len() as u64 + 1) as usize;
    let end = at + random.below((bytes.len() - at).min(40) as u64 + 1) as usize;
    match random.below(4) {
        0 => drop(bytes.drain(at..end)),
        1 => drop(bytes.splice(at..at, random.choose(&WORDS).iter().copied())),
        2 => bytes.extend_from_within(at..end),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

fn spoil_json(body: &mut Vec<u8>, others: &[Request], random: &mut Random) {
    if random.once_in(50) {
        *body = [b"[".repeat(DEEP), b"]".repeat(DEEP)].concat();
        return;
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else { return };
    let new = if random.once_in(3) {
        let other = serde_json::from_slice(&random.choose(others).body).unwrap_or(Value::Null);
        part_of(&other, random).clone()
    } else {
        serde_json::from_str(random.choose(&VALUES)).unwrap_or(Value::Null)
    };
    let part = part_of_mut(&mut value, random);
    match part {
        Value::Object(fields) if random.once_in(2) => {
            drop(fields.insert(random.choose(&FIELDS).to_owned(), new));
        }
        Value::Array(elements) if random.once_in(2) => elements.push(new),
        part => *part = new,
    }
    *body = value.to_string().into_bytes();
}

/// Itself or anything inside it.
fn part_of<'a>(value: &'a Value, random: &mut Random) -> &'a Value {
    let parts: Vec<&Value> = match value {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(elements) => elements.iter().collect(),
        _ => Vec::new(),
    };
    if parts.is_empty() || random.once_in(4) { value } else { part_of(random.choose(&parts), random) }
}

fn part_of_mut<'a>(value: &'a mut Value, random: &mut Random) -> &'a mut Value {
    let count = match value {
        Value::Object(fields) => fields.len(),
        Value::Array(elements) => elements.len(),
        _ => 0,
    };
    if count == 0 || random.once_in(4) {
        return value;
    }
    let chosen = random.below(count as u64) as usize;
    match value {
        Value::Object(fields) => {
            let key = fields.keys().nth(chosen).cloned().unwrap_or_default();
            part_of_mut(&mut fields[key.as_str()], random)
        }
        Value::Array(elements) => part_of_mut(&mut elements[chosen], random),
        other => other,
    }
}

/// The folder of requests to start from, and of those that once broke something.
#[must_use]
pub fn corpus_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases/fuzz")
}

/// All of them, by name.
///
/// # Errors
/// If one cannot be read, or there is none.
pub fn corpus() -> Result<Vec<(String, Request)>> {
    let mut found = Vec::new();
    for file in fs::read_dir(corpus_folder())? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "http") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let request =
                Request::parse(&fs::read(&path)?).with_context(|| format!("in {}", path.display()))?;
            found.push((name, request));
        }
    }
    ensure!(!found.is_empty(), "no request in {}", corpus_folder().display());
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_kept_as_it_was_read() {
        let text = b"GET /api HTTP/1.1\nAccept: a\nB: c\n\nbody\n\nmore\n";
        let request = Request::parse(text).unwrap();
        assert_eq!(
            (&request.line[..], &request.body[..]),
            (&b"GET /api HTTP/1.1"[..], &b"body\n\nmore\n"[..])
        );
        assert_eq!(request.to_text(), text);
        let wire = String::from_utf8(request.to_wire("t")).unwrap();
        assert!(wire.starts_with("GET /api HTTP/1.1\r\nAccept: a\r\nB: c\r\nHost: "), "{wire}");
        assert!(wire.ends_with("Content-Length: 11\r\n\r\nbody\n\nmore\n"), "{wire}");
    }

    #[test]
    fn a_seed_spoils_in_one_way_and_most_seeds_in_another() {
        let others: Vec<Request> = corpus().unwrap().into_iter().map(|(_, request)| request).collect();
        let spoilt = |seed| others[0].spoilt(&others, &mut Random::new(seed));
        assert_eq!(spoilt(1), spoilt(1));
        let changed = (0..100).filter(|seed| spoilt(*seed) != others[0]).count();
        assert!(changed > 90, "{changed}");
    }
}
