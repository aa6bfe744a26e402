//! A steady stream of requests from one place of a lab, each over a connection of its own, with what became of every one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use switchyard_kernel::namespace::NamespaceFile;

/// For a request; far more than one takes.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two requests: some hundred a second.
const PAUSE: Duration = Duration::from_millis(3);

/// One request, and which pod answered it.
#[derive(Debug)]
pub struct Asked {
    pub at: Instant,
    pub target: SocketAddr,
    /// The pod's name, or what went wrong.
    pub answer: Result<String, String>,
}

/// Requests without end, until [`Stream::finish`].
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Asked>>>,
}

impl Stream {
    /// Starts asking the targets in turn from inside a network namespace of that name.
    ///
    /// # Errors
    /// When there is no such namespace.
    pub fn start(namespace: &str, targets: Vec<SocketAddr>) -> Result<Stream> {
        ensure!(!targets.is_empty(), "a stream to nowhere");
        let place = enter(namespace)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let ask = move || {
            let mut asked = Vec::new();
            for target in targets.iter().cycle() {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                let at = Instant::now();
                let answer = ask_pod(*target).map_err(|error| format!("{error:#}"));
                asked.push(Asked { at, target: *target, answer });
                thread::sleep(PAUSE);
            }
            asked
        };
        let thread = thread::spawn(move || place.run(ask).unwrap_or_default());
        Ok(Stream { stop, thread: Some(thread) })
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// When it broke down, or nothing was asked.
    pub fn finish(mut self) -> Result<Vec<Asked>> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("finished before")?;
        let asked = thread.join().map_err(|_| anyhow!("the stream panicked"))?;
        ensure!(!asked.is_empty(), "nothing was asked");
        Ok(asked)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// An error that tells how many requests failed, and how.
///
/// # Errors
/// When any did.
pub fn all_answered(asked: &[Asked]) -> Result<()> {
    let failed: Vec<String> = asked
        .iter()
        .filter_map(|asked| Some(format!("{}: {}", asked.target, asked.answer.as_ref().err()?)))
        .collect();
    let first: Vec<&String> = failed.iter().take(5).collect();
    ensure!(failed.is_empty(), "{} of {} requests failed, such as {first:#?}", failed.len(), asked.len());
    Ok(())
}

fn enter(namespace: &str) -> Result<NamespaceFile> {
    Ok(NamespaceFile::open(&Path::new("/run/netns").join(namespace))?)
}

/// Which pod answers at an address, asked from a namespace.
///
/// # Errors
/// When none does.
pub fn ask_from(namespace: &str, target: SocketAddr) -> Result<String> {
    enter(namespace)?.run(|| ask_pod(target))?
}

/// Which pod answers at an address, asked from here.
///
/// # Errors
/// When none does.
pub fn ask_pod(target: SocketAddr) -> Result<String> {
    let connection = TcpStream::connect_timeout(&target, PATIENCE).context("connecting")?;
    let mut conversation = Conversation::over(connection)?;
    conversation.ask(true)
}

/// A connection that stays open over several requests.
#[derive(Debug)]
pub struct Conversation {
    stream: BufReader<TcpStream>,
}

impl Conversation {
    /// Opens one from inside a namespace.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn open(namespace: &str, target: SocketAddr) -> Result<Conversation> {
        let connection = enter(namespace)?.run(|| TcpStream::connect_timeout(&target, PATIENCE))??;
        Conversation::over(connection)
    }

    fn over(connection: TcpStream) -> Result<Conversation> {
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(Conversation { stream: BufReader::new(connection) })
    }

    /// Asks which pod is at the other end.
    ///
    /// # Errors
    /// When the answer does not come, or is none.
    pub fn ask(&mut self, last: bool) -> Result<String> {
        let end = if last { "close" } else { "keep-alive" };
        let request = format!("GET / HTTP/1.1\r\nHost: web\r\nConnection: {end}\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).context("asking")?;
        let mut length = None;
        let mut status = String::new();
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line).context("reading the answer's head")?;
            ensure!(read > 0, "the connection ended before an answer");
            let line = line.trim_end();
            if status.is_empty() {
                line.clone_into(&mut status);
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse::<usize>()?);
            }
            if line.is_empty() {
                break;
            }
        }
        ensure!(status.contains(" 200 "), "the answer was {status:?}");
        let mut body = vec![0; length.context("an answer without a length")?];
        self.stream.read_exact(&mut body).context("reading the answer")?;
        let body = String::from_utf8(body)?;
        match body.lines().find_map(|line| line.strip_prefix("pod: ")) {
            Some(pod) => Ok(pod.to_owned()),
            None => bail!("no pod in {body:?}"),
        }
    }
}
