//! Connections to those who answer in our place.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{BoxError, Destination, Security};

/// For a connection and its handshake; upstream's.
const DIAL_LIMIT: Duration = Duration::from_secs(30);

/// Why nobody answers.
#[derive(Debug, Error)]
pub enum DialError {
    #[error("dial tcp {address}: {cause}")]
    Connect { address: String, cause: io::Error },
    #[error("dial tcp {address}: no connection within {} s", DIAL_LIMIT.as_secs())]
    TimedOut { address: String },
    #[error("TLS with {address}: {cause}")]
    Tls { address: String, cause: io::Error },
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

/// How connections are secured.
#[derive(Clone)]
pub struct AgentTls {
    agents: Arc<ClientConfig>,
    unverified: Arc<ClientConfig>,
}

impl fmt::Debug for AgentTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentTls")
    }
}

impl AgentTls {
    /// With the certificate that agents know us by. Without `roots` any certificate of theirs is accepted, as upstream does: they
    /// make their own.
    ///
    /// # Errors
    /// If the key is not that of the certificate.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Option<RootCertStore>,
    ) -> Result<AgentTls, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            || ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let anybody = Arc::new(Anybody(provider.clone()));
        let agents = match roots {
            Some(roots) => builder()?.with_root_certificates(roots),
            None => builder()?.dangerous().with_custom_certificate_verifier(anybody.clone()),
        };
        let agents = agents.with_client_auth_cert(chain, key)?;
        let unverified =
            builder()?.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth();
        Ok(AgentTls { agents: Arc::new(agents), unverified: Arc::new(unverified) })
    }

    /// Asks over a connection of its own; the answer as soon as it begins.
    pub(super) async fn ask(
        &self,
        destination: &Destination,
        request: Request<UnsyncBoxBody<Bytes, BoxError>>,
    ) -> Result<Response<Incoming>, DialError> {
        let address = format!("{}:{}", destination.host, destination.port);
        let connect = async {
            let connect = TcpStream::connect((destination.host.as_str(), destination.port));
            let stream =
                connect.await.map_err(|cause| DialError::Connect { address: address.clone(), cause })?;
            // A key typed in a shell is a packet.
            let _ = stream.set_nodelay(true);
            let config = match destination.security {
                Security::None => return Ok::<_, DialError>(Box::new(stream) as Box<dyn Stream>),
                Security::Agent => self.agents.clone(),
                Security::Unverified => self.unverified.clone(),
            };
            let tls = |cause: io::Error| DialError::Tls { address: address.clone(), cause };
            let name = ServerName::try_from(destination.host.clone())
                .map_err(|error| tls(io::Error::other(error)))?;
            let stream = TlsConnector::from(config).connect(name, stream).await.map_err(tls)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        };
        let stream = tokio::time::timeout(DIAL_LIMIT, connect).await;
        let stream = stream.map_err(|_| DialError::TimedOut { address: address.clone() })??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to another server ended");
            }
        });
        Ok(sender.send_request(request).await?)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Takes any certificate. That the other side has its key is checked all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
