//! Acting as somebody else: the `Impersonate-` headers of `kubectl --as`.

use http::HeaderMap;

use super::{AUTHENTICATED, UNAUTHENTICATED, UserInfo, service_account_groups};
use crate::authorization::Action;
use crate::http::query;
use crate::status::ApiError;

const EXTRA: &str = "impersonate-extra-";

/// Who is to be acted as, and what that takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonation {
    pub user: UserInfo,
    /// All of these must be allowed.
    pub needs: Vec<Action>,
}

impl Impersonation {
    /// `None` without such headers.
    ///
    /// # Errors
    /// 400 for groups and the like without a user.
    pub fn read(headers: &HeaderMap) -> Result<Option<Impersonation>, ApiError> {
        let texts = |name: &str| -> Vec<String> {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.filter(|value| !value.is_empty()).map(str::to_owned).collect()
        };
        let name = texts("impersonate-user").into_iter().next();
        let groups = texts("impersonate-group");
        let uid = texts("impersonate-uid").into_iter().next().unwrap_or_default();
        let mut user = UserInfo { uid, groups, ..UserInfo::default() };
        for header in headers.keys() {
            let Some(key) = header.as_str().strip_prefix(EXTRA) else { continue };
            let key = query::decode(key, false).unwrap_or_else(|| key.to_owned());
            user.extra.entry(key).or_default().extend(texts(header.as_str()));
        }
        match name {
            Some(name) => Ok(Some(Impersonation { needs: needs(&name, &user), user: complete(name, user) })),
            None if user == UserInfo::default() => Ok(None),
            None => Err(ApiError::bad_request(
                "requested groups, a uid or extra values to be impersonated without impersonating a user",
            )),
        }
    }
}

fn needs(name: &str, user: &UserInfo) -> Vec<Action> {
    let impersonate =
        |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| Action::Resource {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
    let mut needs = vec![match service_account(name) {
        Some((namespace, account)) => impersonate("", "serviceaccounts", "", namespace, account),
        None => impersonate("", "users", "", "", name),
    }];
    needs.extend(user.groups.iter().map(|group| impersonate("", "groups", "", "", group)));
    let virtual_group = "authentication.k8s.io";
    if !user.uid.is_empty() {
        needs.push(impersonate(virtual_group, "uids", "", "", &user.uid));
    }
    for (key, values) in &user.extra {
        needs.extend(values.iter().map(|value| impersonate(virtual_group, "userextras", key, "", value)));
    }
    needs
}

/// With the groups that the user would have by itself.
fn complete(name: String, mut user: UserInfo) -> UserInfo {
    if let (Some((namespace, _)), true) = (service_account(&name), user.groups.is_empty()) {
        user.groups = service_account_groups(namespace);
    }
    let own = if name == "system:anonymous" { UNAUTHENTICATED } else { AUTHENTICATED };
    if !user.is_in(UNAUTHENTICATED) && !user.is_in(own) {
        user.groups.push(own.to_owned());
    }
    UserInfo { name, ..user }
}

fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("system:serviceaccount:")?.split_once(':')
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Result<Option<Impersonation>, ApiError> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Impersonation::read(&headers.collect::<HeaderMap>())
    }

    #[test]
    fn users_are_impersonated_with_all_that_is_said_of_them() {
        assert_eq!(read(&[("accept", "*/*")]), Ok(None));
        let alice = read(&[
            ("impersonate-user", "alice"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-extra-acme.com%2fproject", "x"),
        ])
        .unwrap()
        .unwrap();
        assert_eq!(alice.user.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(alice.user.extra["acme.com/project"], ["x"]);
        assert_eq!(alice.needs.len(), 4);
    }

    #[test]
    fn service_accounts_keep_their_groups() {
        let account = read(&[("impersonate-user", "system:serviceaccount:a:b")]).unwrap().unwrap();
        assert_eq!(
            account.user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]
        );
        let anonymous = read(&[("impersonate-user", "system:anonymous")]).unwrap().unwrap();
        assert_eq!(anonymous.user.groups, ["system:unauthenticated"]);
    }

    #[test]
    fn groups_alone_are_nobody() {
        assert_eq!(read(&[("impersonate-group", "dev")]).unwrap_err().code.as_u16(), 400);
    }
}
