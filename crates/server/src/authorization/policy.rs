//! The rules. They are upstream's default roles, as far as the resources are served here, and cannot be changed: whoever
//! is in none of these bindings has a certificate of `system:masters`, or may do nothing but look around.
//!
//! | who | may |
//! |---|---|
//! | `system:masters` | everything |
//! | `system:nodes` | read what pods need; write its own node, pods, lease, and events |
//! | `system:kube-proxy`, `system:node-proxier` | read services, endpoints and nodes; write events |
//! | the service account of cluster DNS | read services, endpoints, pods and namespaces |
//! | `system:monitoring` | health and metrics |
//! | anybody with credentials | discovery, and asking about oneself |
//! | anybody | health and version |

use super::Action;
use crate::authentication::{AUTHENTICATED, UNAUTHENTICATED, UserInfo};

/// Who has a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    User(&'static str),
    Group(&'static str),
    /// A node that is known by its name.
    Node,
}

impl Who {
    pub(super) fn is(self, user: &UserInfo) -> bool {
        match self {
            Who::User(name) => user.name == name,
            Who::Group(group) => user.is_in(group),
            Who::Node => user.node_name().is_some(),
        }
    }
}

#[derive(Debug)]
pub struct Binding {
    pub subject: Who,
    pub role: &'static Role,
}

#[derive(Debug)]
pub struct Role {
    pub name: &'static str,
    pub rules: &'static [Rule],
    pub paths: &'static [PathRule],
}

#[derive(Debug)]
pub struct Rule {
    pub verbs: &'static [&'static str],
    pub groups: &'static [&'static str],
    /// `services`, `nodes/status`.
    pub resources: &'static [&'static str],
    pub only: Only,
}

/// To which objects a rule is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    Any,
    /// Those with the name of the node. A create has no name in its path: [`super::node`] looks at the object.
    OwnName,
    /// Those of this namespace, likewise.
    OwnNameIn(&'static str),
    /// Those that are asked for by name.
    Named,
}

#[derive(Debug)]
pub struct PathRule {
    pub verbs: &'static [&'static str],
    /// One that ends with `*` stands for everything that begins so.
    pub paths: &'static [&'static str],
}

impl Role {
    /// `node` is the name of the node that asks; empty if it is none.
    pub(super) fn allows(&self, action: &Action, node: &str) -> bool {
        match action {
            Action::Path { verb, path } => self.paths.iter().any(|rule| rule.allows(verb, path)),
            Action::Resource { .. } => self.rules.iter().any(|rule| rule.allows(action, node)),
        }
    }
}

impl Rule {
    fn allows(&self, action: &Action, node: &str) -> bool {
        let Action::Resource { verb, group, resource, subresource, namespace, name } = action else {
            return false;
        };
        let names_resource = |own: &&str| match own.split_once('/') {
            Some((own, sub)) => own == resource && sub == subresource,
            None => own == resource && subresource.is_empty(),
        };
        let has_own_name = name == node || (verb == "create" && name.is_empty());
        self.verbs.contains(&verb.as_str())
            && self.groups.contains(&group.as_str())
            && self.resources.iter().any(names_resource)
            && match self.only {
                Only::Any => true,
                Only::OwnName => has_own_name,
                Only::OwnNameIn(own) => has_own_name && namespace == own,
                Only::Named => !name.is_empty(),
            }
    }
}

impl PathRule {
    fn allows(&self, verb: &str, path: &str) -> bool {
        let matches = |own: &&str| match own.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => *own == path,
        };
        self.verbs.contains(&verb) && self.paths.iter().any(matches)
    }
}

pub const READ: &[&str] = &["get", "list", "watch"];
const LOOK: &[&str] = &["get", "head"];
const CORE: &[&str] = &[""];

const fn rule(
    verbs: &'static [&'static str],
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    only: Only,
) -> Rule {
    Rule { verbs, groups, resources, only }
}

const PUBLIC: Role = Role {
    name: "system:public-info-viewer",
    rules: &[],
    paths: &[PathRule { verbs: LOOK, paths: &["/healthz", "/livez", "/readyz", "/version", "/version/"] }],
};

