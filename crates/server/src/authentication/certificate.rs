//! Client certificates: the common name is the user, each organization is a group.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CREDENTIAL_ID, UserInfo};

/// What a client presented in the handshake.
#[derive(Debug)]
pub struct ClientCertificate {
    /// `None` if no authority that is trusted here vouches for it.
    user: Option<UserInfo>,
    /// In seconds since 1970; connections can outlive certificates.
    expires: i64,
}

impl ClientCertificate {
    /// The user, unless the certificate is not good, or no longer.
    pub fn user(&self, now: Timestamp) -> Option<&UserInfo> {
        self.user.as_ref().filter(|_| now.as_second() <= self.expires)
    }

    #[cfg(test)]
    pub(super) fn of(user: Option<UserInfo>) -> ClientCertificate {
        ClientCertificate { user, expires: i64::MAX }
    }
}

/// Takes any certificate in the handshake and judges it afterwards, so that a bad one is told 401 and why, where a
/// broken handshake would tell nothing. That the client has the key is always made sure.
#[derive(Debug)]
pub struct ClientVerifier {
    strict: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    /// # Errors
    /// When there is no root to trust.
    pub fn new(roots: RootCertStore) -> Result<ClientVerifier, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
        Ok(ClientVerifier { strict: builder.build().map_err(|error| error.to_string())? })
    }

    /// Judges the chain that a client presented, its own certificate first; `None` if it presented none.
    pub fn judge(&self, chain: &[CertificateDer<'_>]) -> Option<ClientCertificate> {
        let (own, intermediates) = chain.split_first()?;
        let verified = self.strict.verify_client_cert(own, intermediates, UnixTime::now());
        if let Err(error) = &verified {
            tracing::debug!(%error, "a client certificate is not good");
        }
        let parsed = X509Certificate::from_der(own).ok().map(|(_, certificate)| certificate);
        let expires = parsed.as_ref().map_or(0, |certificate| certificate.validity().not_after.timestamp());
        let user = parsed.filter(|_| verified.is_ok()).and_then(|certificate| user(&certificate, own));
        Some(ClientCertificate { user, expires })
    }
}

/// `None` for a certificate without a common name.
fn user(certificate: &X509Certificate<'_>, der: &[u8]) -> Option<UserInfo> {
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok().filter(|name| !name.is_empty())?;
    let groups = subject.iter_organization().filter_map(|organization| organization.as_str().ok());
    let id: String = Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect();
    Some(UserInfo {
        name: name.to_owned(),
        uid: String::new(),
        groups: groups.map(str::to_owned).collect(),
        extra: [(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={id}")])].into(),
    })
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}
