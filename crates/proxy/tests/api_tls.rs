//! TLS with client certificates, as a kubeconfig describes it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Helpers of tests fail as tests do.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use switchyard_proxy::client::{ApiClient, ClientSettings, RequestError, install_crypto};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn file(name: &str) -> String {
    format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file(name)).unwrap()
}

/// Answers every request with an empty object, but only clients with a certificate.
async fn start_server() -> SocketAddr {
    install_crypto();
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).unwrap();
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate("server.pem")], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

/// Makes a request with a kubeconfig that trusts `ca` and whose user is `user`.
async fn request(folder: &Path, address: SocketAddr, ca: &str, user: &str) -> Result<(), RequestError> {
    let kubeconfig = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         contexts: [{{name: here, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://{address}', certificate-authority: '{}'}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\n",
        file(ca)
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let settings = ClientSettings { kubeconfig, ..ClientSettings::default() };
    ApiClient::new(settings, None).await.unwrap().get("/version").await.map(drop)
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn a_client_certificate_from_files_is_accepted() {
    let (address, folder) = (start_server().await, folder());
    let user = format!("client-certificate: '{}', client-key: '{}'", file("client.pem"), file("client.key"));
    request(folder.path(), address, "ca.pem", &user).await.unwrap();
}

#[tokio::test]
async fn without_a_client_certificate_the_server_is_not_reached() {
    let (address, folder) = (start_server().await, folder());
    let error = request(folder.path(), address, "ca.pem", "").await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot reach the API server at {address}: ")), "{error}");
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused_and_the_reason_told() {
    let (address, folder) = (start_server().await, folder());
    let error = request(folder.path(), address, "other-ca.pem", "").await.unwrap_err().to_string();
    assert!(error.contains("certificate") && !error.contains('\n'), "{error}");
}
