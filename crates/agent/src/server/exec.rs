//! Commands in containers.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::answer::{Body, Refusal};
use super::channels::{self, ERRORS, OUTPUT, Said, V4, V5};
use super::route::Streams;
use super::websocket::{Opening, WebSocket, farewell};
use crate::core::{Core, blocking, one_line};
use crate::runtime::{ExecSpec, Process};

/// How much is read at once.
const BLOCK: usize = 16 << 10;
/// Blocks that may wait for the client, or for the command.
const WAITING: usize = 8;

/// The command, until somebody waits for its end or gives it up.
type Shared = Arc<Mutex<Option<Box<dyn Process>>>>;

/// Runs a command once the client has its WebSocket: kubectl takes an error before that for a word against WebSockets.
pub(super) fn answer(
    core: &Arc<Core>,
    pod: &Pod,
    container: &str,
    command: Vec<String>,
    wanted: Streams,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if command.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command for the container"));
    }
    let opening = Opening::new(request, &[V5, V4])?;
    let (core, uid, container) = (core.clone(), pod.uid().unwrap_or_default(), container.to_owned());
    Ok(opening.answer(move |mut socket| async move {
        let spec = ExecSpec { command, tty: wanted.tty };
        match blocking(move || core.runtime.exec(&uid, &container, &spec)).await {
            Ok(process) => run(socket, process, wanted).await,
            Err(error) => {
                let message = Message::Binary(channels::failed(&one_line(&error)));
                // A client that has gone does not have to be told.
                let _ = socket.send(message).await;
                let _ = socket.send(farewell()).await;
            }
        }
    }))
}

/// Carries everything between a client and its command, until either ends.
async fn run(socket: WebSocket, mut process: Box<dyn Process>, wanted: Streams) {
    let Some(streams) = process.streams() else { return };
    let (to_client, from_client) = socket.split();
    let (output, blocks) = mpsc::channel(WAITING);
    read_from(streams.output, OUTPUT, wanted.output, output.clone());
    if let Some(errors) = streams.errors {
        read_from(errors, ERRORS, wanted.errors, output.clone());
    }
    drop(output);
    let input = write_to(streams.input, wanted.input);
    let process: Shared = Arc::new(Mutex::new(Some(process)));
    tokio::select! {
        () = tell(to_client, blocks, process.clone()) => {}
        () = hear(from_client, input, &process) => {}
    }
    // If the client is gone, nobody is left to see what the command does.
    let abandoned = process.lock().unwrap_or_else(PoisonError::into_inner).take();
    blocking(move || drop(abandoned)).await;
}

/// Output to the client, and at last how the command ended.
async fn tell(
    mut client: SplitSink<WebSocket, Message>,
    mut blocks: mpsc::Receiver<(u8, Bytes)>,
    process: Shared,
) {
    while let Some((channel, block)) = blocks.recv().await {
        if client.send(Message::Binary(channels::write(channel, &block))).await.is_err() {
            return;
        }
    }
    let process = process.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(process) = process else { return };
    let last = match blocking(move || process.wait()).await {
        Ok(exit_code) => channels::ended(exit_code),
        Err(error) => channels::failed(&one_line(&error)),
    };
    let _ = client.send(Message::Binary(last)).await;
    let _ = client.send(farewell()).await;
}

/// Input to the command, until the client is gone.
async fn hear(mut client: SplitStream<WebSocket>, input: mpsc::Sender<Bytes>, process: &Shared) {
    let mut input = Some(input);
    while let Some(Ok(message)) = client.next().await {
        let said = match message {
            Message::Binary(bytes) => channels::read(bytes),
            Message::Close(_) => return,
            _ => Said::Nothing,
        };
        match said {
            Said::Input(bytes) => {
                if let Some(input) = &input {
                    // A command that has closed its input does not want any.
                    let _ = input.send(bytes).await;
                }
            }
            Said::EndOfInput => input = None,
            Said::Resize { columns, rows } => {
                let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(Err(error)) = process.as_mut().map(|process| process.resize(columns, rows)) {
                    tracing::debug!(%error, "a terminal keeps its size");
                }
            }
            Said::Nothing => {}
        }
    }
}

/// Reads on a thread of its own, to the end.
fn read_from(stream: OwnedFd, channel: u8, is_wanted: bool, output: mpsc::Sender<(u8, Bytes)>) {
    tokio::task::spawn_blocking(move || {
        let mut stream = File::from(stream);
        let mut block = vec![0; BLOCK];
        loop {
            match stream.read(&mut block) {
                Ok(0) => return,
                Ok(count) => {
                    let bytes = Bytes::copy_from_slice(&block[..count]);
                    // Without anybody to hear it, it is read all the same: the command would wait for ever.
                    if is_wanted && output.blocking_send((channel, bytes)).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A terminal whose last user is gone fails instead of ending.
                Err(_) => return,
            }
        }
    });
}

/// Writes on a thread of its own; the stream is closed when the sender is gone.
fn write_to(stream: OwnedFd, is_wanted: bool) -> mpsc::Sender<Bytes> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(WAITING);
    if !is_wanted {
        return sender;
    }
    tokio::task::spawn_blocking(move || {
        let mut stream = File::from(stream);
        while let Some(bytes) = receiver.blocking_recv() {
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    sender
}
