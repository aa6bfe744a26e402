//! Calls to etcd's JSON gateway.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use super::EtcdSettings;
use crate::store::StoreError;

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// etcd itself gives a proposal up after some 7 s.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A member that is gone without a word is noticed by asking.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A client of all members of an etcd.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    urls: Vec<Uri>,
    /// The member that answered last.
    current: AtomicUsize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(settings: &EtcdSettings) -> Result<Client, StoreError> {
        let urls = settings.urls.iter().map(|url| {
            url.parse::<Uri>().map_err(|error| StoreError {
                doing: format!("reading the URL {url}"),
                cause: error.to_string(),
            })
        });
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        connector.set_keepalive(Some(KEEP_ALIVE));
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(settings)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http =
            legacy::Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Ok(Client { http, urls, current: AtomicUsize::new(0) })
    }

    /// Sends a message and gives the answer.
    pub(super) async fn call(&self, doing: &str, path: &str, message: &Value) -> Result<Value, StoreError> {
        let call = async {
            let (url, answer) = self.send(doing, path, message).await?;
            let failed = |cause: String| failed(doing, &url, cause);
            let status = answer.status();
            let body =
                answer.into_body().collect().await.map_err(|error| failed(text_of(&error)))?.to_bytes();
            let value: Value = serde_json::from_slice(&body).unwrap_or_default();
            match status {
                StatusCode::OK => Ok(value),
                status => Err(failed(complaint(status, &value))),
            }
        };
        match tokio::time::timeout(CALL_LIMIT, call).await {
            Ok(result) => result,
            Err(_) => Err(StoreError {
                doing: doing.to_owned(),
                cause: format!(
                    "no answer within {} s; is most of the etcd cluster there?",
                    CALL_LIMIT.as_secs()
                ),
            }),
        }
    }

    /// Sends a message whose answer has no end.
    pub(super) async fn stream(
        &self,
        doing: &str,
        path: &str,
        message: &Value,
    ) -> Result<(Uri, Incoming), StoreError> {
        let sent = tokio::time::timeout(CALL_LIMIT, self.send(doing, path, message)).await;
        let (url, answer) = sent.unwrap_or_else(|_| {
            Err(StoreError {
                doing: doing.to_owned(),
                cause: format!("no answer within {} s", CALL_LIMIT.as_secs()),
            })
        })?;
        match answer.status() {
            StatusCode::OK => Ok((url, answer.into_body())),
            status => Err(failed(doing, &url, complaint(status, &Value::Null))),
        }
    }

    /// Goes on to the next member only if none has got the message: a write must not be carried out twice.
    async fn send(
        &self,
        doing: &str,
        path: &str,
        message: &Value,
    ) -> Result<(Uri, Response<Incoming>), StoreError> {
        let body = Bytes::from(message.to_string());
        let first = self.current.load(Ordering::Relaxed);
        let mut error =
            StoreError { doing: doing.to_owned(), cause: "there is no URL in --etcd-servers".to_owned() };
        for index in (0..self.urls.len()).map(|step| (first + step) % self.urls.len()) {
            let Some(url) = self.urls.get(index) else { continue };
            let target = format!("{}{path}", url.to_string().trim_end_matches('/'));
            let request = Request::post(target)
                .header(CONTENT_TYPE, "application/json")
                // Without it a watch on a member that has lost the others goes silent, and tells nobody.
                .header("Grpc-Metadata-hasleader", "true")
                .body(Full::new(body.clone()))
                .map_err(|cause| failed(doing, url, cause.to_string()))?;
            match self.http.request(request).await {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok((url.clone(), answer));
                }
                Err(cause) if cause.is_connect() => {
                    error = failed(doing, url, format!("{}; is etcd running there?", text_of(&cause)));
                }
                Err(cause) => return Err(failed(doing, url, text_of(&cause))),
            }
        }
        Err(error)
    }
}

fn tls(settings: &EtcdSettings) -> Result<ClientConfig, StoreError> {
    let bad = |path: &Path, cause: &dyn fmt::Display| StoreError {
        doing: format!("reading {}", path.display()),
        cause: cause.to_string(),
    };
    let read = |path: &Path| fs::read(path).map_err(|error| bad(path, &error));
    let mut roots = RootCertStore::empty();
    if let Some(path) = &settings.authority {
        for certificate in CertificateDer::pem_slice_iter(&read(path)?) {
            let certificate = certificate.map_err(|error| bad(path, &error))?;
            roots.add(certificate).map_err(|error| bad(path, &error))?;
        }
    }
    let setting_up = |error: rustls::Error| StoreError {
        doing: "setting up TLS for etcd".to_owned(),
        cause: error.to_string(),
    };
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(setting_up)?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &settings.client else { return Ok(builder.with_no_client_auth()) };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
    let chain = chain.map_err(|error| bad(certificate, &error))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| bad(key, &error))?;
    builder.with_client_auth_cert(chain, private).map_err(setting_up)
}

fn failed(doing: &str, url: &Uri, cause: String) -> StoreError {
    StoreError { doing: format!("{doing} at {url}"), cause }
}

/// What the gateway says of a failure: `{"error": ..., "code": ..., "message": ...}`.
fn complaint(status: StatusCode, answer: &Value) -> String {
    let message = ["message", "error"].into_iter().find_map(|field| answer.get(field)?.as_str());
    match (message, status) {
        (Some(message), _) => message.to_owned(),
        (None, StatusCode::NOT_FOUND) => {
            "it has no JSON gateway; start etcd with --enable-grpc-gateway, in version 3.4 or newer"
                .to_owned()
        }
        (None, status) => status.to_string(),
    }
}

/// An error with its causes, of which the first is rarely the one that helps.
fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
