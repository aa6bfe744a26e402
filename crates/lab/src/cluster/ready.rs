//! Waiting until the parts of a lab are ready, with an eye on what could keep them from it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::LabError;
use super::state::{Folder, tail};

const POLL: Duration = Duration::from_millis(10);
/// A part that fails for a passing reason, as when the API server is away, gets over it sooner.
const FAILURES: u32 = 3;
/// One question, after which the next one is asked.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How long to wait, and for whom.
#[derive(Debug)]
pub(super) struct Waiting {
    folder: Folder,
    limit: Duration,
    deadline: Instant,
    interrupted: Arc<AtomicBool>,
}

impl Waiting {
    pub(super) fn new(folder: Folder, limit: Duration, interrupted: Arc<AtomicBool>) -> Waiting {
        Waiting { folder, limit, deadline: Instant::now() + limit, interrupted }
    }

    /// Whether the user wants to stop.
    pub(super) fn check_interrupt(&self) -> Result<(), LabError> {
        if self.interrupted.load(Ordering::Relaxed) { Err(LabError::Interrupted) } else { Ok(()) }
    }

    /// Asks again until the answer is good. `part` is the one whose log tells why it is not.
    pub(super) async fn until<T>(
        &self,
        what: &str,
        part: &str,
        mut check: impl AsyncFnMut() -> Result<T, String>,
    ) -> Result<T, LabError> {
        loop {
            self.check_interrupt()?;
            let answer = tokio::time::timeout(ANSWER_LIMIT, check()).await;
            let why = match answer.unwrap_or_else(|_| Err("there is no answer".to_owned())) {
                Ok(found) => return Ok(found),
                Err(why) => why,
            };
            self.check_parts()?;
            if Instant::now() >= self.deadline {
                return Err(LabError::NotReady {
                    what: what.to_owned(),
                    seconds: self.limit.as_secs(),
                    why,
                    part: part.to_owned(),
                    tail: tail(&self.folder.log(part)),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether a part ends again and again.
    fn check_parts(&self) -> Result<(), LabError> {
        let Some(keeper) = self.folder.keeper()? else { return Ok(()) };
        if !keeper.is_running() {
            let tail = tail(&self.folder.log("keeper"));
            return Err(LabError::Other(format!("the lab's keeper has ended; the end of its log:\n{tail}")));
        }
        match keeper.parts.into_iter().find(|part| part.restarts >= FAILURES) {
            Some(part) => Err(LabError::PartFails {
                tail: tail(&self.folder.log(&part.name)),
                part: part.name,
                times: part.restarts,
                end: part.last_end.unwrap_or_default(),
            }),
            None => Ok(()),
        }
    }
}

/// Asks a proxy of the calling thread's network how it is.
pub(super) fn proxy_health(node: IpAddr) -> Result<(), String> {
    /// Kubernetes reserves it for the health of kube-proxy.
    const PORT: u16 = 10256;
    let ask = || -> std::io::Result<String> {
        let address = SocketAddr::new(node, PORT);
        let mut connection = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
        connection.set_read_timeout(Some(ANSWER_LIMIT))?;
        write!(connection, "GET /healthz HTTP/1.0\r\nHost: {node}\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") => Ok(()),
        Ok(answer) => Err(answer.lines().next().unwrap_or_default().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
