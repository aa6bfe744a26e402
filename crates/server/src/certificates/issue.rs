//! Making certificates, and reading back what was made.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CertificateError, Pair, ServerNames};

/// In seconds.
const DAY: u64 = 24 * 3600;
const AUTHORITY_DAYS: u64 = 3650;
const CERTIFICATE_DAYS: u64 = 365;

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    Server(&'a ServerNames),
    Client { name: &'a str, groups: &'a [&'a str] },
}

impl Subject<'_> {
    fn common_name(&self) -> &str {
        match self {
            Subject::Server(_) => "kube-apiserver",
            Subject::Client { name, .. } => name,
        }
    }
}

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn make(now: Timestamp) -> Result<Authority, CertificateError> {
        let failed = |error: rcgen::Error| making("a certificate authority", error);
        let key = key()?;
        let mut params = params("switchyard-ca", &[], now, AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
        Ok(Authority { pair, issuer: Issuer::new(params, key) })
    }

    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(pair: &Pair) -> Result<Authority, String> {
        let key = KeyPair::from_pem(&pair.key).map_err(|error| error.to_string())?;
        if !matches_key(&pair.certificate, &key) {
            return Err("the key is not that of the certificate".to_owned());
        }
        let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key).map_err(|error| error.to_string())?;
        Ok(Authority { pair: pair.clone(), issuer })
    }

    pub fn pem(&self) -> &str {
        &self.pair.certificate
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// A certificate that is good for a year.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn issue(&self, subject: Subject<'_>, now: Timestamp) -> Result<Pair, CertificateError> {
        let name = subject.common_name();
        let failed = |error: rcgen::Error| making(name, error);
        let key = key()?;
        let groups = if let Subject::Client { groups, .. } = subject { groups } else { &[] };
        let mut params = params(name, groups, now, CERTIFICATE_DAYS);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![match subject {
            Subject::Server(_) => ExtendedKeyUsagePurpose::ServerAuth,
            Subject::Client { .. } => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        if let Subject::Server(ServerNames { dns, addresses }) = subject {
            for name in dns {
                params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
            }
            params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// P-256: small, fast, and known to every client.
pub(super) fn key() -> Result<KeyPair, CertificateError> {
    KeyPair::generate().map_err(|error| making("a key", error))
}

fn making(what: &str, cause: impl ToString) -> CertificateError {
    CertificateError::Making { what: what.to_owned(), cause: cause.to_string() }
}

fn params(name: &str, groups: &[&str], now: Timestamp, days: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    for group in groups {
        subject.push(DnType::OrganizationName, *group);
    }
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let now = u64::try_from(now.as_second()).unwrap_or_default();
    let at = |second: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(second);
    // An hour back, for clients whose clock is slow.
    params.not_before = at(now.saturating_sub(3600));
    params.not_after = at(now.saturating_add(days.saturating_mul(DAY)));
    params
}

/// What is known of a certificate that was issued before.
#[derive(Debug)]
pub struct Issued {
    der: CertificateDer<'static>,
    pub expires: Timestamp,
}

impl Issued {
    /// `None` if it cannot be read, or the key is another's.
    pub(super) fn read(pair: &Pair) -> Option<Issued> {
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok()?;
        let key = KeyPair::from_pem(&pair.key).ok()?;
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let expires = Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?;
        matches_key(&pair.certificate, &key).then_some(Issued { der, expires })
    }

    pub(super) fn is_from(&self, authority: &Authority) -> bool {
        let Ok(issuer) = CertificateDer::from_pem_slice(authority.pem().as_bytes()) else { return false };
        let (Ok((_, issuer)), Some(own)) = (X509Certificate::from_der(&issuer), self.parsed()) else {
            return false;
        };
        own.issuer() == issuer.subject() && is_signed_by(&own, &issuer)
    }

    pub(super) fn is_for(&self, subject: Subject<'_>) -> bool {
        let Some(own) = self.parsed() else { return false };
        let name = own.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        if name != Some(subject.common_name()) {
            return false;
        }
        match subject {
            Subject::Client { groups, .. } => {
                let own = own.subject().iter_organization().filter_map(|group| group.as_str().ok());
                own.eq(groups.iter().copied())
            }
            Subject::Server(wanted) => names(&own) == *wanted,
        }
    }

    fn parsed(&self) -> Option<X509Certificate<'_>> {
        X509Certificate::from_der(&self.der).ok().map(|(_, certificate)| certificate)
    }
}

fn names(certificate: &X509Certificate<'_>) -> ServerNames {
    let mut names = ServerNames { dns: Vec::new(), addresses: Vec::new() };
    let extension = certificate.subject_alternative_name().ok().flatten();
    for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
            _ => {}
        }
    }
    names
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

fn matches_key(certificate: &str, key: &KeyPair) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(certificate.as_bytes()) else { return false };
    X509Certificate::from_der(&der).is_ok_and(|(_, certificate)| {
        certificate.public_key().subject_public_key.data == key.public_key_raw()
    })
}

/// Authorities of ours are P-256; another one's certificates are made anew.
fn is_signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &issuer.public_key().subject_public_key.data);
    key.verify(certificate.tbs_certificate.as_ref(), &certificate.signature_value.data).is_ok()
}
