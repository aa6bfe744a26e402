//! Listening to a container that runs: what it writes from now on.
//!
//! A runtime keeps no hold of a container's streams that somebody could take over, so there is no input, and output is
//! read from the log.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::answer::{Body, Refusal};
use super::channels::{self, ERRORS, OUTPUT, V4, V5};
use super::logs::Source;
use super::route::{LogOptions, Streams};
use super::websocket::{Opening, WebSocket, farewell};
use crate::core::Core;
use crate::runtime::{Container, Run};

/// Blocks that may wait for the client.
const WAITING: usize = 16;

pub(super) fn answer(
    core: &Arc<Core>,
    pod: &Pod,
    run: Container,
    wanted: Streams,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if wanted.input {
        return Err(Refusal::bad_request(
            "containers of this node take no input from outside; leave out --stdin, or use `kubectl exec -it`",
        ));
    }
    let opening = Opening::new(request, &[V5, V4])?;
    let source = Source {
        core: core.clone(),
        uid: pod.uid().unwrap_or_default(),
        container: run.name.clone(),
        run: Some(run),
    };
    Ok(opening.answer(move |socket| listen(socket, source, wanted)))
}

async fn listen(socket: WebSocket, source: Source, wanted: Streams) {
    let (mut to_client, mut from_client) = socket.split();
    let (sender, mut blocks) = mpsc::channel(WAITING);
    // With a terminal there is one stream for both.
    let streams = [("Stdout", OUTPUT, wanted.output), ("Stderr", ERRORS, wanted.errors)];
    for (name, channel, _) in streams.into_iter().filter(|(_, _, is_wanted)| *is_wanted) {
        follow(source.clone(), name, channel, sender.clone());
    }
    drop(sender);
    loop {
        tokio::select! {
            block = blocks.recv() => {
                let Some((channel, block)) = block else { break };
                if to_client.send(Message::Binary(channels::write(channel, &block))).await.is_err() {
                    return;
                }
            }
            said = from_client.next() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            }
        }
    }
    let end = source.exit_code().map_or_else(|| channels::failed("the container is gone"), channels::ended);
    let _ = to_client.send(Message::Binary(end)).await;
    let _ = to_client.send(farewell()).await;
}

fn follow(source: Source, stream: &str, channel: u8, sender: mpsc::Sender<(u8, Bytes)>) {
    let path = source.core.runtime.log(&source.uid, &source.container, Run::Newest);
    let options = LogOptions {
        follow: true,
        tail_lines: Some(0),
        stream: Some(stream.to_owned()),
        ..LogOptions::default()
    };
    let (blocks, mut receiver) = mpsc::channel::<Bytes>(WAITING);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = source.send(&path, &options, &blocks) {
            tracing::warn!(path = %path.display(), %error, "following a log");
        }
    });
    tokio::spawn(async move {
        while let Some(block) = receiver.recv().await {
            if sender.send((channel, block)).await.is_err() {
                return;
            }
        }
    });
}
