//! The stages of a request, from its head to its answer.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Body as HttpBody;
use hyper::upgrade::OnUpgrade;
use serde_json::Map;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::discovery::Discovery;
use super::health::Health;
use super::metrics::{Labels, Metrics, Running};
use super::negotiation::{self, Encoding};
use super::objects::Objects;
use super::openapi::OpenApi;
use super::response::{self, Body};
use super::{Query, RequestInfo};
use crate::authentication::impersonation::Impersonation;
use crate::authentication::{Authenticator, Peer, UserInfo};
use crate::authorization::{Action, authorize};
use crate::forward::{AgentTls, Forwarder};
use crate::handlers::Handlers;
use crate::registry::Registry;
use crate::status::ApiError;
use crate::store::Cache;

/// For requests that are not long-running.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// Requests at a time, besides long-running ones: upstream's 400 that read and 200 that write.
const MOST_IN_FLIGHT: usize = 600;
/// What is slower than this is worth a line in the log.
const SLOW: Duration = Duration::from_secs(1);
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Everything behind the connections.
#[derive(Debug)]
pub struct Front {
    pub(super) registry: Arc<Registry>,
    pub(super) handlers: Handlers,
    pub(super) authenticator: Authenticator,
    pub(super) objects: Objects,
    pub(super) discovery: Discovery,
    pub(super) openapi: OpenApi,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) forwarder: Forwarder,
    pub(super) stopping: CancellationToken,
    in_flight: Semaphore,
}

/// What a [`Front`] is put together from.
#[derive(Debug)]
pub struct Parts {
    pub registry: Arc<Registry>,
    pub cache: Arc<Cache>,
    pub handlers: Handlers,
    pub authenticator: Authenticator,
    /// `HOST:PORT`, for clients.
    pub server_address: String,
    /// What node agents know the server by.
    pub agent_tls: AgentTls,
    /// Ends watches.
    pub stopping: CancellationToken,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    /// As it was sent.
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) query: Query,
    pub(super) info: RequestInfo,
    /// The connection itself, for who is to take it over.
    pub(super) upgrade: Mutex<Option<OnUpgrade>>,
}

impl Head {
    /// A header; empty without one.
    pub(super) fn text(&self, name: HeaderName) -> String {
        let values: Vec<&str> =
            self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        values.join(",")
    }

    pub(super) fn is_pretty(&self) -> bool {
        negotiation::is_pretty(self.query.given("pretty"), &self.text(USER_AGENT))
    }

    pub(super) fn indented(&self, encoding: Encoding) -> Encoding {
        if encoding == Encoding::Json && self.is_pretty() { Encoding::PrettyJson } else { encoding }
    }

    /// Errors are written even for clients that accept nothing.
    fn of_errors(&self) -> Encoding {
        self.indented(negotiation::negotiate_plain(&self.text(ACCEPT)).unwrap_or(Encoding::Json))
    }

    /// How long the answer may take; clients may shorten it.
    fn limit(&self) -> Duration {
        let asked = crate::flags::duration(self.query.get("timeout")).ok().filter(|asked| !asked.is_zero());
        asked.map_or(REQUEST_LIMIT, |asked| asked.min(REQUEST_LIMIT))
    }
}

impl Front {
    /// # Errors
    /// When the metrics cannot be set up.
    pub fn new(parts: Parts) -> Result<Front, prometheus::Error> {
        let Parts { registry, cache, handlers, authenticator, server_address, agent_tls, stopping } = parts;
        Ok(Front {
            discovery: Discovery::new(&registry, &server_address),
            openapi: OpenApi::new(registry.clone()),
            health: Health::new(cache.clone(), stopping.clone()),
            metrics: Metrics::new()?,
            objects: Objects { cache, registry: registry.clone() },
            forwarder: Forwarder::new(agent_tls, stopping.clone()),
            in_flight: Semaphore::new(MOST_IN_FLIGHT),
            registry,
            handlers,
            authenticator,
            stopping,
        })
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Answers a request, whatever it is.
    pub fn answer<'a, B>(&'a self, request: Request<B>, peer: &'a Peer) -> BoxFuture<'a, Response<Body>>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        Box::pin(self.answer_parts(parts, body.map_err(Into::into).boxed_unsync(), peer))
    }

