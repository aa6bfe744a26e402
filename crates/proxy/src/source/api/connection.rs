//! Drives one [`Machine`]: sends its requests, feeds it the answers, waits where it has to.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::sync::mpsc;

use super::backoff::{Backoff, random};
use super::decode;
use super::framing::{Line, Lines, ListItems};
use super::machine::{Failure, Machine};
use super::request::Request;
use super::{ApiSourceSettings, log_failure};
use crate::client::{ApiClient, RequestError};
use crate::klog_info;
use crate::source::{Kind, ReaderGone, Update, send};

/// Without a byte of a paged list for this long, the connection is taken to be dead.
const PAGE_SILENCE: Duration = Duration::from_secs(60);
/// A watch that ends sooner than this is treated as a failure, or it might be reopened in a busy loop.
const SHORT_WATCH: Duration = Duration::from_secs(1);

pub(super) struct Watch {
    pub(super) client: ApiClient,
    pub(super) kind: Kind,
    pub(super) node_name: String,
    pub(super) settings: ApiSourceSettings,
    pub(super) updates: mpsc::Sender<Update>,
}

/// How an answer ended.
enum End {
    /// The next request follows at once.
    Complete,
    Failed(Failure),
    ReaderGone,
}

impl From<ReaderGone> for End {
    fn from(_: ReaderGone) -> End {
        End::ReaderGone
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failed(failure)
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Failure {
        match error {
            RequestError::Status { code, message } => Failure::Status { code, message },
            other => Failure::Connection(other.to_string()),
        }
    }
}

impl Watch {
    pub(super) async fn run(self) {
        let mut machine = Machine::new(self.kind);
        let mut backoff = Backoff::new(self.settings.backoff);
        let mut failing = false;
        loop {
            let request = machine.next_request();
            let failure = match self.exchange(&mut machine, &request, &mut failing).await {
                End::ReaderGone => return,
                End::Complete => continue,
                End::Failed(failure) => failure,
            };
            match self.handle(&mut machine, &failure).await {
                Err(ReaderGone) => return,
                Ok(true) => {
                    klog_info!(
                        v = 2,
                        "The API server does not stream lists, listing by pages",
                        kind = self.kind.as_str(),
                        reason = failure.to_string(),
                    );
                    continue;
                }
                Ok(false) => failing = true,
            }
            let delay = backoff.delay(Instant::now(), random());
            if !machine.is_absent(&failure) {
                log_failure(self.kind, self.client.host(), &failure, delay);
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// Tells the machine about a failure; true if it knows another request to try at once.
    async fn handle(&self, machine: &mut Machine, failure: &Failure) -> Result<bool, ReaderGone> {
        let streamed = machine.streams_lists();
        let mut updates = Vec::new();
        machine.failed(failure, &mut updates);
        self.deliver(&mut updates).await?;
        Ok(streamed && !machine.streams_lists())
    }

    async fn exchange(&self, machine: &mut Machine, request: &Request, failing: &mut bool) -> End {
        // 300 to 600 s, as client-go chooses.
        let timeout_seconds = 300 + (random() * 300.0) as u64;
        let uri = request.uri(self.kind, &self.node_name, timeout_seconds);
        let body = match self.client.get(&uri).await {
            Ok(response) => Answer::new(response, self),
            Err(error) => return Failure::from(error).into(),
        };
        if std::mem::take(failing) {
            klog_info!(v = 2, "The API server answers again", kind = self.kind.as_str());
        }
        let result = if request.is_watch() {
            self.read_watch(machine, body).await
        } else {
            self.read_page(machine, body).await
        };
        result.err().unwrap_or(End::Complete)
    }

    async fn read_page(&self, machine: &mut Machine, mut body: Answer<'_>) -> Result<(), End> {
        let mut items = ListItems::default();
        let mut updates = Vec::new();
        while let Some(chunk) = body.chunk(PAGE_SILENCE).await? {
            let mut result = Ok(());
            let framed = items.push(&chunk, |item| {
                if result.is_ok() {
                    result = machine.item(item, &mut updates);
                }
            });
            self.deliver(&mut updates).await?;
            result?;
            framed.map_err(unreadable)?;
        }
        let metadata = items.finish().map_err(unreadable)?;
        let metadata = decode::list_metadata(&metadata).map_err(unreadable)?;
        machine.page_end(metadata, &mut updates);
        Ok(self.deliver(&mut updates).await?)
    }

    async fn read_watch(&self, machine: &mut Machine, mut body: Answer<'_>) -> Result<(), End> {
        let started = Instant::now();
        let mut lines = Lines::default();
        let mut updates = Vec::new();
        loop {
            let settings = &self.settings;
            let silence =
                if machine.is_listing() { settings.listing_silence } else { settings.watch_silence };
            let chunk = match body.chunk(silence).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                // A watch that worked until now is worth no delay; if the server is gone the next request shows it.
                Err(_) if !machine.is_listing() && started.elapsed() > SHORT_WATCH => return Ok(()),
                Err(failure) => return Err(failure.into()),
            };
            let result = lines.push(&chunk, |line| match line {
                Line::Text(text) => machine.line(text, &mut updates),
                Line::TooLong => {
                    updates.push(machine.too_long());
                    Ok(())
                }
            });
            self.deliver(&mut updates).await?;
            result?;
        }
        if machine.is_listing() {
            return Err(
                Failure::Connection("the stream ended before the initial objects did".to_owned()).into()
            );
        }
        if started.elapsed() < SHORT_WATCH {
            return Err(Failure::Connection("the server closed the watch at once".to_owned()).into());
        }
        Ok(())
    }

    async fn deliver(&self, updates: &mut Vec<Update>) -> Result<(), ReaderGone> {
        for update in updates.drain(..) {
            send(&self.updates, update).await?;
        }
        Ok(())
    }
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::Unreadable(error.to_string())
}

/// The body of an answer, counted.
struct Answer<'a> {
    body: Body,
    bytes: u64,
    client: &'a ApiClient,
}

impl<'a> Answer<'a> {
    fn new(response: Response<Body>, watch: &'a Watch) -> Answer<'a> {
        Answer { body: response.into_body(), bytes: 0, client: &watch.client }
    }

    /// The next bytes; `None` at the end.
    async fn chunk(&mut self, silence: Duration) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = match tokio::time::timeout(silence, self.body.frame()).await {
                Err(_) => return Err(Failure::Silent),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Failure::Connection(error.to_string())),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(data) = frame.into_data() {
                self.bytes += data.len() as u64;
                return Ok(Some(data));
            }
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.client.answer_sized(self.bytes);
    }
}
