//! Connections as other clients have them: two channels a port, one for data and one for what goes wrong. The first message
//! on each says which port it is.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::connection::{Place, carry};
use crate::server::channels::write;
use crate::server::websocket::WebSocket;

/// Messages that may wait for the client, and blocks for a connection.
const WAITING: usize = 16;

/// Until the client goes, or all connections have ended.
pub(super) async fn run(socket: WebSocket, place: Place, ports: Vec<u16>) {
    let (mut to_client, mut from_client) = socket.split();
    let (messages, mut waiting) = mpsc::channel(WAITING);
    let mut connections = JoinSet::new();
    let mut inputs: Vec<Option<mpsc::Sender<Bytes>>> = Vec::new();
    for (i, port) in ports.into_iter().enumerate() {
        // More ports than there are channels cannot be asked for.
        let Ok(channel) = u8::try_from(i * 2) else { break };
        let (input, receiver) = mpsc::channel(WAITING);
        inputs.push(Some(input));
        connections.spawn(connection(place.clone(), port, channel, receiver, messages.clone()));
    }
    drop(messages);
    let listen = async {
        while let Some(Ok(message)) = from_client.next().await {
            let Message::Binary(mut bytes) = message else { continue };
            let Some(channel) = bytes.first().copied() else { continue };
            let data = bytes.split_off(1);
            let input = inputs.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
            if let Some(Some(input)) = input {
                // One that the pod has closed is not listened to any more.
                let _ = input.send(data).await;
            }
        }
    };
    let answer = async {
        while let Some(message) = waiting.recv().await {
            if to_client.send(Message::Binary(message)).await.is_err() {
                return;
            }
        }
        let _ = to_client.close().await;
    };
    tokio::select! {
        () = listen => {}
        () = answer => {}
    }
}

async fn connection(
    place: Place,
    port: u16,
    channel: u8,
    from_client: mpsc::Receiver<Bytes>,
    messages: mpsc::Sender<Bytes>,
) {
    for channel in [channel, channel + 1] {
        let _ = messages.send(write(channel, &port.to_le_bytes())).await;
    }
    let (to_client, mut output) = mpsc::channel::<Bytes>(WAITING);
    let answer = async {
        while let Some(bytes) = output.recv().await {
            if bytes.is_empty() || messages.send(write(channel, &bytes)).await.is_err() {
                return;
            }
        }
    };
    // Without a word for the end of one side, the end of the pod's is the end of all.
    tokio::select! {
        result = carry(&place, port, from_client, to_client) => if let Err(message) = result {
            let _ = messages.send(write(channel + 1, message.as_bytes())).await;
        },
        () = answer => {}
    }
}
