//! Tokens of lists in pages: from where the next page goes on, and at which revision.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::status::ApiError;
use crate::store::{Key, Revision};

const VERSION: &str = "meta.k8s.io/v1";

/// Opaque to clients; the form is upstream's.
#[derive(Debug, Serialize, Deserialize)]
struct Encoded {
    v: String,
    /// -1: of whatever state there is by then.
    rv: i64,
    start: String,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// `None` when the state of the first page is gone and the client goes on all the same.
    pub(super) revision: Option<Revision>,
    /// The last key of the page before.
    pub(super) after: Key,
}

impl Token {
    /// `prefix` is what all keys of the resource begin with.
    pub(super) fn encode(&self, prefix: &str) -> String {
        let start = self.after.as_str().strip_prefix(prefix).unwrap_or_default();
        let rv = self.revision.and_then(|revision| i64::try_from(revision).ok()).unwrap_or(-1);
        let encoded = Encoded { v: VERSION.to_owned(), rv, start: format!("{start}\0") };
        // Two texts and a number cannot fail to become JSON.
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&encoded).unwrap_or_default())
    }

    pub(super) fn decode(token: &str, prefix: &str) -> Result<Token, ApiError> {
        let bad = |why: &str| ApiError::bad_request(format!("continue key is not valid: {why}"));
        let json = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|error| bad(&error.to_string()))?;
        let encoded: Encoded = serde_json::from_slice(&json).map_err(|error| bad(&error.to_string()))?;
        if encoded.v != VERSION {
            return Err(bad(&format!("server does not recognize this encoded version {:?}", encoded.v)));
        }
        let revision = match encoded.rv {
            -1 => None,
            rv => match Revision::try_from(rv) {
                Ok(revision) if revision > 0 => Some(revision),
                _ => {
                    return Err(bad(&format!(
                        "incorrect encoded start resourceVersion {rv} (version {VERSION})"
                    )));
                }
            },
        };
        let start = encoded.start.strip_suffix('\0').unwrap_or(&encoded.start);
        if start.is_empty() || start.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(bad(&encoded.start));
        }
        Ok(Token { revision, after: Key::from_stored(&format!("{prefix}{start}")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/registry/core/services/";

    #[test]
    fn tokens_come_back_as_they_were() {
        for revision in [Some(7), None] {
            let token = Token { revision, after: Key::object("", "services", "default", "web") };
            assert_eq!(Token::decode(&token.encode(PREFIX), PREFIX), Ok(token));
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let forged = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        let bad = [
            "!".to_owned(),
            forged("{}"),
            forged(r#"{"v":"v0","rv":1,"start":"a"}"#),
            forged(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
            forged(r#"{"v":"meta.k8s.io/v1","rv":-2,"start":"a"}"#),
            forged(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../secrets/a"}"#),
            forged(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
        ];
        for token in bad {
            let error = Token::decode(&token, PREFIX).unwrap_err();
            assert_eq!((error.code.as_u16(), error.reason), (400, "BadRequest"), "{token}");
            assert!(error.message.starts_with("continue key is not valid: "), "{}", error.message);
        }
    }
}
