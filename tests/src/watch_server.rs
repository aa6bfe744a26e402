//! The least of an API server: streams objects to whoever watches, and then their changes. For measuring, where the
//! server's own time should not count.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Serves every object as it was given, whatever selectors a request has. It goes on until the process ends.
#[derive(Debug, Clone)]
pub struct WatchServer {
    address: SocketAddr,
    kinds: Arc<Mutex<BTreeMap<&'static str, Kind>>>,
}

/// The objects of one kind, and who watches them.
#[derive(Debug, Default)]
struct Kind {
    objects: Vec<Value>,
    watchers: Vec<Sender<String>>,
}

/// The kinds that a proxy watches, by the ends of their paths.
const KINDS: [&str; 4] = ["services", "endpointslices", "nodes", "servicecidrs"];

impl WatchServer {
    /// Listens on 127.0.0.1 of the calling thread's network namespace.
    ///
    /// # Errors
    /// When it cannot.
    pub fn start() -> Result<WatchServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening on 127.0.0.1")?;
        let kinds = KINDS.map(|kind| (kind, Kind::default()));
        let server =
            WatchServer { address: listener.local_addr()?, kinds: Arc::new(Mutex::new(kinds.into())) };
        let own = server.clone();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let server = own.clone();
                // A proxy that ends closes its connections; there is nothing to tell then.
                thread::spawn(move || server.answer(connection));
            }
        });
        Ok(server)
    }

    /// For `--master`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds objects that are there before anybody asks.
    pub fn add(&self, kind: &'static str, objects: impl IntoIterator<Item = Value>) {
        self.kinds().entry(kind).or_default().objects.extend(objects);
    }

    /// Tells the watchers of a kind that an object is another one now. The same watchers only: who comes later gets
    /// what was added.
    pub fn change(&self, kind: &'static str, mut object: Value, revision: usize) {
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        let line = event("MODIFIED", &object);
        let mut kinds = self.kinds();
        kinds.entry(kind).or_default().watchers.retain(|watcher| watcher.send(line.clone()).is_ok());
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<&'static str, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, connection: TcpStream) -> Result<()> {
        let mut reader = BufReader::new(connection);
        loop {
            let Some(target) = read_request(&mut reader)? else { return Ok(()) };
            let stream = reader.get_mut();
            let path = target.split('?').next().unwrap_or_default();
            let kind = KINDS.into_iter().find(|kind| path.ends_with(kind) && target.contains("watch=true"));
            let Some(kind) = kind else {
                // Events, which nobody reads.
                stream.write_all(
                    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
                )?;
                continue;
            };
            stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            )?;
            let (first, changes) = self.watch(kind);
            write_chunk(stream, &first)?;
            for change in changes {
                write_chunk(stream, &change)?;
            }
        }
    }

    fn watch(&self, kind: &'static str) -> (String, Receiver<String>) {
        let mut kinds = self.kinds();
        let kind = kinds.entry(kind).or_default();
        let mut text = String::new();
        for object in &kind.objects {
            let mut object = object.clone();
            object["metadata"]["resourceVersion"] = "1".into();
            text += &event("ADDED", &object);
        }
        let end = json!({"k8s.io/initial-events-end": "true"});
        text += &event("BOOKMARK", &json!({"metadata": {"resourceVersion": "1", "annotations": end}}));
        let (sender, receiver) = mpsc::channel();
        kind.watchers.push(sender);
        (text, receiver)
    }
}

fn event(what: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": what, "object": object}))
}

fn write_chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
    stream.flush()
}

/// The target of the next request; nothing once the other side has closed.
fn read_request(reader: &mut BufReader<TcpStream>) -> Result<Option<String>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut body = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            body = value.trim().parse()?;
        }
    }
    reader.read_exact(&mut vec![0; body])?;
    Ok(Some(target))
}
