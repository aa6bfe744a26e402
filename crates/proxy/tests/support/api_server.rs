//! HTTP for the fake API server: just enough, over plain TCP, so that connections can be cut at any byte.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::answer::{self, Answer, Faults, Request};
use super::world::World;

pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    world: Mutex<World>,
    faults: Mutex<Faults>,
    requests: Mutex<Vec<Request>>,
    changed: Notify,
    requested: Notify,
    stopped: Notify,
}

impl ApiServer {
    pub(crate) async fn start() -> ApiServer {
        let mut server = ApiServer::stopped().await;
        server.serve().await;
        server
    }

    /// A server that does not answer yet, on a port that nobody else gets in the meantime.
    pub(crate) async fn stopped() -> ApiServer {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        ApiServer { address, shared: Arc::default(), serving: None }
    }

    /// Begins to answer, at the start or after [`ApiServer::stop`].
    pub(crate) async fn serve(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(64).unwrap();
        let shared = self.shared.clone();
        self.serving = Some(tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let shared = shared.clone();
                tokio::spawn(async move {
                    let stopped = shared.stopped.notified();
                    tokio::select! {
                        _ = connection(&shared, stream) => {}
                        () = stopped => {}
                    }
                });
            }
        }));
    }

    /// Closes the port and every connection.
    pub(crate) async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
        self.shared.stopped.notify_waiters();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// To change objects; watches see it when the guard is dropped and [`ApiServer::notify`] was called.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world());
        self.shared.changed.notify_waiters();
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap()
    }

    /// Waits until the requests so far fulfil a condition.
    pub(crate) async fn until(&self, condition: impl Fn(&[Request]) -> bool) {
        loop {
            let requested = self.shared.requested.notified();
            tokio::pin!(requested);
            // Registered before looking, so that no request falls between.
            requested.as_mut().enable();
            if condition(&self.requests()) {
                return;
            }
            requested.await;
        }
    }

    pub(crate) fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.shared.requests.lock().unwrap()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
        self.shared.stopped.notify_waiters();
    }
}

/// Serves one request and closes the connection.
async fn connection(shared: &Shared, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let Some(request) = read_request(&mut stream).await? else { return Ok(()) };
    let collection = request.path.clone();
    let (answer, cut) = {
        let mut faults = shared.faults.lock().unwrap();
        let answer = answer::answer(&shared.world.lock().unwrap(), &mut faults, &request);
        (answer, if faults.cuts.is_empty() { None } else { Some(faults.cuts.remove(0)) })
    };
    shared.requests.lock().unwrap().push(request);
    shared.requested.notify_waiters();
    let mut body = Body { stream: stream.into_inner(), left: cut.unwrap_or(usize::MAX) };
    let (text, mut after) = match answer {
        Answer::Whole { status, body: text } => {
            body.head(status).await?;
            body.write(text.as_bytes()).await?;
            return body.end().await;
        }
        Answer::Stream { body: text, after } => (text, after),
    };
    body.head(200).await?;
    let mut text = text;
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        // Registered before looking, so that no change falls between.
        changed.as_mut().enable();
        {
            let changes = shared.world.lock().unwrap().changes_after(&collection, after);
            text += &answer::lines(&changes, &shared.faults.lock().unwrap());
            after = changes.last().map_or(after, |change| change.revision);
        }
        body.write(std::mem::take(&mut text).as_bytes()).await?;
        if after == u64::MAX {
            return body.end().await;
        }
        changed.await;
    }
}

/// A chunked body that may be cut.
struct Body {
    stream: TcpStream,
    left: usize,
}

impl Body {
    async fn head(&mut self, status: u16) -> std::io::Result<()> {
        let head = format!(
            "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n"
        );
        self.stream.write_all(head.as_bytes()).await
    }

    /// An error ends the connection, which is how a cut looks from outside.
    async fn write(&mut self, text: &[u8]) -> std::io::Result<()> {
        let sent = &text[..text.len().min(self.left)];
        if !sent.is_empty() {
            // The chunk is announced whole, so a cut falls into its middle.
            self.stream.write_all(format!("{:x}\r\n", text.len()).as_bytes()).await?;
            self.stream.write_all(sent).await?;
        }
        self.left -= sent.len();
        if self.left == 0 || sent.len() < text.len() {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        if !sent.is_empty() {
            self.stream.write_all(b"\r\n").await?;
        }
        Ok(())
    }

    async fn end(&mut self) -> std::io::Result<()> {
        self.stream.write_all(b"0\r\n\r\n").await
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut request = Request {
        path: path.to_owned(),
        query: pairs.map(|(name, value)| (name.to_owned(), unescaped(value))).collect(),
        headers: BTreeMap::new(),
        method: method.to_owned(),
        body: String::new(),
    };
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        let Some((name, value)) = header.split_once(':') else { break };
        request.headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = request.headers.get("content-length").map_or(0, |length| length.parse().unwrap_or(0));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    request.body = String::from_utf8(body).unwrap_or_default();
    Ok(Some(request))
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(code, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).unwrap()
}
