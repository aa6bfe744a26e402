//! Watches: a stream of events, one JSON object a line.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use http::StatusCode;
use jiff::Timestamp;
use rand::Rng;
use tokio::time::Instant;

use super::Handlers;
use super::clients::Place;
use super::options::{Begin, Wanted, WatchOptions};
use super::view::{View, Watched};
use crate::selectors::Selectors;
use crate::status::ApiError;
use crate::store::{Cache, CachedObject, Event, Key, Revision, Snapshot, Watch, WatchError, WatchItem};

/// How often a quiet watch says up to where it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long watches live that do not say; spread, so that not all clients come back at once.
const LIFE_SECONDS: std::ops::RangeInclusive<u64> = 1800..=3600;
/// How much of the initial state is sent at a time, in bytes.
const CHUNK: usize = 64 * 1024;

/// What a watch needs besides its options.
pub(super) struct Subject {
    pub(super) view: View,
    pub(super) selectors: Selectors,
    /// What the watched keys begin with.
    pub(super) prefix: String,
    /// The client may have so many watches; this one counts until it ends.
    pub(super) _place: Place,
}

impl Handlers {
    /// Begins a watch. What goes wrong later is told in the stream.
    pub(super) async fn watch(
        &self,
        subject: Subject,
        options: WatchOptions,
    ) -> Result<impl Stream<Item = Bytes> + Send + use<>, ApiError> {
        let stage = match options.begin {
            Begin::State(wanted) => {
                let snapshot = match wanted {
                    Wanted::Exactly(revision) => self.snapshot(Wanted::AtLeast(revision)).await?,
                    wanted => self.snapshot(wanted).await?,
                };
                Stage::State { snapshot, after: None }
            }
            Begin::After(Some(revision)) => Stage::Begin { after: revision },
            Begin::After(None) => Stage::Begin { after: self.snapshot(Wanted::Latest).await?.revision() },
        };
        let life = options.timeout_seconds.unwrap_or_else(|| rand::rng().random_range(LIFE_SECONDS));
        let now = Instant::now();
        let stream = WatchStream {
            cache: self.cache.clone(),
            subject,
            options,
            stage,
            come_to: 0,
            is_first: true,
            next_bookmark: now + BOOKMARK_EVERY,
            // A life too long to tell the end of is cut to a year.
            end: now + Duration::from_secs(life.min(31_536_000)),
        };
        Ok(futures_util::stream::unfold(stream, |mut stream| async move {
            let chunk = stream.next().await?;
            Some((chunk, stream))
        }))
    }
}

enum Stage {
    /// Sends the objects there are, those after a key.
    State {
        snapshot: Snapshot,
        after: Option<Key>,
    },
    /// Is about to follow what comes after a revision.
    Begin {
        after: Revision,
    },
    Follow {
        watch: Watch,
    },
    Ended,
}

struct WatchStream {
    cache: Arc<Cache>,
    subject: Subject,
    options: WatchOptions,
    stage: Stage,
    /// The revision up to which everything has been sent.
    come_to: Revision,
    /// Nothing has been sent: a table has to name its columns.
    is_first: bool,
    next_bookmark: Instant,
    end: Instant,
}

