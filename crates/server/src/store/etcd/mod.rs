//! etcd, for clusters that outgrow one machine: several API servers may share it.
//!
//! Our store is etcd's model with one difference. There, others may write beside us, and their commits raise the revision
//! as ours do: so the feed follows every key and tells of foreign commits as empty ones. Spoken to is the JSON gateway,
//! which takes the same messages as gRPC: keys and values in base64, 64-bit numbers as text.

mod client;
mod feed;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Batch, BoxFuture, CommitError, Entry, Feed, Key, Revision, Store, StoreError};
use client::Client;

/// How an etcd is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// `http://` or `https://`; tried in turn when one cannot be reached.
    pub urls: Vec<String>,
    /// In PEM, what certificates are trusted by; nothing without it.
    pub authority: Option<PathBuf>,
    /// Certificate and key, in PEM.
    pub client: Option<(PathBuf, PathBuf)>,
    /// What all keys begin with.
    pub prefix: String,
}

/// A store that is an etcd, of which others may be clients, too.
pub struct Etcd {
    client: Arc<Client>,
    keys: Keys,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Entries that are read at a time.
const PAGE: usize = 1000;
/// etcd's answer to a compaction of what is compacted already, and to a read of it.
const COMPACTED: &str = "required revision has been compacted";

impl Etcd {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// When a file cannot be read, or a URL is none.
    pub fn new(settings: &EtcdSettings) -> Result<Etcd, StoreError> {
        Ok(Etcd { client: Arc::new(Client::new(settings)?), keys: Keys::new(&settings.prefix) })
    }

    async fn read_all(&self) -> Result<(Revision, Vec<Entry>), StoreError> {
        let doing = "reading everything in etcd";
        let (mut from, end) = self.keys.all();
        let mut revision = 0;
        let mut entries = Vec::new();
        loop {
            let request = json!({
                "key": encode(&from), "range_end": encode(&end), "limit": PAGE.to_string(),
                // All pages are of the first one's revision.
                "revision": revision.to_string(),
            });
            let answer = self.client.call(doing, "/v3/kv/range", &request).await?;
            if revision == 0 {
                revision = revision_of(&answer);
            }
            let page = answer.get("kvs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            for pair in page {
                entries.extend(self.keys.entry(pair));
            }
            let Some(last) = page.last().filter(|_| answer.get("more") == Some(&Value::Bool(true))) else {
                return Ok((revision, entries));
            };
            // The smallest key after the last one.
            from = bytes(last, "key");
            from.push(0);
        }
    }

    fn transaction(&self, batch: &Batch) -> Value {
        // etcd refuses two writes of one key; the last one is what would count.
        let writes: BTreeMap<&Key, &Option<Bytes>> =
            batch.writes.iter().map(|write| (&write.key, &write.value)).collect();
        let compares = batch.expectations.iter().map(|expectation| {
            let revision = expectation.revision.unwrap_or_default().to_string();
            json!({"target": "MOD", "result": "EQUAL", "key": self.keys.stored(&expectation.key), "mod_revision": revision})
        });
        let operations = writes.into_iter().map(|(key, value)| match value {
            Some(value) => json!({"request_put": {"key": self.keys.stored(key), "value": encode(value)}}),
            None => json!({"request_delete_range": {"key": self.keys.stored(key)}}),
        });
        // What is there instead says which expectation is wrong.
        let reads = batch.expectations.iter().map(|expectation| {
            json!({"request_range": {"key": self.keys.stored(&expectation.key), "keys_only": true}})
        });
        json!({
            "compare": compares.collect::<Vec<_>>(),
            "success": operations.collect::<Vec<_>>(),
            "failure": reads.collect::<Vec<_>>(),
        })
    }

