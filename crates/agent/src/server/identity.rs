//! Who the agent is, and whom it answers.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The name by which API servers know themselves to nodes.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
/// The group that may do everything.
const MASTERS: &str = "system:masters";

/// Why connections cannot be secured.
#[derive(Debug, Error)]
pub(crate) enum IdentityError {
    #[error("making the agent's certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("using the certificate authority of clients")]
    Authority(#[from] rustls::server::VerifierBuilderError),
    #[error("setting up TLS")]
    Tls(#[from] rustls::Error),
}

/// The authorities that sign the certificates of API servers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trust {
    roots: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// From certificates in DER, as they are in a kubeconfig.
    pub(crate) fn in_der(certificates: &[Vec<u8>]) -> Trust {
        Trust { roots: certificates.iter().cloned().map(CertificateDer::from).collect() }
    }

    /// From a file of certificates; none if it has none.
    pub(crate) fn in_pem(pem: &[u8]) -> Trust {
        Trust { roots: CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect() }
    }

    fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.roots.iter().cloned());
        store
    }
}

/// TLS with a certificate of our own making: API servers do not look at it, they know nodes by their addresses. It lives as long
/// as the agent. Clients may come without a certificate; what they may ask for is decided by [`may_ask`].
pub(super) fn server_config(
    node_name: &str,
    addresses: &[IpAddr],
    trust: &Trust,
) -> Result<ServerConfig, IdentityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![node_name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node_name}"));
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
    let certificate = params.self_signed(&key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let roots = trust.store();
    let builder = match roots.is_empty() {
        true => builder.with_no_client_auth(),
        false => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
        }
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key)?;
    // Upgrades are a matter of HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Whether whoever has this certificate, which was found good, may look into pods and run commands in them.
pub(super) fn may_ask(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let subject = certificate.subject();
    let is_api_server = subject.iter_common_name().any(|name| name.as_str() == Ok(API_SERVER));
    is_api_server || subject.iter_organization().any(|name| name.as_str() == Ok(MASTERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str, group: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn api_servers_and_administrators_may_ask() {
        assert!(may_ask(&certificate(API_SERVER, "nobody")));
        assert!(may_ask(&certificate("kubernetes-admin", MASTERS)));
        assert!(!may_ask(&certificate("system:node:node-2", "system:nodes")));
        assert!(!may_ask(&CertificateDer::from(vec![1, 2, 3])));
    }

    #[test]
    fn a_node_is_known_by_its_name_and_addresses() {
        let addresses = ["192.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert!(server_config("node-1", &addresses, &Trust::default()).is_ok());
        let trust = Trust::in_der(&[certificate("ca", "ca").to_vec()]);
        assert!(server_config("node-1", &addresses, &trust).is_ok());
    }
}