impl WatchStream {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match &mut self.stage {
                Stage::Ended => return None,
                Stage::State { .. } => {
                    if let Some(lines) = self.next_of_state() {
                        return Some(lines);
                    }
                }
                Stage::Begin { after } => {
                    let after = *after;
                    // Not before the client has taken the state: it may be slow, and the history is longer than a buffer.
                    match self.cache.watch(self.subject.prefix.clone(), after) {
                        Ok(watch) => {
                            self.come_to = after;
                            self.stage = Stage::Follow { watch };
                        }
                        Err(error) => {
                            self.stage = Stage::Ended;
                            return Some(too_old(after, error));
                        }
                    }
                }
                Stage::Follow { watch } => {
                    let item = tokio::select! {
                        item = watch.next() => item,
                        () = tokio::time::sleep_until(self.next_bookmark.min(self.end)) => {
                            if self.end <= Instant::now() {
                                self.stage = Stage::Ended;
                            }
                            self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                            match self.options.bookmarks {
                                true => return Some(self.bookmark(false)),
                                false => continue,
                            }
                        }
                    };
                    match item {
                        Ok(WatchItem::Event(event)) => {
                            self.come_to = self.come_to.max(event.revision);
                            if let Some(line) = self.line(&event) {
                                return Some(line);
                            }
                        }
                        Ok(WatchItem::Progress(revision)) => self.come_to = self.come_to.max(revision),
                        Err(error) => {
                            // The client comes back from where it was.
                            tracing::debug!(prefix = self.subject.prefix, %error, "ended a watch");
                            self.stage = Stage::Ended;
                        }
                    }
                }
            }
        }
    }

    /// More of the initial state; `None` when there is none to tell.
    fn next_of_state(&mut self) -> Option<Bytes> {
        let Stage::State { snapshot, after } = &mut self.stage else { return None };
        let now = Timestamp::now();
        let view = &self.subject.view;
        let mut lines = BytesMut::new();
        let mut last = None;
        for cached in snapshot.range(&self.subject.prefix, after.as_ref()) {
            last = Some(cached.key.clone());
            if self.subject.selectors.matches(cached) {
                let object = view.event_object(&Watched::Cached(cached), self.is_first, now);
                put_line(&mut lines, "ADDED", &object);
                self.is_first = false;
            }
            if lines.len() >= CHUNK {
                break;
            }
        }
        if lines.len() >= CHUNK {
            *after = last;
            return Some(lines.freeze());
        }
        self.come_to = snapshot.revision();
        self.stage = Stage::Begin { after: self.come_to };
        if self.options.marks_initial_end {
            lines.extend_from_slice(&self.bookmark(true));
        }
        (!lines.is_empty()).then(|| lines.freeze())
    }

    /// An event as this watch sees it: what begins to match is added, what ceases to is deleted.
    fn line(&mut self, event: &Event) -> Option<Bytes> {
        let selects = |object: &&Arc<CachedObject>| self.subject.selectors.matches(object);
        let before = event.before.as_ref().filter(selects);
        let after = event.after.as_ref().filter(selects);
        let (kind, object) = match (before, after) {
            (None, None) => return None,
            (None, Some(after)) => ("ADDED", Watched::Cached(after)),
            (Some(_), Some(after)) => ("MODIFIED", Watched::Cached(after)),
            (Some(before), None) => {
                let mut last = self.subject.view.object(before);
                last.set(&["metadata", "resourceVersion"], event.revision.to_string());
                ("DELETED", Watched::Changed(last))
            }
        };
        let object = self.subject.view.event_object(&object, self.is_first, Timestamp::now());
        self.is_first = false;
        Some(line(kind, &object))
    }

    fn bookmark(&mut self, ends_initial: bool) -> Bytes {
        let object = self.subject.view.bookmark(self.come_to, ends_initial, self.is_first);
        self.is_first = false;
        line("BOOKMARK", &object)
    }
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len().saturating_add(40));
    put_line(&mut line, kind, object);
    line.freeze()
}

fn put_line(lines: &mut BytesMut, kind: &str, object: &[u8]) {
    lines.put_slice(b"{\"type\":\"");
    lines.put_slice(kind.as_bytes());
    lines.put_slice(b"\",\"object\":");
    lines.put_slice(object);
    lines.put_slice(b"}\n");
}

/// The client has to list anew.
fn too_old(revision: Revision, error: WatchError) -> Bytes {
    let error = match error {
        WatchError::TooOld { oldest } => {
            ApiError::expired(format!("too old resource version: {revision} ({oldest})"))
        }
        error => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string()),
    };
    line("ERROR", error.to_json().to_string().as_bytes())
}
