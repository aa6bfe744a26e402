//! Who may do what: fixed rules, in the terms of roles and bindings, in [`policy`]. What nodes may write is narrowed
//! further by [`node`], which looks at the objects.

pub mod node;
pub mod policy;

use policy::{BINDINGS, Role};

use crate::authentication::{MASTERS, UserInfo};
use crate::http::{Query, RequestInfo};
use crate::status::{ApiError, Subject};

/// Something that somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Resource {
        verb: String,
        /// Empty for the core group.
        group: String,
        resource: String,
        /// Empty for none.
        subresource: String,
        /// Empty for all, and for resources of the cluster.
        namespace: String,
        /// Empty for any.
        name: String,
    },
    Path {
        /// The method in lower case.
        verb: String,
        path: String,
    },
}

impl Action {
    pub fn of(info: &RequestInfo, method: &http::Method, query: &Query) -> Action {
        match &info.resource {
            None => Action::Path { verb: method.as_str().to_lowercase(), path: info.path.clone() },
            Some(resource) => Action::Resource {
                verb: resource
                    .verb
                    .map_or_else(|| method.as_str().to_lowercase(), |verb| verb.as_str().to_owned()),
                group: resource.group.clone(),
                resource: resource.resource.clone(),
                subresource: resource.subresource.clone(),
                namespace: resource.namespace.clone(),
                name: resource.only_name(query).to_owned(),
            },
        }
    }

    /// The words that follow `is forbidden: `, or stand alone for paths.
    fn refusal(&self, user: &UserInfo) -> String {
        let name = &user.name;
        match self {
            Action::Path { verb, path } => format!("User {name:?} cannot {verb} path {path:?}"),
            Action::Resource { verb, group, resource, subresource, namespace, .. } => {
                let resource = match subresource.as_str() {
                    "" => resource.clone(),
                    subresource => format!("{resource}/{subresource}"),
                };
                let place = match namespace.as_str() {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {namespace:?}"),
                };
                format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
            }
        }
    }
}

/// Why something is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    Master,
    Role(&'static str),
}

impl Grant {
    /// As a review tells it.
    pub fn reason(self) -> String {
        match self {
            Grant::Master => format!("allowed to members of the group {MASTERS:?}"),
            Grant::Role(role) => format!("allowed by the role {role:?}"),
        }
    }
}

/// Why a user may do something; `None` if they may not.
pub fn grant(user: &UserInfo, action: &Action) -> Option<Grant> {
    if user.is_in(MASTERS) {
        return Some(Grant::Master);
    }
    let node = user.node_name().unwrap_or_default();
    roles(user).find(|role| role.allows(action, node)).map(|role| Grant::Role(role.name))
}

/// # Errors
/// 403 if the user may not.
pub fn authorize(user: &UserInfo, action: &Action) -> Result<(), ApiError> {
    if grant(user, action).is_some() {
        return Ok(());
    }
    let why = action.refusal(user);
    Err(match action {
        Action::Resource { group, resource, name, .. } => {
            ApiError::forbidden(Subject { group, kind: resource, name }, &why)
        }
        Action::Path { .. } => {
            ApiError::new(http::StatusCode::FORBIDDEN, "Forbidden", format!("forbidden: {why}"))
                .with_details(serde_json::Map::new())
        }
    })
}

/// The roles that a user has.
pub fn roles(user: &UserInfo) -> impl Iterator<Item = &'static Role> {
    BINDINGS.iter().filter(move |binding| binding.subject.is(user)).map(|binding| binding.role)
}

#[cfg(test)]
mod tests;