    /// The first key that is not as it should be.
    fn unexpected(batch: &Batch, answer: &Value) -> Option<Key> {
        let answers = answer.get("responses").and_then(Value::as_array).into_iter().flatten();
        let mut found = batch.expectations.iter().zip(answers).filter(|(expectation, answer)| {
            let now = answer.pointer("/response_range/kvs/0").map(|pair| number(pair, "mod_revision"));
            now != expectation.revision
        });
        found.next().map(|(expectation, _)| expectation.key.clone())
    }
}

impl Store for Etcd {
    fn follow(&self) -> BoxFuture<'_, Result<Feed, StoreError>> {
        Box::pin(async move {
            let (revision, entries) = self.read_all().await?;
            let commits = feed::start(self.client.clone(), self.keys.clone(), revision).await?;
            Ok(Feed { revision, entries, commits })
        })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            let request = self.transaction(&batch);
            let answer = self.client.call("writing to etcd", "/v3/kv/txn", &request).await?;
            if answer.get("succeeded") == Some(&Value::Bool(true)) {
                return Ok(revision_of(&answer));
            }
            let key = Etcd::unexpected(&batch, &answer);
            // It may be as expected again by now: the caller looks anew in either case.
            let first = || batch.expectations.first().map(|expectation| expectation.key.clone());
            match key.or_else(first) {
                Some(key) => Err(CommitError::Unexpected { key }),
                None => Err(StoreError {
                    doing: "writing to etcd".to_owned(),
                    cause: format!("it refused a transaction without conditions: {answer}"),
                }
                .into()),
            }
        })
    }

    fn latest(&self) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            // Any read says where etcd is, agreed on by most of its members; this one finds nothing.
            let request = json!({"key": encode(b"\0"), "count_only": true});
            let answer = self.client.call("asking etcd for its revision", "/v3/kv/range", &request).await?;
            Ok(revision_of(&answer))
        })
    }

    fn compact(&self, up_to: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let request = json!({"revision": up_to.to_string()});
            match self.client.call("compacting etcd", "/v3/kv/compaction", &request).await {
                // Another server was faster.
                Err(error) if error.cause.contains(COMPACTED) => Ok(()),
                compacted => compacted.map(drop),
            }
        })
    }
}

/// Our keys and etcd's, which begin with a prefix.
#[derive(Debug, Clone)]
struct Keys {
    prefix: String,
}

impl Keys {
    fn new(prefix: &str) -> Keys {
        Keys { prefix: format!("/{}", prefix.trim_matches('/')) }
    }

    /// In base64.
    fn stored(&self, key: &Key) -> String {
        let own = key.as_str().strip_prefix(Key::ROOT).unwrap_or(key.as_str());
        encode(format!("{}/{own}", self.prefix).as_bytes())
    }

    /// `None` for a key of somebody else's.
    fn own(&self, stored: &[u8]) -> Option<Key> {
        let own = std::str::from_utf8(stored).ok()?.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        Some(Key::from_stored(&format!("{}{own}", Key::ROOT)))
    }

    /// The first key, and the one after the last: what follows a slash is a zero.
    fn all(&self) -> (Vec<u8>, Vec<u8>) {
        (format!("{}/", self.prefix).into_bytes(), format!("{}0", self.prefix).into_bytes())
    }

    fn entry(&self, pair: &Value) -> Option<Entry> {
        Some(Entry {
            key: self.own(&bytes(pair, "key"))?,
            value: bytes(pair, "value").into(),
            revision: number(pair, "mod_revision"),
        })
    }
}

fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A field in base64; the gateway leaves out what is empty.
fn bytes(message: &Value, field: &str) -> Vec<u8> {
    let text = message.get(field).and_then(Value::as_str).unwrap_or_default();
    STANDARD.decode(text).unwrap_or_default()
}

/// A 64-bit number, which the gateway writes as text and leaves out when it is zero.
fn number(message: &Value, field: &str) -> u64 {
    message.get(field).and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn revision_of(answer: &Value) -> Revision {
    answer.get("header").map(|header| number(header, "revision")).unwrap_or_default()
}
