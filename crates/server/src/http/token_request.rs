//! Tokens for service accounts: `serviceaccounts/NAME/token`.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::objects::Objects;
use super::reviews::seconds;
use crate::authentication::tokens::{Bound, Claims, Tokens};
use crate::authorization::node::Objects as _;
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Subresource, SubresourceWrite};
use crate::status::{ApiError, Subject};

pub const SUBRESOURCE: Subresource = Subresource {
    name: "token",
    verbs: &["create"],
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenRequest",
    write: SubresourceWrite::Own,
};

/// In seconds.
const DEFAULT_LIFE: i64 = 3600;
const LEAST_LIFE: i64 = 600;
const MOST_LIFE: i64 = 1 << 32;

/// The request with its token.
///
/// # Errors
/// 404 without such an account, 422 for a life that is too short or too long, 409 for an object that is another by now.
pub fn answer(
    namespace: &str,
    account: &str,
    mut request: Object,
    objects: &Objects,
    tokens: &Tokens,
) -> Result<Object, ApiError> {
    let found = objects.get("serviceaccounts", namespace, account);
    let subject = Subject { group: "", kind: "serviceaccounts", name: account };
    let uid = found.ok_or_else(|| ApiError::not_found(subject))?.uid().to_owned();
    let life = request.at(&["spec", "expirationSeconds"]).and_then(Value::as_i64).unwrap_or(DEFAULT_LIFE);
    check_life(life)?;
    let bound = bound(namespace, account, &request, objects)?;
    let audiences = request.list(&["spec", "audiences"]).iter().filter_map(Value::as_str);
    let mut audiences: Vec<String> = audiences.map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences = tokens.audiences().to_vec();
    }
    let now = Timestamp::now();
    let claims = Claims {
        id: Uuid::new_v4().to_string(),
        namespace: namespace.to_owned(),
        account: account.to_owned(),
        account_uid: uid,
        bound,
        audiences: audiences.clone(),
        issued: now.as_second(),
        expires: now.as_second().saturating_add(life),
    };
    let token = tokens.issue(&claims).map_err(ApiError::internal)?;
    let expires = Timestamp::from_second(claims.expires).unwrap_or(now);
    request.set(&["apiVersion"], "authentication.k8s.io/v1");
    request.set(&["kind"], SUBRESOURCE.kind);
    let metadata = json!({"name": account, "namespace": namespace, "creationTimestamp": seconds(now)});
    request.set(&["metadata"], metadata);
    request.set(&["spec", "audiences"], audiences);
    request.set(&["spec", "expirationSeconds"], life);
    request.set(&["status"], json!({"token": token, "expirationTimestamp": seconds(expires)}));
    Ok(request)
}

fn check_life(seconds: i64) -> Result<(), ApiError> {
    let detail = match seconds {
        ..LEAST_LIFE => "may not specify a duration less than 10 minutes",
        LEAST_LIFE..=MOST_LIFE => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let subject = Subject { group: SUBRESOURCE.group, kind: SUBRESOURCE.kind, name: "" };
    Err(ApiError::invalid(subject, &[FieldError::invalid("spec.expirationSeconds", seconds, detail)]))
}

/// What the token is to end with; `None` if nothing.
fn bound(
    namespace: &str,
    account: &str,
    request: &Object,
    objects: &Objects,
) -> Result<Option<Bound>, ApiError> {
    let text = |field: &str| request.text(&["spec", "boundObjectRef", field]);
    let (kind, name, wanted) = (text("kind"), text("name"), text("uid"));
    let resource = match kind {
        "" if name.is_empty() => return Ok(None),
        "Pod" => "pods",
        "Secret" => "secrets",
        "Node" => "nodes",
        _ => {
            let api_version = text("apiVersion");
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {api_version}, Kind={kind}"
            )));
        }
    };
    let of = if kind == "Node" { "" } else { namespace };
    let subject = Subject { group: "", kind: resource, name };
    let object = objects.get(resource, of, name).ok_or_else(|| ApiError::not_found(subject))?;
    if kind == "Pod" && object.text(&["spec", "serviceAccountName"]) != account {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
        )));
    }
    if !wanted.is_empty() && wanted != object.uid() {
        let uid = object.uid();
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "Conflict",
            format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record ({uid}). The object \
                 might have been deleted and then recreated"
            ),
        )
        .with_details(Map::from_iter([("name".to_owned(), name.into()), ("kind".to_owned(), resource.into())])));
    }
    Ok(Some(Bound { kind: kind.to_owned(), name: name.to_owned(), uid: object.uid().to_owned() }))
}
