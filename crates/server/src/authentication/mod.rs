//! Who asks: by client certificate, by bearer token, or nobody in particular.

mod certificate;
pub mod impersonation;
pub mod token_file;
pub mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use certificate::{ClientCertificate, ClientVerifier};
use token_file::TokenFile;
use tokens::{Bound, Claims, Tokens};

use crate::status::ApiError;

/// Everybody who is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// May do everything.
pub const MASTERS: &str = "system:masters";
/// The key under which `extra` says by which certificate or token the user is known.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Who makes a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    /// Empty for none.
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    pub fn anonymous() -> UserInfo {
        UserInfo {
            name: "system:anonymous".to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..UserInfo::default()
        }
    }

    /// The server's own controllers.
    pub fn in_process() -> UserInfo {
        let groups = vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()];
        UserInfo { name: "system:apiserver".to_owned(), groups, ..UserInfo::default() }
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The name of the node that this is, if it is one.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
        self.is_in("system:nodes").then_some(name)
    }

    /// As in `status.userInfo` of a SelfSubjectReview.
    pub fn to_json(&self) -> Value {
        let mut user = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            user["uid"] = self.uid.as_str().into();
        }
        if !self.extra.is_empty() {
            user["extra"] = json!(self.extra);
        }
        user
    }

    fn authenticated(mut self) -> UserInfo {
        if !self.is_in(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

/// How a connection presents itself.
#[derive(Debug, Clone)]
pub enum Peer {
    /// The server itself, without a connection.
    InProcess,
    /// `None`: without a certificate.
    Remote { certificate: Option<Arc<ClientCertificate>> },
}

/// What tokens of service accounts are checked against.
pub trait Accounts: std::fmt::Debug + Send + Sync {
    /// The uid of an object; `None` if there is no such object.
    fn uid(&self, resource: &str, namespace: &str, name: &str) -> Option<String>;
}

/// Knows users by what they present.
#[derive(Debug)]
pub struct Authenticator {
    pub token_file: TokenFile,
    pub tokens: Arc<Tokens>,
    pub accounts: Arc<dyn Accounts>,
    pub allows_anonymous: bool,
}

impl Authenticator {
    /// `authorization` is the header of that name; empty for none.
    ///
    /// # Errors
    /// 401 for bad credentials, which are no substitute for none; and for none where everybody has to have some.
    pub fn authenticate(&self, peer: &Peer, authorization: &str) -> Result<UserInfo, ApiError> {
        let certificate = match peer {
            Peer::InProcess => return Ok(UserInfo::in_process()),
            Peer::Remote { certificate } => certificate.as_deref(),
        };
        let now = Timestamp::now();
        if let Some(user) = certificate.and_then(|certificate| certificate.user(now)) {
            return Ok(user.clone().authenticated());
        }
        if let Some(token) = bearer(authorization) {
            let (user, _) = self.token(token, &[], now).ok_or_else(ApiError::unauthorized)?;
            return Ok(user);
        }
        match certificate.is_none() && self.allows_anonymous {
            true => Ok(UserInfo::anonymous()),
            false => Err(ApiError::unauthorized()),
        }
    }

    /// The user of a bearer token, and for which of the audiences it is meant. No audiences stand for this server's.
    pub fn token(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Option<(UserInfo, Vec<String>)> {
        let own = self.tokens.audiences();
        let wanted = if audiences.is_empty() { own } else { audiences };
        if let Some(user) = self.token_file.user(token) {
            // Static tokens are meant for this server.
            let meant: Vec<String> =
                wanted.iter().filter(|audience| own.contains(audience)).cloned().collect();
            return (!meant.is_empty()).then(|| (user.clone().authenticated(), meant));
        }
        let claims = self.tokens.verify(token, wanted, now)?;
        let meant = wanted.iter().filter(|audience| claims.audiences.contains(audience)).cloned().collect();
        Some((self.account(&claims)?.authenticated(), meant))
    }

    /// The user of a token whose service account, and what it is bound to, still exist.
    fn account(&self, claims: &Claims) -> Option<UserInfo> {
        let Claims { namespace, account, account_uid, bound, .. } = claims;
        self.accounts.uid("serviceaccounts", namespace, account).filter(|uid| uid == account_uid)?;
        let mut extra = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![format!("JTI={}", claims.id)])]);
        if let Some(Bound { kind, name, uid }) = bound {
            let (resource, label) = match kind.as_str() {
                "Pod" => ("pods", "pod"),
                "Secret" => ("secrets", "secret"),
                "Node" => ("nodes", "node"),
                _ => return None,
            };
            let of = if kind == "Node" { "" } else { namespace };
            self.accounts.uid(resource, of, name).filter(|own| own == uid)?;
            extra.insert(format!("authentication.kubernetes.io/{label}-name"), vec![name.clone()]);
            extra.insert(format!("authentication.kubernetes.io/{label}-uid"), vec![uid.clone()]);
        }
        let groups = service_account_groups(namespace);
        let name = format!("system:serviceaccount:{namespace}:{account}");
        Some(UserInfo { name, uid: account_uid.clone(), groups, extra })
    }
}

pub(crate) fn service_account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests;
