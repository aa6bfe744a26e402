//! One connection to a port of a pod.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::core::{Core, blocking, one_line};

/// How much is read at once.
const BLOCK: usize = 32 << 10;

/// The pod.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) core: Arc<Core>,
    pub(super) uid: String,
}

impl Place {
    /// # Errors
    /// In words for whoever forwards the port.
    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let place = self.clone();
        let stream = blocking(move || place.core.runtime.connect(&place.uid, port)).await;
        let stream = stream.map_err(|error| one_line(&error)).and_then(|stream| {
            stream.set_nonblocking(true).map_err(|error| error.to_string())?;
            TcpStream::from_std(stream).map_err(|error| error.to_string())
        });
        stream.map_err(|cause| format!("error forwarding port {port}: {cause}"))
    }
}

/// Carries bytes both ways until both sides have ended: `from_client` by being closed, the pod by closing its side, which is
/// told with an empty block. What the pod says goes to `to_client`, which is to give up by being closed.
///
/// # Errors
/// In words for whoever forwards the port.
pub(super) async fn carry(
    place: &Place,
    port: u16,
    mut from_client: mpsc::Receiver<Bytes>,
    to_client: mpsc::Sender<Bytes>,
) -> Result<(), String> {
    let (mut from_pod, mut to_pod) = place.connect(port).await?.into_split();
    let forth = async move {
        while let Some(bytes) = from_client.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The pod may have more to say. If it is gone, there is nothing to close.
        let _ = to_pod.shutdown().await;
    };
    let back = async move {
        loop {
            let mut block = BytesMut::with_capacity(BLOCK);
            match from_pod.read_buf(&mut block).await {
                Ok(0) | Err(_) => {
                    let _ = to_client.send(Bytes::new()).await;
                    return;
                }
                Ok(_) if to_client.send(block.freeze()).await.is_err() => return,
                Ok(_) => {}
            }
        }
    };
    tokio::join!(forth, back);
    Ok(())
}
