//! Tokens of service accounts: signed JSON (JWT, ES256) that says who one is, and until when.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Who signs, and for whom tokens are meant that do not say, as in every cluster with the default domain.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Far longer than any token that is issued; what is longer is not looked at.
const MOST_BYTES: usize = 16 * 1024;
/// Seconds by which the clocks of servers that share a key may differ.
const LEEWAY: i64 = 10;

/// Signs and checks tokens with one key.
pub struct Tokens {
    key: EcdsaKeyPair,
    /// Which key signed: the hash of its public half.
    key_id: String,
    random: SystemRandom,
    audiences: Vec<String>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Tells this token from all others.
    pub id: String,
    pub namespace: String,
    pub account: String,
    pub account_uid: String,
    /// What the token ends with.
    pub bound: Option<Bound>,
    pub audiences: Vec<String>,
    /// In seconds since 1970.
    pub issued: i64,
    pub expires: i64,
}

/// An object without which a token is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// `Pod`, `Secret` or `Node`.
    pub kind: String,
    pub name: String,
    pub uid: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Encoded {
    aud: Audience,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Private,
    nbf: i64,
    sub: String,
}

/// One is written as a text by some issuers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    Many(Vec<String>),
    One(String),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Private {
    namespace: String,
    serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Reference>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Reference {
    name: String,
    uid: String,
}

impl Tokens {
    /// `pkcs8` is the DER of a P-256 key.
    ///
    /// # Errors
    /// When it is no such key.
    pub fn new(pkcs8: &[u8]) -> Result<Tokens, String> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|error| error.to_string())?;
        let key_id = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(key.public_key()));
        Ok(Tokens { key, key_id, random, audiences: vec![ISSUER.to_owned()] })
    }

    /// This server's own.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The token that says so.
    ///
    /// # Errors
    /// When there is no randomness to sign with.
    pub fn issue(&self, claims: &Claims) -> Result<String, String> {
        let mut kubernetes = Private {
            namespace: claims.namespace.clone(),
            serviceaccount: Reference { name: claims.account.clone(), uid: claims.account_uid.clone() },
            ..Private::default()
        };
        if let Some(Bound { kind, name, uid }) = &claims.bound {
            let reference = Some(Reference { name: name.clone(), uid: uid.clone() });
            match kind.as_str() {
                "Secret" => kubernetes.secret = reference,
                "Node" => kubernetes.node = reference,
                _ => kubernetes.pod = reference,
            }
        }
        let payload = Encoded {
            aud: Audience::Many(claims.audiences.clone()),
            exp: claims.expires,
            iat: claims.issued,
            iss: ISSUER.to_owned(),
            jti: claims.id.clone(),
            kubernetes,
            nbf: claims.issued,
            sub: format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
        };
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let payload = serde_json::to_value(&payload).map_err(|error| error.to_string())?;
        let message = format!("{}.{}", part(&header), part(&payload));
        let signature = self.key.sign(&self.random, message.as_bytes()).map_err(|error| error.to_string())?;
        Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// What a token says, if it was signed here, is in force, and is meant for one of the audiences. Whether what it
    /// names still exists is for the caller to see.
    pub fn verify(&self, token: &str, audiences: &[String], now: Timestamp) -> Option<Claims> {
        if token.len() > MOST_BYTES {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let header: Header = read(header)?;
        if header.alg != "ES256" {
            return None;
        }
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key());
        public.verify(message.as_bytes(), &signature).ok()?;
        let payload: Encoded = read(payload)?;
        let meant_for = match payload.aud {
            Audience::Many(audiences) => audiences,
            Audience::One(audience) => vec![audience],
        };
        let now = now.as_second();
        let is_in_force = now < payload.exp && payload.nbf.saturating_sub(LEEWAY) <= now;
        let is_meant = audiences.iter().any(|audience| meant_for.contains(audience));
        if payload.iss != ISSUER || !is_in_force || !is_meant {
            return None;
        }
        let Private { namespace, serviceaccount, pod, secret, node } = payload.kubernetes;
        let bound = [("Pod", pod), ("Secret", secret), ("Node", node)].into_iter();
        let bound = bound.filter_map(|(kind, reference)| {
            reference.map(|Reference { name, uid }| Bound { kind: kind.to_owned(), name, uid })
        });
        Some(Claims {
            id: payload.jti,
            namespace,
            account: serviceaccount.name,
            account_uid: serviceaccount.uid,
            bound: bound.into_iter().next(),
            audiences: meant_for,
            issued: payload.iat,
            expires: payload.exp,
        })
    }
}

fn part(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

fn read<T: for<'a> Deserialize<'a>>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn tokens() -> Tokens {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Tokens::new(document.as_ref()).unwrap()
    }

    pub(crate) fn claims(now: Timestamp) -> Claims {
        Claims {
            id: "1".to_owned(),
            namespace: "default".to_owned(),
            account: "builder".to_owned(),
            account_uid: "u1".to_owned(),
            bound: None,
            audiences: vec![ISSUER.to_owned()],
            issued: now.as_second(),
            expires: now.as_second() + 600,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::testing::{claims, tokens};
    use super::*;

    #[test]
    fn a_token_says_what_it_was_issued_for() {
        let (tokens, now) = (tokens(), Timestamp::now());
        let bound = Bound { kind: "Pod".to_owned(), name: "p".to_owned(), uid: "u2".to_owned() };
        let claims = Claims { bound: Some(bound), ..claims(now) };
        let token = tokens.issue(&claims).unwrap();
        assert_eq!(tokens.verify(&token, tokens.audiences(), now), Some(claims));
    }

    #[test]
    fn tokens_end_and_are_for_their_audiences_only() {
        let (tokens, now) = (tokens(), Timestamp::now());
        let token = tokens.issue(&claims(now)).unwrap();
        assert!(tokens.verify(&token, tokens.audiences(), now + 601.seconds()).is_none());
        assert!(tokens.verify(&token, tokens.audiences(), now - 60.seconds()).is_none());
        assert!(tokens.verify(&token, &["vault".to_owned()], now).is_none());
    }

    #[test]
    fn forged_tokens_are_worth_nothing() {
        let (tokens, now) = (tokens(), Timestamp::now());
        let verify = |token: &str| tokens.verify(token, tokens.audiences(), now);
        let token = tokens.issue(&claims(now)).unwrap();
        assert!(verify(&testing::tokens().issue(&claims(now)).unwrap()).is_none(), "signed by another key");
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        let other = Claims { account: "admin".to_owned(), ..claims(now) };
        let other = tokens.issue(&other).unwrap();
        let (other_message, _) = other.rsplit_once('.').unwrap();
        assert!(verify(&format!("{other_message}.{signature}")).is_none(), "another's signature");
        let none = part(&json!({"alg": "none"}));
        let payload = message.strip_prefix(header).unwrap();
        assert!(verify(&format!("{none}{payload}.")).is_none(), "no signature");
        for junk in ["", ".", "..", "a.b.c", "a.b"] {
            assert!(verify(junk).is_none(), "{junk:?}");
        }
    }
}
