use super::*;

/// One service account, and one pod.
#[derive(Debug)]
struct Known;

impl Accounts for Known {
    fn uid(&self, resource: &str, namespace: &str, name: &str) -> Option<String> {
        match (resource, namespace, name) {
            ("serviceaccounts", "default", "builder") => Some("u1".to_owned()),
            ("pods", "default", "p") => Some("u2".to_owned()),
            _ => None,
        }
    }
}

fn authenticator() -> Authenticator {
    Authenticator {
        token_file: TokenFile::parse("secret,alice,7,\"dev\"").unwrap(),
        tokens: Arc::new(tokens::testing::tokens()),
        accounts: Arc::new(Known),
        allows_anonymous: true,
    }
}

const NOBODY: Peer = Peer::Remote { certificate: None };

fn with_certificate(user: Option<&str>) -> Peer {
    let user = user.map(|name| UserInfo { name: name.to_owned(), ..UserInfo::default() });
    Peer::Remote { certificate: Some(Arc::new(ClientCertificate::of(user))) }
}

#[test]
fn certificates_come_before_tokens_and_bad_credentials_are_not_nobody() {
    let authenticator = authenticator();
    let name = |peer: &Peer, header: &str| authenticator.authenticate(peer, header).map(|user| user.name);
    let refused = Err(ApiError::unauthorized());
    assert_eq!(name(&with_certificate(Some("bob")), "Bearer secret"), Ok("bob".to_owned()));
    assert_eq!(name(&NOBODY, "Bearer secret"), Ok("alice".to_owned()));
    assert_eq!(name(&NOBODY, "bearer  secret "), Ok("alice".to_owned()));
    assert_eq!(name(&with_certificate(None), "Bearer secret"), Ok("alice".to_owned()));
    assert_eq!(name(&NOBODY, "Bearer wrong"), refused);
    assert_eq!(name(&with_certificate(None), ""), refused);
    assert_eq!(name(&NOBODY, ""), Ok("system:anonymous".to_owned()));
    assert_eq!(name(&NOBODY, "Basic YTpi"), Ok("system:anonymous".to_owned()));
    let strict = Authenticator { allows_anonymous: false, ..self::authenticator() };
    assert_eq!(strict.authenticate(&NOBODY, ""), Err(ApiError::unauthorized()));
}

#[test]
fn users_are_in_the_groups_of_their_kind() {
    let authenticator = authenticator();
    let alice = authenticator.authenticate(&NOBODY, "Bearer secret").unwrap();
    assert_eq!(alice.groups, ["dev", "system:authenticated"]);
    let token = authenticator.tokens.issue(&tokens::testing::claims(Timestamp::now())).unwrap();
    let account = authenticator.authenticate(&NOBODY, &format!("Bearer {token}")).unwrap();
    assert_eq!(account.name, "system:serviceaccount:default:builder");
    assert_eq!(
        account.groups,
        ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    );
    assert_eq!(account.extra[CREDENTIAL_ID], ["JTI=1"]);
}

#[test]
fn a_token_ends_with_what_it_is_bound_to() {
    let authenticator = authenticator();
    let token = |claims: Claims| {
        let token = authenticator.tokens.issue(&claims).unwrap();
        authenticator.authenticate(&NOBODY, &format!("Bearer {token}")).map(|user| user.extra)
    };
    let claims = tokens::testing::claims(Timestamp::now());
    let pod = |uid: &str| Some(Bound { kind: "Pod".to_owned(), name: "p".to_owned(), uid: uid.to_owned() });
    let extra = token(Claims { bound: pod("u2"), ..claims.clone() }).unwrap();
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert!(token(Claims { bound: pod("older"), ..claims.clone() }).is_err());
    assert!(token(Claims { account_uid: "older".to_owned(), ..claims }).is_err());
}

#[test]
fn nodes_are_known_by_name_and_group() {
    let user = |name: &str, groups: &[&str]| UserInfo {
        name: name.to_owned(),
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
        ..UserInfo::default()
    };
    assert_eq!(user("system:node:n1", &["system:nodes"]).node_name(), Some("n1"));
    assert_eq!(user("system:node:n1", &[]).node_name(), None);
    assert_eq!(user("system:node:", &["system:nodes"]).node_name(), None);
    assert_eq!(user("n1", &["system:nodes"]).node_name(), None);
}
