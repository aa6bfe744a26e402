//! Connections as kubectl has them: pairs of SPDY streams, one for data and one for what goes wrong.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::connection::{Place, carry};
use crate::server::websocket::WebSocket;
use crate::spdy::{Decoder, Encoder, Frame, Headers, SpdyError};

/// Frames that may wait for the client, and blocks for a connection.
const WAITING: usize = 16;
/// The stream was not understood.
const PROTOCOL_ERROR: u32 = 1;

/// Until the client goes.
pub(super) async fn run(socket: WebSocket, place: Place) {
    let (to_client, mut from_client) = socket.split();
    let (frames, receiver) = mpsc::channel(WAITING);
    let mut session =
        Session { place, frames, halves: BTreeMap::new(), inputs: BTreeMap::new(), tasks: JoinSet::new() };
    let listen = async {
        let mut decoder = Decoder::new();
        while let Some(Ok(message)) = from_client.next().await {
            match message {
                Message::Binary(bytes) => decoder.add(&bytes),
                Message::Close(_) => return,
                _ => {}
            }
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => session.take(frame).await,
                    Ok(None) => break,
                    Err(error) => return tracing::debug!(%error, "a client of port-forward"),
                }
            }
        }
    };
    tokio::select! {
        () = listen => {}
        result = write(to_client, receiver) => if let Err(error) = result {
            tracing::debug!(%error, "answering a client of port-forward");
        }
    }
}

async fn write(
    mut client: SplitSink<WebSocket, Message>,
    mut frames: mpsc::Receiver<Frame>,
) -> Result<(), SpdyError> {
    let mut encoder = Encoder::new()?;
    while let Some(frame) = frames.recv().await {
        let bytes = encoder.encode(&frame)?;
        if client.send(Message::Binary(bytes)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// What is known of a connection before both of its streams are there.
#[derive(Debug, Default)]
struct Half {
    data: Option<u32>,
    error: Option<u32>,
    port: Option<u16>,
}

struct Session {
    place: Place,
    frames: mpsc::Sender<Frame>,
    /// By the number that the client has given the connection.
    halves: BTreeMap<String, Half>,
    /// Where data of a stream goes.
    inputs: BTreeMap<u32, mpsc::Sender<Bytes>>,
    /// The connections; they end with the session.
    tasks: JoinSet<()>,
}

impl Session {
    async fn take(&mut self, frame: Frame) {
        while self.tasks.try_join_next().is_some() {}
        match frame {
            Frame::SynStream { stream, headers, .. } => self.open(stream, &headers).await,
            Frame::Data { stream, bytes, is_last } => {
                if let Some(input) = self.inputs.get(&stream)
                    && !bytes.is_empty()
                {
                    // One that the pod has closed is not listened to any more.
                    let _ = input.send(bytes).await;
                }
                if is_last {
                    self.inputs.remove(&stream);
                }
            }
            Frame::RstStream { stream, .. } => drop(self.inputs.remove(&stream)),
            Frame::Ping(number) => self.send(Frame::Ping(number)).await,
            Frame::SynReply { .. } | Frame::GoAway { .. } | Frame::Other => {}
        }
    }

    async fn send(&self, frame: Frame) {
        // If nobody writes any more, the session ends.
        let _ = self.frames.send(frame).await;
    }

    /// The first stream of a connection waits for the other.
    async fn open(&mut self, stream: u32, headers: &Headers) {
        let value =
            |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let port: Option<u16> = value("port").and_then(|port| port.parse().ok());
        let (Some(port), Some(kind @ ("data" | "error"))) = (port, value("streamtype")) else {
            return self.send(Frame::RstStream { stream, status: PROTOCOL_ERROR }).await;
        };
        self.send(Frame::SynReply { stream, headers: Headers::new() }).await;
        let request = value("requestid").unwrap_or_default().to_owned();
        let half = self.halves.entry(request.clone()).or_default();
        half.port = Some(port);
        match kind {
            "data" => {
                half.data = Some(stream);
            }
            _ => half.error = Some(stream),
        }
        if let Half { data: Some(data), error: Some(error), port: Some(port) } = *half {
            self.halves.remove(&request);
            self.begin(data, error, port);
        }
    }

    fn begin(&mut self, data: u32, error: u32, port: u16) {
        let (input, from_client) = mpsc::channel(WAITING);
        let (to_client, mut output) = mpsc::channel::<Bytes>(WAITING);
        self.inputs.insert(data, input);
        let (place, frames) = (self.place.clone(), self.frames.clone());
        self.tasks.spawn(async move {
            let answer = async {
                while let Some(bytes) = output.recv().await {
                    let is_last = bytes.is_empty();
                    if frames.send(Frame::Data { stream: data, bytes, is_last }).await.is_err() || is_last {
                        return;
                    }
                }
            };
            let (result, ()) = tokio::join!(carry(&place, port, from_client, to_client), answer);
            let message = Bytes::from(result.err().unwrap_or_default());
            if !message.is_empty() {
                let _ = frames.send(Frame::Data { stream: data, bytes: Bytes::new(), is_last: true }).await;
            }
            let _ = frames.send(Frame::Data { stream: error, bytes: message, is_last: true }).await;
        });
    }
}
