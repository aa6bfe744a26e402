//! What the fake API server answers to one request.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::world::{Change, World};

/// How the server misbehaves. `Option`s and counts are used up.
#[derive(Default, Clone)]
pub(crate) struct Faults {
    /// Ends each of the next connections after as many bytes of its body.
    pub(crate) cuts: Vec<usize>,
    /// The state that the next listing shows; what came later follows as events.
    pub(crate) list_at: Option<u64>,
    /// Streamed lists are refused, as by servers before 1.32.
    pub(crate) no_streamed_lists: bool,
    /// Streamed lists are taken for plain watches, as by servers that never heard of them.
    pub(crate) ignore_streamed_lists: bool,
    /// A watch from a compacted revision is told so by an event; else by the status of the answer.
    pub(crate) gone_as_event: bool,
    /// Every event is sent twice, and every pair of events in the wrong order.
    pub(crate) shuffle: bool,
    /// Collections that do not exist.
    pub(crate) absent: Vec<String>,
    /// Objects per page of a list, whatever is asked for.
    pub(crate) page: Option<usize>,
}

pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) method: String,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

pub(crate) enum Answer {
    Whole {
        status: u16,
        body: String,
    },
    /// The body so far, and the revision after which changes follow.
    Stream {
        body: String,
        after: u64,
    },
}

pub(crate) fn answer(world: &World, faults: &mut Faults, request: &Request) -> Answer {
    if request.method == "POST" {
        return Answer::Whole { status: 201, body: request.body.clone() };
    }
    if faults.absent.contains(&request.path) {
        return refusal(404, "the server could not find the requested resource");
    }
    if request.parameter("watch") != "true" {
        return list(world, faults, request);
    }
    if request.parameter("sendInitialEvents") == "true" {
        if faults.no_streamed_lists {
            return refusal(422, "sendInitialEvents is forbidden for watch");
        }
        let revision = faults.list_at.take().unwrap_or(world.revision());
        let objects = world.list(&request.path, revision);
        let mut body: String = objects.iter().map(|object| line("ADDED", object)).collect();
        if !faults.ignore_streamed_lists {
            body += &bookmark(revision);
        }
        return Answer::Stream { body, after: revision };
    }
    let after: u64 = request.parameter("resourceVersion").parse().unwrap_or_default();
    if after < world.compacted {
        if !faults.gone_as_event {
            return refusal(410, "too old resource version");
        }
        return Answer::Stream {
            body: line("ERROR", &status(410, "too old resource version")),
            after: u64::MAX,
        };
    }
    Answer::Stream { body: String::new(), after }
}

/// All that a streamed list sends if it shows the state at a revision first.
pub(crate) fn stream_from(world: &World, collection: &str, revision: u64) -> String {
    let initial = world.list(collection, revision);
    let initial: String = initial.iter().map(|object| line("ADDED", object)).collect();
    initial + &bookmark(revision) + &lines(&world.changes_after(collection, revision), &Faults::default())
}

/// The lines for some changes, in the order in which a faulty server sends them.
pub(crate) fn lines(changes: &[Change], faults: &Faults) -> String {
    let lines: Vec<String> = changes.iter().map(|change| line(change.event, &change.object)).collect();
    if !faults.shuffle {
        return lines.concat();
    }
    let pairs = lines.chunks(2).map(|pair| pair.iter().rev().chain(pair).cloned().collect::<String>());
    pairs.collect()
}

fn list(world: &World, faults: &mut Faults, request: &Request) -> Answer {
    // The token is the revision of the first page and the number of items that were sent.
    let token = request.parameter("continue").split_once('+');
    let token =
        token.map(|(revision, sent)| (revision.parse::<u64>().unwrap(), sent.parse::<usize>().unwrap()));
    if token.is_some_and(|(revision, _)| revision < world.compacted) {
        return refusal(410, "the provided continue parameter is too old");
    }
    let (revision, sent) = token.unwrap_or_else(|| (faults.list_at.take().unwrap_or(world.revision()), 0));
    let objects = world.list(&request.path, revision);
    let page = faults.page.unwrap_or(usize::MAX).min(objects.len() - sent);
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if sent + page < objects.len() {
        metadata["continue"] = format!("{revision}+{}", sent + page).into();
    }
    let items = &objects[sent..sent + page];
    Answer::Whole {
        status: 200,
        body: json!({"kind": "List", "metadata": metadata, "items": items}).to_string(),
    }
}

fn line(event: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": event, "object": object}))
}

fn bookmark(revision: u64) -> String {
    let annotations = json!({"k8s.io/initial-events-end": "true"});
    let metadata = json!({"resourceVersion": revision.to_string(), "annotations": annotations});
    line("BOOKMARK", &json!({"metadata": metadata}))
}

fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": code})
}

fn refusal(code: u16, message: &str) -> Answer {
    Answer::Whole { status: code, body: status(code, message).to_string() }
}
