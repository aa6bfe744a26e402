//! The server's own certificate authority and what it issues: the certificate that it serves with, that of the
//! administrator, and the key that signs tokens. Everything is kept in `--cert-dir` and used again after a restart.

mod files;
mod issue;
pub mod kubeconfig;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::{Span, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

pub use files::write_private;
pub use issue::{Authority, Issued, Subject};

/// Why certificates could not be had.
#[derive(Debug, Error)]
pub enum CertificateError {
    #[error("{doing} {}: {cause}", path.display())]
    File { doing: &'static str, path: PathBuf, cause: String },
    #[error("making {what}: {cause}")]
    Making { what: String, cause: String },
}

impl CertificateError {
    fn file(doing: &'static str, path: &Path, cause: impl ToString) -> CertificateError {
        CertificateError::File { doing, path: path.to_owned(), cause: cause.to_string() }
    }
}

/// A certificate chain with its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Pair {
    /// As TLS takes it. `place` is for errors.
    pub fn to_der(
        &self,
        place: &Path,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        let chain = chain.map_err(|error| CertificateError::file("reading the certificate", place, error))?;
        if chain.is_empty() {
            return Err(CertificateError::file("reading the certificate", place, "there is none in it"));
        }
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| CertificateError::file("reading the key", place, error))?;
        Ok((chain, key))
    }
}

/// All that a server needs.
#[derive(Debug)]
pub struct Certificates {
    /// What clients trust the server by, and the server its clients.
    pub authority: String,
    pub serving: Pair,
    /// Of a member of `system:masters`.
    pub admin: Pair,
    /// What node agents know the server by.
    pub agent_client: Pair,
    /// PKCS #8, in DER.
    pub token_key: Vec<u8>,
}

/// The names that the server answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNames {
    pub dns: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

impl ServerNames {
    /// Those by which clients reach it: in the cluster, on this host, and at the addresses it is reached at.
    pub fn new(host_name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> ServerNames {
        let in_cluster = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ];
        let mut dns: Vec<String> = in_cluster.map(str::to_owned).into();
        let host_name = host_name.to_lowercase();
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if host_name.split('.').all(is_label) && !dns.contains(&host_name) {
            dns.push(host_name);
        }
        let mut own: Vec<IpAddr> = vec![IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()];
        for address in addresses {
            if !address.is_unspecified() && !own.contains(&address) {
                own.push(address);
            }
        }
        ServerNames { dns, addresses: own }
    }
}

/// Takes what is in `directory` as far as it is good, and makes the rest.
///
/// # Errors
/// When the directory cannot be read or written, or holds an authority that cannot be used: it is never replaced, since
/// every client would have to be told.
pub fn prepare(
    directory: &Path,
    names: &ServerNames,
    now: Timestamp,
) -> Result<Certificates, CertificateError> {
    files::make_directory(directory)?;
    let authority = authority(directory, now)?;
    let serving = kept(directory, "apiserver", &authority, Subject::Server(names), now)?;
    let admin = Subject::Client { name: "kubernetes-admin", groups: &["system:masters"] };
    let admin = kept(directory, "admin", &authority, admin, now)?;
    let agent_client = Subject::Client { name: "kube-apiserver-kubelet-client", groups: &["system:masters"] };
    let agent_client = kept(directory, "apiserver-kubelet-client", &authority, agent_client, now)?;
    Ok(Certificates {
        authority: authority.pem().to_owned(),
        serving,
        admin,
        agent_client,
        token_key: token_key(directory)?,
    })
}

fn authority(directory: &Path, now: Timestamp) -> Result<Authority, CertificateError> {
    let (certificate, key) = paths(directory, "ca");
    if let Some(pair) = files::read_pair(&certificate, &key)? {
        return Authority::read(&pair).map_err(|cause| {
            let cause = format!(
                "{cause}; to begin anew, remove the directory: all clients need new kubeconfigs then"
            );
            CertificateError::file("reading the certificate authority", &certificate, cause)
        });
    }
    let authority = Authority::make(now)?;
    files::write_pair(&certificate, &key, authority.pair())?;
    Ok(authority)
}

/// The pair of that name, made anew when it is missing, not of this authority, for other names, or soon to expire.
fn kept(
    directory: &Path,
    name: &str,
    authority: &Authority,
    subject: Subject<'_>,
    now: Timestamp,
) -> Result<Pair, CertificateError> {
    let (certificate, key) = paths(directory, name);
    if let Some(pair) = files::read_pair(&certificate, &key)?
        && let Some(issued) = Issued::read(&pair)
    {
        // A month is long enough for whoever is to be told of the new one.
        let good_until = now.checked_add(Span::new().hours(30 * 24)).unwrap_or(now);
        if issued.is_from(authority) && issued.is_for(subject) && issued.expires > good_until {
            return Ok(pair);
        }
        tracing::info!(certificate = %certificate.display(), "renewing a certificate");
    }
    let pair = authority.issue(subject, now)?;
    files::write_pair(&certificate, &key, &pair)?;
    Ok(pair)
}

fn token_key(directory: &Path) -> Result<Vec<u8>, CertificateError> {
    let path = directory.join("service-account.key");
    let pem = match files::read(&path)? {
        Some(pem) => pem,
        None => {
            let pem = issue::key()?.serialize_pem();
            files::write_private(&path, pem.as_bytes())?;
            pem
        }
    };
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| CertificateError::file("reading the key of service accounts", &path, error))?;
    Ok(key.secret_der().to_vec())
}

fn paths(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")))
}

#[cfg(test)]
mod tests;
