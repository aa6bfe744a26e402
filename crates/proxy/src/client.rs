//! The way to the API server: where it is, who we are, and how often we may ask.
//!
//! `kube` is the transport (TLS, every kind of credentials, proxies); requests and answers are our own. Answers are
//! always asked for as JSON, whatever content type the configuration names: that setting never changes what arrives.

mod http_proxy;
mod rate_limit;
mod settings;
mod token_file;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use serde::Deserialize;

use crate::config::Configuration;
use crate::flags::KUBERNETES_VERSION;
use crate::logging::error;
use crate::metrics::Metrics;
use crate::{klog_info, klog_warning};
use rate_limit::RateLimiter;
use settings::Connection;
pub use settings::{ClientError, ClientSettings, install_crypto, user_agent};

/// The longest error answer that is read.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// For an answer to begin, and for a short one to arrive whole.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two tries to read the credentials again.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the API server answered {code}: {message}")]
    Status { code: u16, message: String },
    #[error("cannot reach the API server at {host}: {source}")]
    Transport { host: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the API server at {host} did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout { host: String },
}

/// A connection to one API server, shared by all that talk to it.
#[derive(Clone)]
pub struct ApiClient {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ClientSettings,
    host: String,
    user_agent: HeaderValue,
    limiter: RateLimiter,
    metrics: Option<Arc<Metrics>>,
    transport: Mutex<Transport>,
}

/// Replaced as a whole when credentials are read again.
struct Transport {
    connection: Connection,
    renewed: Instant,
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient").field("host", &self.inner.host).finish_non_exhaustive()
    }
}

impl ApiClient {
    /// To the API server that the configuration names.
    pub async fn configured(
        config: &Configuration,
        metrics: Option<Arc<Metrics>>,
    ) -> Result<ApiClient, ClientError> {
        let connection = &config.client_connection;
        let settings = ClientSettings {
            kubeconfig: connection.kubeconfig.clone().unwrap_or_default(),
            master: config.master.clone().unwrap_or_default(),
            qps: connection.qps,
            burst: connection.burst,
            user_agent: user_agent(KUBERNETES_VERSION),
        };
        ApiClient::new(settings, metrics).await
    }

    /// Reads the credentials and prepares the connection; nothing is sent yet. Must be called within a runtime.
    pub async fn new(
        settings: ClientSettings,
        metrics: Option<Arc<Metrics>>,
    ) -> Result<ApiClient, ClientError> {
        install_crypto();
        if settings.is_in_cluster() {
            klog_info!(
                "Neither kubeconfig file nor master URL was specified. Falling back to in-cluster config"
            );
        }
        let config = settings.load().await?;
        let host = host_of(&config.cluster_url);
        let connection = Connection::new(config)?;
        if let Some(metrics) = &metrics {
            metrics.client.transport_created();
        }
        let inner = Inner {
            user_agent: settings.user_agent_header(),
            limiter: RateLimiter::new(settings.qps, settings.burst),
            transport: Mutex::new(Transport { connection, renewed: Instant::now() }),
            host,
            settings,
            metrics,
        };
        Ok(ApiClient { inner: Arc::new(inner) })
    }

    /// The server's host and port, as in its URL.
    pub fn host(&self) -> &str {
        &self.inner.host
    }

    /// Sends a GET and returns a successful answer as soon as it begins.
    pub async fn get(&self, uri: &str) -> Result<Response<Body>, RequestError> {
        self.send(Method::GET, uri, Vec::new()).await
    }

    /// Creates the object that `json` is.
    pub async fn create(&self, uri: &str, json: Vec<u8>) -> Result<(), RequestError> {
        self.send(Method::POST, uri, json).await.map(drop)
    }

    /// To be called with the size of an answer's body once that has ended.
    pub fn answer_sized(&self, bytes: u64) {
        if let Some(metrics) = &self.inner.metrics {
            metrics.client.response_sized(&self.inner.host, "GET", bytes);
        }
    }

    async fn send(&self, method: Method, uri: &str, body: Vec<u8>) -> Result<Response<Body>, RequestError> {
        let inner = &*self.inner;
        let waited = inner.limiter.acquire().await;
        let started = Instant::now();
        if let Some(metrics) = &inner.metrics {
            metrics.client.rate_limited(&inner.host, method.as_str(), waited);
            metrics.client.request_sized(&inner.host, method.as_str(), body.len() as u64);
        }
        let result = tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(&method, uri, body)).await;
        let result = result.unwrap_or_else(|_| Err(RequestError::Timeout { host: inner.host.clone() }));
        if let Some(metrics) = &inner.metrics {
            let code = match &result {
                Ok(response) => response.status().as_u16().to_string(),
                Err(RequestError::Status { code, .. }) => code.to_string(),
                Err(_) => "<error>".to_owned(),
            };
            metrics.client.request_finished(&inner.host, method.as_str(), &code, started.elapsed());
        }
        if let Err(RequestError::Status { code: 401, .. } | RequestError::Transport { .. }) = &result {
            self.renew_credentials().await;
        }
        result
    }

    async fn exchange(
        &self,
        method: &Method,
        uri: &str,
        body: Vec<u8>,
    ) -> Result<Response<Body>, RequestError> {
        let transport_error = |source| RequestError::Transport { host: self.inner.host.clone(), source };
        let Connection { client, token_file } = self.transport().connection.clone();
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, &self.inner.user_agent)
            .body(Body::from(body))
            .map_err(|error| transport_error(error.into()))?;
        if let Some(token_file) = token_file {
            request.headers_mut().insert(AUTHORIZATION, token_file.authorization());
        }
        let response = client.send(request).await.map_err(|error| transport_error(root_cause(error)))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    fn transport(&self) -> std::sync::MutexGuard<'_, Transport> {
        self.inner.transport.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the credentials again: certificates are rotated in place, and exec plugins hand out short-lived ones.
    async fn renew_credentials(&self) {
        {
            let mut transport = self.transport();
            if transport.renewed.elapsed() < RENEWAL_INTERVAL {
                return;
            }
            transport.renewed = Instant::now();
        }
        let renewed = match self.inner.settings.load().await {
            Ok(config) => Connection::new(config),
            Err(error) => Err(error),
        };
        match renewed {
            Ok(connection) => self.transport().connection = connection,
            Err(reason) => {
                klog_warning!("Cannot renew the API credentials, keeping the old ones", err = error(&reason));
            }
        }
    }
}

/// What an answer other than success says.
async fn refusal(response: Response<Body>) -> RequestError {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ERROR_BYTES).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let message = match serde_json::from_slice::<Status>(&body) {
        Ok(Status { message }) => message,
        Err(_) => status.canonical_reason().unwrap_or("no reason given").to_owned(),
    };
    RequestError::Status { code: status.as_u16(), message }
}

/// The innermost error: kube's and hyper's own layers only say that a request or a connection failed.
fn root_cause(error: kube::Error) -> Box<dyn std::error::Error + Send + Sync> {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().into()
}

fn host_of(url: &http::Uri) -> String {
    let authority = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
