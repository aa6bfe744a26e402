//! One look at a container over the network. All are made from the node.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ContainerPort, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Target;

/// How much of an answer is read: all that an event could show of it.
const MAX_BODY: usize = 10 << 10;

/// GETs a page of a container; its text.
///
/// # Errors
/// In words for an event, as kubelet has them.
pub(crate) async fn http_get(
    target: &Target,
    action: &HTTPGetAction,
    ports: &[ContainerPort],
    limit: Duration,
) -> Result<String, String> {
    let port = port(&action.port, ports)?;
    let host = host(action.host.as_deref(), target.address)?;
    let is_https = action.scheme.as_deref() == Some("HTTPS");
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let url = format!("{}://{}{path}", if is_https { "https" } else { "http" }, authority(&host, port));
    let failed = |cause: String| format!("Get {url:?}: {cause}");
    let look = async {
        let stream =
            TcpStream::connect((host.as_str(), port)).await.map_err(|error| failed(error.to_string()))?;
        let request = request(&authority(&host, port), &path, action).map_err(failed)?;
        let answer = match is_https {
            true => {
                let stream =
                    unverified_tls(&host, stream).await.map_err(|error| failed(error.to_string()))?;
                ask(stream, request).await
            }
            false => ask(stream, request).await,
        };
        answer.map_err(failed)
    };
    let late =
        || failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned());
    let (status, body) = timeout(limit, look).await.map_err(|_| late())??;
    match status.as_u16() {
        200..400 => Ok(body),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

/// Connects to a port of a container.
///
/// # Errors
/// In words for an event.
pub(crate) async fn tcp_connect(
    target: &Target,
    action: &TCPSocketAction,
    ports: &[ContainerPort],
    limit: Duration,
) -> Result<String, String> {
    let port = port(&action.port, ports)?;
    let host = host(action.host.as_deref(), target.address)?;
    let failed = |cause: String| format!("dial tcp {}: {cause}", authority(&host, port));
    match timeout(limit, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => Ok(String::new()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("i/o timeout".to_owned())),
    }
}

/// A port by number, or by its name in the container.
fn port(port: &IntOrString, ports: &[ContainerPort]) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = ports.iter().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let shown = || match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    let valid = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    valid.ok_or_else(|| format!("the container has no port {:?}", shown()))
}

fn host(named: Option<&str>, address: Option<IpAddr>) -> Result<String, String> {
    let named = named.filter(|name| !name.is_empty()).map(|name| name.trim_matches(['[', ']']).to_owned());
    named
        .or_else(|| address.map(|address| address.to_string()))
        .ok_or_else(|| "the pod has no address".to_owned())
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn request(authority: &str, path: &str, action: &HTTPGetAction) -> Result<Request<Empty<Bytes>>, String> {
    let mut headers = HeaderMap::new();
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("kube-probe/1.36 switchyard/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for header in action.http_headers.iter().flatten() {
        let name: HeaderName =
            header.name.parse().map_err(|_| format!("{:?} is no name for a header", header.name))?;
        let value: HeaderValue =
            header.value.parse().map_err(|_| format!("the value of header {:?} is none", header.name))?;
        headers.insert(name, value);
    }
    if !headers.contains_key(HOST) {
        headers.insert(HOST, HeaderValue::from_str(authority).map_err(|error| error.to_string())?);
    }
    // One look, one connection: a new one is a part of what is probed.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut request = Request::get(path).body(Empty::new()).map_err(|error| error.to_string())?;
    *request.headers_mut() = headers;
    Ok(request)
}

async fn ask<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(StatusCode, String), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| crate::core::one_line(&error))?;
        let status = response.status();
        // One that is longer was answered all the same.
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let result = answer.await;
    connection.abort();
    result
}

/// A probe asks whether somebody answers, not who: pods have certificates of their own making.
async fn unverified_tls(
    host: &str,
    stream: TcpStream,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    use rustls::pki_types::ServerName;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(anybody::Anybody(provider.clone()));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

mod anybody {
    //! Takes every certificate.

    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct Anybody(pub(super) Arc<CryptoProvider>);

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp_response: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
