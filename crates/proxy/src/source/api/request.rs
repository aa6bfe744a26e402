//! The requests of a list-and-watch, as paths and queries.

use std::fmt::Write as _;

use super::revision::Revision;
use crate::source::Kind;

/// Objects per page of a list.
const PAGE_LIMIT: u32 = 500;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// Everything there is as watch events, then, after a bookmark that says so, what changes. `None` asks for the
    /// newest state, a revision for any state not older than it.
    StreamedList { at_least: Option<Revision> },
    /// A page of a list: the first one at `revision` (`0` for whatever the server has at hand, `None` for the
    /// newest state), or the one that `continue_token` names.
    ListPage { revision: Option<Revision>, continue_token: Option<String> },
    /// What changed after the revision.
    Watch { after: Revision },
}

impl Request {
    pub(super) fn is_watch(&self) -> bool {
        !matches!(self, Request::ListPage { .. })
    }

    /// Path and query. The server ends a watch after `timeout_seconds`, so that watches spread over its replicas.
    pub(super) fn uri(&self, kind: Kind, node_name: &str, timeout_seconds: u64) -> String {
        let mut uri = String::from(path(kind));
        let mut separator = '?';
        let mut add = |name: &str, value: &str| {
            let _ = write!(uri, "{separator}{name}={}", Escaped(value));
            separator = '&';
        };
        let (labels, fields) = selectors(kind, node_name);
        if let Some(labels) = labels {
            add("labelSelector", labels);
        }
        if let Some(fields) = fields {
            add("fieldSelector", &fields);
        }
        if self.is_watch() {
            add("watch", "true");
            add("allowWatchBookmarks", "true");
            add("timeoutSeconds", &timeout_seconds.to_string());
        }
        match self {
            Request::StreamedList { at_least } => {
                add("sendInitialEvents", "true");
                add("resourceVersionMatch", "NotOlderThan");
                if let Some(revision) = at_least {
                    add("resourceVersion", &revision.to_string());
                }
            }
            Request::ListPage { revision, continue_token } => {
                add("limit", &PAGE_LIMIT.to_string());
                // The token names its revision itself; the server refuses both together.
                match (continue_token, revision) {
                    (Some(token), _) => add("continue", token),
                    (None, Some(revision)) => {
                        add("resourceVersion", &revision.to_string());
                        // A page at a revision is else taken to ask for exactly that one, which may be compacted.
                        if *revision != Revision::Number(0) {
                            add("resourceVersionMatch", "NotOlderThan");
                        }
                    }
                    (None, None) => {}
                }
            }
            Request::Watch { after } => add("resourceVersion", &after.to_string()),
        }
        uri
    }
}

fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "/api/v1/services",
        Kind::EndpointSlice => "/apis/discovery.k8s.io/v1/endpointslices",
        Kind::Node => "/api/v1/nodes",
        Kind::ServiceCidr => "/apis/networking.k8s.io/v1/servicecidrs",
    }
}

/// What the server leaves out: services of other proxies, and all that is headless.
fn selectors(kind: Kind, node_name: &str) -> (Option<&'static str>, Option<String>) {
    match kind {
        Kind::Service => {
            (Some("!service.kubernetes.io/service-proxy-name"), Some("spec.clusterIP!=None".to_owned()))
        }
        Kind::EndpointSlice => (Some("!service.kubernetes.io/headless"), None),
        Kind::Node => (None, Some(format!("metadata.name={node_name}"))),
        Kind::ServiceCidr => (None, None),
    }
}

/// A query value with everything but the unreserved characters of RFC 3986 escaped.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streamed_list_asks_for_initial_events_and_bookmarks() {
        let uri = Request::StreamedList { at_least: None }.uri(Kind::EndpointSlice, "node-1", 321);
        assert_eq!(
            uri,
            "/apis/discovery.k8s.io/v1/endpointslices?labelSelector=%21service.kubernetes.io%2Fheadless&watch=true\
             &allowWatchBookmarks=true&timeoutSeconds=321&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        );
    }

    #[test]
    fn a_further_page_names_its_token_and_no_revision() {
        let first = Request::ListPage { revision: Some(Revision::Number(0)), continue_token: None };
        let selectors = "labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&fieldSelector=spec.clusterIP%21%3DNone";
        assert_eq!(
            first.uri(Kind::Service, "n", 300),
            format!("/api/v1/services?{selectors}&limit=500&resourceVersion=0")
        );
        let further = Request::ListPage { revision: None, continue_token: Some("a+b=".to_owned()) };
        assert_eq!(
            further.uri(Kind::Service, "n", 300),
            format!("/api/v1/services?{selectors}&limit=500&continue=a%2Bb%3D")
        );
    }

    #[test]
    fn only_our_own_node_is_watched() {
        let uri = Request::Watch { after: Revision::Number(7) }.uri(Kind::Node, "node-1", 300);
        assert!(uri.starts_with("/api/v1/nodes?fieldSelector=metadata.name%3Dnode-1&watch=true"), "{uri}");
        assert!(uri.ends_with("&resourceVersion=7"), "{uri}");
    }
}
