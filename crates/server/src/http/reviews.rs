//! Questions about who one is and what one may: reviews, which are answered and stored nowhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::authentication::{Authenticator, MASTERS, UserInfo};
use crate::authorization::policy::Only;
use crate::authorization::{Action, grant, roles};
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Names, Scope};
use crate::status::{ApiError, Subject};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

const fn review(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    scope: Scope,
) -> Names {
    Names {
        group,
        version: "v1",
        plural,
        singular,
        kind,
        short: &[],
        categories: &[],
        scope,
        verbs: &["create"],
    }
}

pub const RESOURCES: &[Names] = &[
    review(AUTHENTICATION, "selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview", Scope::Cluster),
    review(AUTHENTICATION, "tokenreviews", "tokenreview", "TokenReview", Scope::Cluster),
    review(
        AUTHORIZATION,
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        "LocalSubjectAccessReview",
        Scope::Namespaced,
    ),
    review(
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        "SelfSubjectAccessReview",
        Scope::Cluster,
    ),
    review(
        AUTHORIZATION,
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        "SelfSubjectRulesReview",
        Scope::Cluster,
    ),
    review(
        AUTHORIZATION,
        "subjectaccessreviews",
        "subjectaccessreview",
        "SubjectAccessReview",
        Scope::Cluster,
    ),
];

pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Names> {
    RESOURCES.iter().find(|names| (names.group, names.version, names.plural) == (group, version, plural))
}

/// The review with its status. `namespace` is that of the path.
///
/// # Errors
/// 422 for a question that cannot be answered.
pub fn answer(
    names: &Names,
    namespace: &str,
    mut review: Object,
    user: &UserInfo,
    authenticator: &Authenticator,
) -> Result<Object, ApiError> {
    review.set(&["apiVersion"], names.api_version());
    review.set(&["kind"], names.kind);
    if review.at(&["metadata"]).is_none_or(Value::is_null) {
        review.set(&["metadata"], json!({}));
    }
    let status = match names.kind {
        "SelfSubjectReview" => {
            review.set(&["metadata", "creationTimestamp"], seconds(Timestamp::now()));
            json!({"userInfo": user.to_json()})
        }
        "TokenReview" => token_review(&review, authenticator)?,
        "SelfSubjectRulesReview" => {
            if review.text(&["spec", "namespace"]).is_empty() {
                return Err(ApiError::bad_request("no namespace on request"));
            }
            // Upstream does not say again what was asked.
            review.set(&["spec"], json!({}));
            rules(user)
        }
        "SelfSubjectAccessReview" => access(user, &question(names, &review)?),
        _ => {
            if names.scope == Scope::Namespaced {
                check_namespace(names, &review, namespace)?;
            }
            access(&subject(names, &review)?, &question(names, &review)?)
        }
    };
    review.set(&["status"], status);
    Ok(review)
}

/// As `metadata.creationTimestamp` has it.
pub(super) fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

fn invalid(names: &Names, errors: &[FieldError]) -> ApiError {
    ApiError::invalid(Subject { group: names.group, kind: names.kind, name: "" }, errors)
}

fn access(user: &UserInfo, action: &Action) -> Value {
    match grant(user, action) {
        Some(grant) => json!({"allowed": true, "reason": grant.reason()}),
        None => json!({"allowed": false}),
    }
}

/// What is asked: about a resource, or about a path, but not both.
fn question(names: &Names, review: &Object) -> Result<Action, ApiError> {
    let part = |field: &str| review.at(&["spec", field]).and_then(Value::as_object);
    let text = |map: &Map<String, Value>, field: &str| -> String {
        map.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    match (part("resourceAttributes"), part("nonResourceAttributes")) {
        (Some(_), Some(path)) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            let shown = json!({"Path": text(path, "path"), "Verb": text(path, "verb")});
            Err(invalid(names, &[FieldError::invalid("spec.nonResourceAttributes", shown, detail)]))
        }
        (None, None) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(invalid(names, &[FieldError::invalid("spec.resourceAttributes", Value::Null, detail)]))
        }
        (None, Some(path)) => Ok(Action::Path { verb: text(path, "verb"), path: text(path, "path") }),
        (Some(resource), None) => Ok(Action::Resource {
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
        }),
    }
}

