//! The stream of commits.

use std::sync::Arc;

use http::Uri;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::client::Client;
use super::{Keys, bytes, encode, number};
use crate::store::{Committed, Revision, StoreError, Write};

const DOING: &str = "following etcd";
/// Commits that may wait to be taken; beyond that, etcd has to wait.
const BUFFER: usize = 1024;
/// A line is one message. etcd's own limit on a request is 1.5 MiB, and a message holds the events of several.
const MOST_LINE_BYTES: usize = 256 << 20;

pub(super) type Commits = mpsc::Receiver<Result<Committed, StoreError>>;

/// Every commit after a revision.
pub(super) async fn start(client: Arc<Client>, keys: Keys, after: Revision) -> Result<Commits, StoreError> {
    // From the first key to the last, so that no revision is missing, whoever raised it.
    let every = encode(b"\0");
    let from = after.saturating_add(1).to_string();
    let request = json!({"create_request": {"key": every, "range_end": every, "start_revision": from}});
    let (url, body) = client.stream(DOING, "/v3/watch", &request).await?;
    let mut messages = Messages { url, body, begun: Vec::new() };
    // The first message says that the watch stands, or why it does not.
    let created = messages.next().await?;
    check(&created, &messages.url)?;
    let (sender, commits) = mpsc::channel(BUFFER);
    tokio::spawn(async move {
        loop {
            let told = match messages.next().await.and_then(|message| {
                check(&message, &messages.url)?;
                Ok(commits_of(&message, &keys))
            }) {
                Ok(commits) => commits.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            for commit in told {
                let is_last = commit.is_err();
                if sender.send(commit).await.is_err() || is_last {
                    return;
                }
            }
        }
    });
    Ok(commits)
}

/// The messages of a stream, a line of JSON each.
struct Messages {
    url: Uri,
    body: Incoming,
    begun: Vec<u8>,
}

impl Messages {
    async fn next(&mut self) -> Result<Value, StoreError> {
        let failed = |url: &Uri, cause: &str| StoreError {
            doing: format!("{DOING} at {url}"),
            cause: cause.to_owned(),
        };
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let rest = self.begun.split_off(end.saturating_add(1));
                let line = std::mem::replace(&mut self.begun, rest);
                return serde_json::from_slice(&line).map_err(|error| failed(&self.url, &error.to_string()));
            }
            if self.begun.len() > MOST_LINE_BYTES {
                return Err(failed(&self.url, "a message is longer than any that etcd sends"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.begun.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(failed(&self.url, &error.to_string())),
                None => return Err(failed(&self.url, "the connection was closed")),
            }
        }
    }
}

/// Whether the stream goes on.
fn check(message: &Value, url: &Uri) -> Result<(), StoreError> {
    let failed = |cause: String| Err(StoreError { doing: format!("{DOING} at {url}"), cause });
    if let Some(error) = message.get("error") {
        return failed(
            error.get("message").and_then(Value::as_str).map_or_else(|| error.to_string(), str::to_owned),
        );
    }
    let result = message.get("result").unwrap_or(&Value::Null);
    if result.get("canceled") == Some(&Value::Bool(true)) {
        let reason = result.get("cancel_reason").and_then(Value::as_str).unwrap_or("etcd ended the watch");
        return match number(result, "compact_revision") {
            0 => failed(reason.to_owned()),
            oldest => failed(format!("its history begins at revision {oldest} only")),
        };
    }
    Ok(())
}

/// What a message tells: etcd never parts the events of one revision.
fn commits_of(message: &Value, keys: &Keys) -> Vec<Committed> {
    let events = message.pointer("/result/events").and_then(Value::as_array);
    let mut commits: Vec<Committed> = Vec::new();
    for event in events.into_iter().flatten() {
        let pair = event.get("kv").unwrap_or(&Value::Null);
        let revision = number(pair, "mod_revision");
        let is_deleted = event.get("type").is_some_and(|kind| kind == "DELETE");
        let write = keys.own(&bytes(pair, "key")).map(|key| {
            let value = (!is_deleted).then(|| bytes(pair, "value").into());
            Write { key, value }
        });
        match commits.last_mut() {
            Some(commit) if commit.revision == revision => commit.writes.extend(write),
            _ => commits.push(Committed { revision, writes: write.into_iter().collect() }),
        }
    }
    commits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Key;

    #[test]
    fn events_of_one_revision_are_one_commit_and_foreign_ones_are_empty() {
        let event = |kind: &str, key: &str, revision: &str| json!({"type": kind, "kv": {"key": encode(key.as_bytes()), "value": encode(b"1"), "mod_revision": revision}});
        let message = json!({"result": {"events": [
            event("PUT", "/registry/a", "5"), event("DELETE", "/registry/b", "5"), event("PUT", "/elsewhere", "6"),
        ]}});
        let key = |name: &str| Key::from_stored(&format!("/registry/{name}"));
        assert_eq!(
            commits_of(&message, &Keys::new("/registry")),
            [
                Committed {
                    revision: 5,
                    writes: vec![
                        Write { key: key("a"), value: Some("1".into()) },
                        Write { key: key("b"), value: None },
                    ],
                },
                Committed { revision: 6, writes: Vec::new() },
            ]
        );
    }

    #[test]
    fn a_watch_that_ends_says_why() {
        let url: Uri = "http://etcd:2379".parse().unwrap();
        let told = |message: Value| check(&message, &url).unwrap_err().to_string();
        assert_eq!(
            told(json!({"result": {"canceled": true, "compact_revision": "7"}})),
            "following etcd at http://etcd:2379/: its history begins at revision 7 only"
        );
        assert_eq!(
            told(json!({"error": {"message": "no leader"}})),
            "following etcd at http://etcd:2379/: no leader"
        );
    }
}