    async fn answer_parts(
        &self,
        mut parts: http::request::Parts,
        body: RequestBody,
        peer: &Peer,
    ) -> Response<Body> {
        let audit_id = Uuid::new_v4().to_string();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let mut answer = match RequestInfo::parse(&parts.method, parts.uri.path(), &query) {
            Err(error) => response::error(&error, Encoding::Json),
            Ok(info) => {
                let upgrade = Mutex::new(parts.extensions.remove::<OnUpgrade>());
                let head = Head {
                    method: parts.method,
                    uri: parts.uri,
                    headers: parts.headers,
                    query,
                    info,
                    upgrade,
                };
                self.observe(&head, body, peer, &audit_id).await
            }
        };
        if let Ok(id) = HeaderValue::from_str(&audit_id) {
            answer.headers_mut().insert(AUDIT_ID, id);
        }
        answer
    }

    /// Counts and logs what is done.
    async fn observe(&self, head: &Head, body: RequestBody, peer: &Peer, audit_id: &str) -> Response<Body> {
        let began = Instant::now();
        let labels = Labels::of(&head.info, &head.method, self.knows(&head.info));
        let resource = head.info.resource.as_ref();
        let is_long_running = resource.is_some_and(|resource| resource.is_long_running(&head.query));
        let user = self.identify(head, peer);
        let name = user.as_ref().map_or("-", |user| &user.name).to_owned();
        let result = match user {
            Err(error) => Err(error),
            Ok(user) if is_long_running => {
                self.handle(head, body, user, Some(self.metrics.enter(&labels))).await
            }
            Ok(user) => self.handle_in_time(head, body, user, peer).await,
        };
        let answer = result.unwrap_or_else(|error| response::error(&error, head.of_errors()));
        let (code, took) = (answer.status().as_u16(), began.elapsed());
        self.metrics.count(&labels, code, Some(took).filter(|_| !is_long_running));
        let (verb, path) = (head.method.as_str(), head.info.path.as_str());
        let milliseconds = took.as_millis();
        if code >= 500 || (took > SLOW && !is_long_running) {
            tracing::warn!(
                verb,
                path,
                code,
                milliseconds,
                user = name,
                audit_id,
                "answered late, or not well"
            );
        } else {
            let user_agent = head.text(USER_AGENT);
            tracing::debug!(verb, path, code, milliseconds, user = name, user_agent, audit_id, "answered");
        }
        answer
    }

    async fn handle_in_time(
        &self,
        head: &Head,
        body: RequestBody,
        user: UserInfo,
        peer: &Peer,
    ) -> Result<Response<Body>, ApiError> {
        // Health has to be told in a crowd, too; and it is our own controllers that the others wait for.
        let is_urgent = head.info.resource.is_none() || matches!(peer, Peer::InProcess);
        let place = self.in_flight.try_acquire();
        if place.is_err() && !is_urgent {
            let message = "too many requests, please try again later";
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
                .with_details(Map::from_iter([("retryAfterSeconds".to_owned(), 1.into())])));
        }
        let handled = self.handle(head, body, user, None);
        tokio::time::timeout(head.limit(), handled).await.unwrap_or_else(|_| {
            let message =
                "Timeout: request did not complete within requested timeout - context deadline exceeded";
            Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message).with_details(Map::new()))
        })
    }

    /// Who asks, and as whom.
    fn identify(&self, head: &Head, peer: &Peer) -> Result<UserInfo, ApiError> {
        let user = self.authenticator.authenticate(peer, &head.text(AUTHORIZATION))?;
        let Some(Impersonation { user: other, needs }) = Impersonation::read(&head.headers)? else {
            return Ok(user);
        };
        needs.iter().try_for_each(|action| authorize(&user, action))?;
        Ok(other)
    }

    async fn handle(
        &self,
        head: &Head,
        body: RequestBody,
        user: UserInfo,
        running: Option<Running>,
    ) -> Result<Response<Body>, ApiError> {
        authorize(&user, &Action::of(&head.info, &head.method, &head.query))?;
        match &head.info.resource {
            Some(info) => self.dispatch(head, info, body, user, running).await,
            None => self.path(head).await,
        }
    }
}
