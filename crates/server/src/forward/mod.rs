//! Requests that somebody else answers: logs, commands and ports of pods by the agent of their node, and whatever a pod or a service
//! serves itself.
//!
//! [`agent`] and [`proxy`] work out where a request goes, purely; [`Forwarder`] takes it there. A connection that the other side
//! upgrades (to a WebSocket) is carried as it is, so that the server need not know what is spoken over it.

mod agent;
mod dial;
mod proxy;

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Limited};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use crate::http::response::Body;
use crate::status::ApiError;

pub use agent::{Agents, locate};
pub use dial::{AgentTls, DialError};
pub use proxy::{Backends, find};

/// Headers of one connection, which mean nothing on the next (RFC 9110, 7.6.1). Those of an upgrade are carried on purpose.
const OF_THE_CONNECTION: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("te"),
    HeaderName::from_static("trailer"),
    TRANSFER_ENCODING,
];
/// An error in place of what was asked for is not longer than this.
const MOST_ERROR_BYTES: usize = 64 * 1024;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// For people: `the agent of node-1`.
    pub name: String,
    pub host: String,
    pub port: u16,
    pub security: Security,
    /// With parameters, encoded.
    pub path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// TLS with our certificate for agents.
    Agent,
    /// TLS with whoever it is, as upstream does.
    Unverified,
    None,
}

/// A request on its way.
#[derive(Debug)]
pub struct Forwarded<'a> {
    pub method: Method,
    pub headers: &'a HeaderMap,
    pub body: UnsyncBoxBody<Bytes, BoxError>,
    /// Of the connection that it came over.
    pub upgrade: &'a Mutex<Option<OnUpgrade>>,
}

/// Takes requests elsewhere.
#[derive(Debug)]
pub struct Forwarder {
    tls: AgentTls,
    /// Ends what was upgraded.
    stopping: CancellationToken,
}

impl Forwarder {
    pub fn new(tls: AgentTls, stopping: CancellationToken) -> Forwarder {
        Forwarder { tls, stopping }
    }

    /// Asks there, and answers what is answered there.
    ///
    /// # Errors
    /// 503 if nobody answers there.
    pub async fn forward(
        &self,
        destination: &Destination,
        request: Forwarded<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let failed = |error: DialError| {
            ApiError::unavailable(format!("error trying to reach {}: {error}", destination.name))
        };
        let asked = onward(destination, request.method, request.headers, request.body)
            .map_err(|error| ApiError::bad_request(format!("the request cannot be passed on: {error}")))?;
        let answer = self.tls.ask(destination, asked).await.map_err(failed)?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(answer, request.upgrade);
        }
        Ok(streamed(answer))
    }

    /// Carries bytes both ways until either side ends.
    fn switch(
        &self,
        mut answer: Response<Incoming>,
        upgrade: &Mutex<Option<OnUpgrade>>,
    ) -> Result<Response<Body>, ApiError> {
        let client = upgrade.lock().ok().and_then(|mut upgrade| upgrade.take());
        let client = client.ok_or_else(|| {
            ApiError::bad_request("an upgrade takes HTTP/1.1, with the headers Connection and Upgrade")
        })?;
        let server = hyper::upgrade::on(&mut answer);
        let stopping = self.stopping.clone();
        tokio::spawn(async move {
            let carried = async {
                let (client, server) = tokio::try_join!(client, server)?;
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                tokio::io::copy_bidirectional(&mut client, &mut server)
                    .await
                    .map(drop)
                    .map_err(BoxError::from)
            };
            tokio::select! {
                result = carried => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "an upgraded connection ended");
                    }
                }
                () = stopping.cancelled() => {}
            }
        });
        let mut switched = Response::new(http_body_util::Empty::new().boxed_unsync());
        *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *switched.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(switched)
    }
}

/// The request as the other side gets it: without who asks, which is between the client and us.
fn onward(
    destination: &Destination,
    method: Method,
    headers: &HeaderMap,
    body: UnsyncBoxBody<Bytes, BoxError>,
) -> Result<Request<UnsyncBoxBody<Bytes, BoxError>>, http::Error> {
    let mut request = Request::builder().method(method).uri(&destination.path).body(body)?;
    *request.headers_mut() = headers.clone();
    let own = request.headers_mut();
    own.remove(AUTHORIZATION);
    own.remove(HOST);
    let of_client = |name: &HeaderName| name.as_str().starts_with("impersonate-");
    let impersonation: Vec<HeaderName> = own.keys().filter(|name| of_client(name)).cloned().collect();
    for name in OF_THE_CONNECTION.iter().chain(&impersonation) {
        own.remove(name);
    }
    if !own.contains_key(UPGRADE) {
        own.remove(CONNECTION);
    }
    let host = match destination.host.contains(':') {
        true => format!("[{}]:{}", destination.host, destination.port),
        false => format!("{}:{}", destination.host, destination.port),
    };
    own.insert(HOST, host.parse()?);
    Ok(request)
}

/// The answer as it comes in. If it breaks off, so does ours.
fn streamed(answer: Response<Incoming>) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    for name in OF_THE_CONNECTION.iter().chain([&CONNECTION]) {
        parts.headers.remove(name);
    }
    // What of a length was promised and does not come makes the connection end before the answer, which clients notice.
    let frames = BodyStream::new(body).take_while(|frame| std::future::ready(frame.is_ok()));
    let frames =
        frames.filter_map(|frame| std::future::ready(frame.ok().map(|frame: Frame<Bytes>| Ok(frame))));
    Response::from_parts(parts, http_body_util::StreamBody::new(frames).boxed_unsync())
}

/// What an agent refused, in a Status: agents answer in plain text.
pub async fn as_status(answer: Response<Body>) -> Result<Response<Body>, ApiError> {
    let code = answer.status();
    if !code.is_client_error() && !code.is_server_error() {
        return Ok(answer);
    }
    let is_status =
        answer.headers().get(http::header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if is_status {
        return Ok(answer);
    }
    let text = Limited::new(answer.into_body(), MOST_ERROR_BYTES).collect().await;
    let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let reason = match code {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        _ => "",
    };
    Err(ApiError::new(code, reason, text.trim_end()))
}