const DISCOVERY: Role = Role {
    name: "system:discovery",
    rules: &[],
    paths: &[PathRule {
        verbs: LOOK,
        paths: &[
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/healthz",
            "/livez",
            "/openapi",
            "/openapi/*",
            "/readyz",
            "/version",
            "/version/",
        ],
    }],
};

const BASIC_USER: Role = Role {
    name: "system:basic-user",
    rules: &[
        rule(
            &["create"],
            &["authorization.k8s.io"],
            &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            Only::Any,
        ),
        rule(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"], Only::Any),
    ],
    paths: &[],
};

const MONITORING: Role = Role {
    name: "system:monitoring",
    rules: &[],
    paths: &[PathRule {
        verbs: &["get"],
        paths: &["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/readyz", "/readyz/*"],
    }],
};

const EVENTS: Rule = rule(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"], Only::Any);

const PROXIER: Role = Role {
    name: "system:node-proxier",
    rules: &[
        rule(READ, CORE, &["endpoints", "nodes", "services"], Only::Any),
        rule(READ, &["discovery.k8s.io"], &["endpointslices"], Only::Any),
        rule(READ, &["networking.k8s.io"], &["servicecidrs"], Only::Any),
        EVENTS,
    ],
    paths: &[],
};

const NODE: Role = Role {
    name: "system:node",
    rules: &[
        rule(READ, CORE, &["configmaps", "endpoints", "namespaces", "nodes", "pods", "services"], Only::Any),
        rule(READ, &["discovery.k8s.io"], &["endpointslices"], Only::Any),
        rule(READ, &["networking.k8s.io"], &["servicecidrs"], Only::Any),
        rule(READ, CORE, &["secrets"], Only::Named),
        rule(&["get"], CORE, &["serviceaccounts"], Only::Any),
        rule(&["create"], CORE, &["serviceaccounts/token"], Only::Any),
        rule(&["create", "delete", "patch", "update"], CORE, &["nodes"], Only::OwnName),
        rule(&["patch", "update"], CORE, &["nodes/status"], Only::OwnName),
        rule(&["delete"], CORE, &["pods"], Only::Any),
        rule(&["patch", "update"], CORE, &["pods/status"], Only::Any),
        rule(&["create"], CORE, &["pods/eviction"], Only::Any),
        rule(
            &["create", "delete", "get", "patch", "update"],
            &["coordination.k8s.io"],
            &["leases"],
            Only::OwnNameIn("kube-node-lease"),
        ),
        rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"], Only::Any),
        rule(
            &["create"],
            &["authorization.k8s.io"],
            &["localsubjectaccessreviews", "subjectaccessreviews"],
            Only::Any,
        ),
        EVENTS,
    ],
    paths: &[],
};

const DNS: Role = Role {
    name: "system:kube-dns",
    rules: &[
        rule(READ, CORE, &["endpoints", "namespaces", "nodes", "pods", "services"], Only::Any),
        rule(READ, &["discovery.k8s.io"], &["endpointslices"], Only::Any),
    ],
    paths: &[],
};

pub const BINDINGS: &[Binding] = &[
    Binding { subject: Who::Group(UNAUTHENTICATED), role: &PUBLIC },
    Binding { subject: Who::Group(AUTHENTICATED), role: &DISCOVERY },
    Binding { subject: Who::Group(AUTHENTICATED), role: &BASIC_USER },
    Binding { subject: Who::Group("system:monitoring"), role: &MONITORING },
    Binding { subject: Who::Node, role: &NODE },
    Binding { subject: Who::User("system:kube-proxy"), role: &PROXIER },
    Binding { subject: Who::Group("system:node-proxier"), role: &PROXIER },
    Binding { subject: Who::User("system:serviceaccount:kube-system:kube-proxy"), role: &PROXIER },
    Binding { subject: Who::User("system:serviceaccount:kube-system:kube-dns"), role: &DNS },
    Binding { subject: Who::User("system:serviceaccount:kube-system:coredns"), role: &DNS },
];
