//! Output of containers, read from the files that the runtime writes.

mod entry;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::mpsc;

use super::answer::{Body, Refusal};
use super::route::LogOptions;
use crate::core::Core;
use crate::runtime::{Container, Run, State};
use entry::Filter;

/// Blocks that may wait for the client.
const WAITING: usize = 16;
/// How much is gathered before it is sent.
const BLOCK: usize = 16 << 10;
/// How often to look whether the container still runs, and the client still listens, while nothing is written.
const LOOK: Duration = Duration::from_millis(500);

/// What a log is read for.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) core: Arc<Core>,
    pub(super) uid: String,
    pub(super) container: String,
    /// The run that wrote it, if it is the newest one.
    pub(super) run: Option<Container>,
}

pub(super) async fn answer(
    core: &Arc<Core>,
    pod: &Pod,
    container: &str,
    run: Option<Container>,
    options: LogOptions,
) -> Result<Response<Body>, Refusal> {
    let uid = pod.uid().unwrap_or_default();
    let which = if options.previous { Run::Previous } else { Run::Newest };
    let path = core.runtime.log(&uid, container, which);
    if options.previous && !path.exists() {
        let message =
            format!("previous terminated container {container:?} in pod {:?} not found", pod.name_any());
        return Err(Refusal::bad_request(message));
    }
    if !options.previous && run.is_none() {
        let message = format!(
            "container {container:?} in pod {:?} is waiting to start: {}",
            pod.name_any(),
            waiting_reason(pod, container)
        );
        return Err(Refusal::bad_request(message));
    }
    let source = Source { core: core.clone(), uid, container: container.to_owned(), run };
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = source.send(&path, &options, &sender) {
            tracing::warn!(path = %path.display(), %error, "reading a log");
        }
    });
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let block: Bytes = receiver.recv().await?;
        Some((Ok(Frame::data(block)), receiver))
    });
    let mut response = Response::new(StreamBody::new(frames.boxed()).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn waiting_reason(pod: &Pod, container: &str) -> String {
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    let waiting = all
        .filter(|status| status.name == container)
        .find_map(|status| status.state.as_ref()?.waiting.clone());
    waiting.and_then(|waiting| waiting.reason).unwrap_or_else(|| "ContainerCreating".to_owned())
}

impl Source {
    /// Sends what is asked for; blocks, and ends when the client has gone.
    pub(super) fn send(
        &self,
        path: &Path,
        options: &LogOptions,
        client: &mpsc::Sender<Bytes>,
    ) -> io::Result<()> {
        let file = match File::open(path) {
            // It has written nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !options.follow => return Ok(()),
            other => other?,
        };
        let mut lines = Lines { reader: BufReader::new(file), rest: Vec::new() };
        if let Some(count) = options.tail_lines {
            lines.skip_to_last(count)?;
        }
        let mut output = Output { client, block: Vec::new(), left: options.limit_bytes };
        let mut filter = Filter::new(options);
        let changes = options.follow.then(|| Changes::of(path)).transpose()?;
        loop {
            // Whether it still runs is asked before the rest is read: what it writes last is not missed then.
            let is_last = changes.is_none() || !self.is_running();
            while let Some(line) = lines.next()? {
                if filter.take(&line, &mut output.block) && !output.send_if_full() {
                    return Ok(());
                }
            }
            if !output.send() || is_last {
                return Ok(());
            }
            if let Some(changes) = &changes {
                changes.wait(LOOK);
            }
            if client.is_closed() {
                return Ok(());
            }
        }
    }

    fn is_running(&self) -> bool {
        self.state() == Some(State::Running)
    }

    /// How the run ended, if that is known.
    pub(super) fn exit_code(&self) -> Option<i32> {
        match self.state() {
            Some(State::Ended(end)) => Some(end.exit_code),
            _ => None,
        }
    }

    /// What became of the run. `None` if there has been another one since.
    fn state(&self) -> Option<State> {
        let containers = self.core.runtime.containers(&self.uid).unwrap_or_default();
        let mut newest = containers.into_iter().filter(|container| container.name == self.container);
        let started = self.run.as_ref().map(|run| run.started);
        newest.find(|container| Some(container.started) == started).map(|container| container.state)
    }
}

/// Lines of a file that still grows: the last one counts once it has ended.
struct Lines {
    reader: BufReader<File>,
    rest: Vec<u8>,
}

impl Lines {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.reader.read_until(b'\n', &mut self.rest)?;
        match self.rest.ends_with(b"\n") {
            true => Ok(Some(std::mem::take(&mut self.rest))),
            false => Ok(None),
        }
    }

    /// Goes to where the last lines of the container begin. All of the file is read for that, which takes a second for a
    /// gigabyte.
    fn skip_to_last(&mut self, count: usize) -> io::Result<()> {
        let mut starts = VecDeque::from([0]);
        let mut end = 0;
        while let Some(line) = self.next()? {
            end += line.len() as u64;
            if entry::ends_line(&line) {
                starts.push_back(end);
            }
            if starts.len() > count.saturating_add(1) {
                starts.pop_front();
            }
        }
        self.rest.clear();
        self.reader.seek(SeekFrom::Start(starts.front().copied().unwrap_or(end)))?;
        Ok(())
    }
}

struct Output<'a> {
    client: &'a mpsc::Sender<Bytes>,
    block: Vec<u8>,
    /// Bytes that may still be sent.
    left: Option<usize>,
}

impl Output<'_> {
    /// False when no more is wanted.
    fn send_if_full(&mut self) -> bool {
        let is_enough = self.left.is_some_and(|left| self.block.len() >= left);
        if self.block.len() < BLOCK && !is_enough {
            return true;
        }
        self.send() && !is_enough
    }

    fn send(&mut self) -> bool {
        if let Some(left) = &mut self.left {
            self.block.truncate(*left);
            *left = left.saturating_sub(self.block.len());
        }
        if self.block.is_empty() {
            return self.left != Some(0);
        }
        let block = Bytes::from(std::mem::take(&mut self.block));
        self.client.blocking_send(block).is_ok() && self.left != Some(0)
    }
}

/// Tells when a file has grown.
struct Changes(Inotify);

impl Changes {
    fn of(path: &Path) -> io::Result<Changes> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(path, AddWatchFlags::IN_MODIFY)?;
        Ok(Changes(inotify))
    }

    fn wait(&self, limit: Duration) {
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        // However it ends, the file is looked at next.
        let _ = poll(&mut fds, limit);
        let _ = self.0.read_events();
    }
}

#[cfg(test)]
mod tests;
