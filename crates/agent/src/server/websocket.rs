//! The way from HTTP to a WebSocket: which subprotocol, and the answer that opens it.

use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes, protocol::CloseFrame};

use super::answer::{Body, Refusal};

pub(super) type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// The last message of a stream that came to its end. Kubernetes' clients take an end without the normal code for a broken
/// connection.
pub(super) fn farewell() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

/// Larger messages than anybody sends who reads in blocks.
const MOST_BYTES: usize = 4 << 20;

/// A request that is to become a WebSocket, with the subprotocol that was agreed on.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) protocol: &'static str,
    accept: HeaderValue,
    upgrade: OnUpgrade,
}

impl Opening {
    /// `known` are the subprotocols that can be spoken; of those that the client offers its first is taken.
    ///
    /// # Errors
    /// 400 if the request is none for a WebSocket, or offers nothing that is known.
    pub(super) fn new(mut request: Request<Incoming>, known: &[&'static str]) -> Result<Opening, Refusal> {
        let (protocol, accept) = agree(request.headers(), known)?;
        let accept = HeaderValue::from_str(&accept).map_err(|error| Refusal::internal(error.to_string()))?;
        Ok(Opening { protocol, accept, upgrade: hyper::upgrade::on(&mut request) })
    }

    /// The answer; what is to be done with the WebSocket happens after it was sent.
    pub(super) fn answer<F>(self, work: impl FnOnce(WebSocket) -> F + Send + 'static) -> Response<Body>
    where
        F: Future<Output = ()> + Send,
    {
        let upgrade = self.upgrade;
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let config = WebSocketConfig::default()
                        .max_message_size(Some(MOST_BYTES))
                        .max_frame_size(Some(MOST_BYTES));
                    let socket =
                        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config))
                            .await;
                    work(socket).await;
                }
                Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
            }
        });
        let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        response
    }
}

/// The subprotocol, and the word that proves that its request was read.
fn agree(headers: &HeaderMap, known: &[&'static str]) -> Result<(&'static str, String), Refusal> {
    let words = |name: HeaderName| -> Vec<String> {
        let all = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        all.flat_map(|value| value.split(',')).map(|word| word.trim().to_owned()).collect()
    };
    let upgrades = words(UPGRADE);
    let has = |name: &str| upgrades.iter().any(|word| word.eq_ignore_ascii_case(name));
    if has("SPDY/3.1") {
        return Err(Refusal::bad_request(
            "this node speaks WebSocket, not SPDY: use kubectl 1.31 or newer (1.29 and 1.30 with \
             KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true and KUBECTL_PORT_FORWARD_WEBSOCKETS=true)",
        ));
    }
    if !has("websocket") {
        return Err(Refusal::bad_request("Upgrade request required"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::bad_request("WebSocket version 13 is needed"));
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
        return Err(Refusal::bad_request("Sec-WebSocket-Key is missing"));
    };
    let offered = words(SEC_WEBSOCKET_PROTOCOL);
    let agreed = offered.iter().find_map(|offer| known.iter().find(|known| **known == *offer));
    match agreed {
        Some(protocol) => Ok((*protocol, derive_accept_key(key.as_bytes()))),
        None => Err(Refusal::bad_request(format!(
            "none of the subprotocols {:?} is spoken here, only {}",
            offered.join(", "),
            known.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    const KNOWN: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

    #[test]
    fn the_clients_first_choice_that_is_known_is_taken() {
        let headers = headers(&[
            (UPGRADE, "WebSocket"),
            (SEC_WEBSOCKET_VERSION, "13"),
            // Key and answer are the example of RFC 6455.
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
            (SEC_WEBSOCKET_PROTOCOL, "v6.channel.k8s.io, v4.channel.k8s.io, v5.channel.k8s.io"),
        ]);
        let (protocol, accept) = agree(&headers, &KNOWN).unwrap();
        assert_eq!((protocol, accept.as_str()), ("v4.channel.k8s.io", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn others_are_told_what_is_spoken() {
        let spdy = headers(&[(UPGRADE, "SPDY/3.1")]);
        assert!(agree(&spdy, &KNOWN).unwrap_err().message.contains("kubectl 1.31"));
        assert_eq!(agree(&HeaderMap::new(), &KNOWN).unwrap_err().message, "Upgrade request required");
        let unknown = headers(&[
            (UPGRADE, "websocket"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, "k"),
            (SEC_WEBSOCKET_PROTOCOL, "chat"),
        ]);
        assert!(agree(&unknown, &KNOWN).unwrap_err().message.contains("v5.channel.k8s.io"));
    }
}