/// About whom is asked.
fn subject(names: &Names, review: &Object) -> Result<UserInfo, ApiError> {
    let texts = |path: &[&str]| -> Vec<String> {
        review.list(path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let name = review.text(&["spec", "user"]).to_owned();
    let groups = texts(&["spec", "groups"]);
    if name.is_empty() && groups.is_empty() {
        let detail = "at least one of user or group must be specified";
        return Err(invalid(names, &[FieldError::invalid("spec.user", "", detail)]));
    }
    Ok(UserInfo { name, uid: review.text(&["spec", "uid"]).to_owned(), groups, extra: BTreeMap::new() })
}

fn check_namespace(names: &Names, review: &Object, namespace: &str) -> Result<(), ApiError> {
    if review.at(&["spec", "nonResourceAttributes"]).is_some_and(|part| !part.is_null()) {
        let detail = "disallowed on this kind of request";
        let shown = review.at(&["spec", "nonResourceAttributes"]).cloned().unwrap_or_default();
        return Err(invalid(names, &[FieldError::invalid("spec.nonResourceAttributes", shown, detail)]));
    }
    let asked = review.text(&["spec", "resourceAttributes", "namespace"]);
    if asked == namespace {
        return Ok(());
    }
    Err(ApiError::bad_request(format!("spec.resourceAttributes.namespace must match namespace: {namespace}")))
}

fn token_review(review: &Object, authenticator: &Authenticator) -> Result<Value, ApiError> {
    let token = review.text(&["spec", "token"]);
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> =
        review.list(&["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(match authenticator.token(token, &audiences, Timestamp::now()) {
        Some((user, meant)) => json!({"authenticated": true, "user": user.to_json(), "audiences": meant}),
        None => json!({"user": {}, "error": "invalid bearer token"}),
    })
}

/// All that a user may, in any namespace: no rule is about one in particular, but for the leases of nodes.
fn rules(user: &UserInfo) -> Value {
    let mut resources = Vec::new();
    let mut paths = Vec::new();
    if user.is_in(MASTERS) {
        resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    let node = user.node_name().unwrap_or_default();
    for role in roles(user) {
        for rule in role.rules {
            let mut entry =
                json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
            if matches!(rule.only, Only::OwnName | Only::OwnNameIn(_)) {
                entry["resourceNames"] = json!([node]);
            }
            resources.push(entry);
        }
        paths.extend(
            role.paths.iter().map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths})),
        );
    }
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::authentication::token_file::TokenFile;
    use crate::authentication::{Accounts, tokens};

    #[derive(Debug)]
    struct Nothing;

    impl Accounts for Nothing {
        fn uid(&self, _: &str, _: &str, _: &str) -> Option<String> {
            None
        }
    }

    fn ask(plural: &str, spec: Value) -> Result<Value, ApiError> {
        let names = RESOURCES.iter().find(|names| names.plural == plural).unwrap();
        let authenticator = Authenticator {
            token_file: TokenFile::parse("secret,alice,7").unwrap(),
            tokens: Arc::new(tokens::testing::tokens()),
            accounts: Arc::new(Nothing),
            allows_anonymous: true,
        };
        let user = UserInfo {
            name: "alice".to_owned(),
            groups: vec!["system:authenticated".to_owned()],
            ..UserInfo::default()
        };
        let review = serde_json::from_value(json!({"spec": spec})).map(Object).unwrap();
        answer(names, "default", review, &user, &authenticator).map(|review| review.0.into())
    }

    #[test]
    fn one_can_ask_what_one_may() {
        let services = json!({"verb": "list", "resource": "services", "namespace": "default"});
        let answer = ask("selfsubjectaccessreviews", json!({"resourceAttributes": services})).unwrap();
        assert_eq!(answer["status"], json!({"allowed": false}));
        assert_eq!((&answer["kind"], &answer["metadata"]), (&json!("SelfSubjectAccessReview"), &json!({})));
        let path = json!({"nonResourceAttributes": {"verb": "get", "path": "/version"}});
        assert_eq!(ask("selfsubjectaccessreviews", path).unwrap()["status"]["allowed"], true);
        let rules = ask("selfsubjectrulesreviews", json!({"namespace": "default"})).unwrap();
        assert_eq!((&rules["status"]["incomplete"], &rules["spec"]), (&json!(false), &json!({})));
        assert_eq!(
            rules["status"]["resourceRules"][0],
            json!({"verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
                "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]})
        );
        let me = ask("selfsubjectreviews", json!({})).unwrap();
        assert_eq!(
            me["status"]["userInfo"],
            json!({"username": "alice", "groups": ["system:authenticated"]})
        );
        assert!(me["metadata"]["creationTimestamp"].is_string());
    }

    #[test]
    fn one_can_ask_about_others() {
        let spec = json!({"user": "bob", "groups": ["system:masters"],
            "resourceAttributes": {"verb": "delete", "resource": "nodes"}});
        assert_eq!(ask("subjectaccessreviews", spec.clone()).unwrap()["status"]["allowed"], true);
        assert_eq!(
            ask("localsubjectaccessreviews", spec).unwrap_err().message,
            "spec.resourceAttributes.namespace must match namespace: default"
        );
        let token = ask("tokenreviews", json!({"token": "secret"})).unwrap();
        assert_eq!(token["status"]["user"]["username"], "alice");
        let token = ask("tokenreviews", json!({"token": "other"})).unwrap();
        assert!(token["status"].get("authenticated").is_none() && token["status"]["error"].is_string());
        let vault = json!({"token": "secret", "audiences": ["vault"]});
        assert!(ask("tokenreviews", vault).unwrap()["status"].get("authenticated").is_none());
    }

    #[test]
    fn questions_are_about_one_thing() {
        let error = ask("selfsubjectaccessreviews", json!({})).unwrap_err();
        assert_eq!(error.code.as_u16(), 422);
        assert!(
            error.message.ends_with(
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
            ),
            "{}",
            error.message
        );
        let both = json!({"resourceAttributes": {}, "nonResourceAttributes": {}});
        assert!(
            ask("selfsubjectaccessreviews", both)
                .unwrap_err()
                .message
                .ends_with("cannot be specified in combination with resourceAttributes")
        );
    }
}
