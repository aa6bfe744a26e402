//! What a request asks for, read off its method, path and parameters.

use http::Method;

use super::query::{self, Query};
use crate::handlers::Verb;
use crate::status::ApiError;

/// A request as authorization and dispatch see it. Both go by this one reading, so that what is allowed is what is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// Decoded, as it was sent.
    pub path: String,
    /// `None` for paths that are not about a resource: discovery, health, version.
    pub resource: Option<ResourceInfo>,
}

/// A request about a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceInfo {
    /// `None` for methods that no resource knows.
    pub verb: Option<Verb>,
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    /// Empty for all namespaces and for resources of the cluster. A Namespace is in the namespace of its name.
    pub namespace: String,
    /// The plural.
    pub resource: String,
    /// Empty for collections.
    pub name: String,
    /// Empty for none.
    pub subresource: String,
    /// What follows the subresource in the path; empty for nothing.
    pub rest: String,
}

impl RequestInfo {
    /// Reads a request line. `path` is still percent-encoded.
    ///
    /// # Errors
    /// 400 for a path that is no text once it is decoded.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Result<RequestInfo, ApiError> {
        let path = query::decode(path, false)
            .ok_or_else(|| ApiError::bad_request(format!("the path {path:?} is not properly encoded")))?;
        let resource = ResourceInfo::parse(method, &path, query);
        Ok(RequestInfo { path, resource })
    }
}

impl ResourceInfo {
    fn parse(method: &Method, path: &str, query: &Query) -> Option<ResourceInfo> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, parts) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        // Before there were parameters for it, watches had paths of their own.
        let (is_watch_path, parts) = match parts {
            ["watch", rest @ ..] if *method == Method::GET => (true, rest),
            _ => (false, parts),
        };
        let (namespace, parts) = match parts {
            ["namespaces", name] | ["namespaces", name, "status" | "finalize", ..] => (*name, parts),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", parts),
        };
        let (resource, parts) = parts.split_first()?;
        let at = |i: usize| parts.get(i).copied().unwrap_or_default().to_owned();
        let name = at(0);
        let verb = match is_watch_path {
            true => Some(Verb::Watch),
            false => verb(method, name.is_empty(), query),
        };
        Some(ResourceInfo {
            verb,
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.to_owned(),
            resource: (*resource).to_owned(),
            name,
            subresource: at(1),
            rest: parts.get(2..).unwrap_or_default().join("/"),
        })
    }

    /// The name that the request is bound to: in its path, or as the only one that its field selector lets through.
    pub fn only_name<'a>(&'a self, query: &'a Query) -> &'a str {
        let selects = matches!(self.verb, Some(Verb::List | Verb::Watch | Verb::DeleteCollection));
        if !self.name.is_empty() || !selects {
            return &self.name;
        }
        let mut terms = query.get("fieldSelector").split(',');
        let name = terms.find_map(|term| {
            let value = term.strip_prefix("metadata.name=")?;
            Some(value.strip_prefix('=').unwrap_or(value))
        });
        name.filter(|name| !name.contains('\\')).unwrap_or_default()
    }

    /// Whether the answer may take as long as it likes.
    pub fn is_long_running(&self, query: &Query) -> bool {
        match self.subresource.as_str() {
            "exec" | "attach" | "portforward" | "proxy" => true,
            "log" => query.is_set("follow"),
            _ => self.verb == Some(Verb::Watch),
        }
    }
}

fn verb(method: &Method, is_collection: bool, query: &Query) -> Option<Verb> {
    match *method {
        Method::GET if !is_collection => Some(Verb::Get),
        Method::GET if query.is_set("watch") => Some(Verb::Watch),
        Method::GET => Some(Verb::List),
        Method::POST => Some(Verb::Create),
        Method::PUT => Some(Verb::Update),
        Method::PATCH => Some(Verb::Patch),
        Method::DELETE if is_collection => Some(Verb::DeleteCollection),
        Method::DELETE => Some(Verb::Delete),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> RequestInfo {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        RequestInfo::parse(&method.parse().unwrap(), path, &Query::parse(query)).unwrap()
    }

    /// Verb, group/version, namespace, resource, name, subresource.
    fn told(line: &str) -> String {
        let Some(info) = parse(line).resource else { return "-".to_owned() };
        let verb = info.verb.map_or("?", Verb::as_str);
        let ResourceInfo { group, version, namespace, resource, name, subresource, .. } = info;
        format!("{verb} {group}/{version} {namespace}|{resource}|{name}|{subresource}")
    }

    #[test]
    fn requests_are_read_as_upstream_reads_them() {
        let table = [
            ("GET /api/v1/namespaces/default/services", "list /v1 default|services||"),
            ("GET /api/v1/services", "list /v1 |services||"),
            ("GET /api/v1/services?watch=true", "watch /v1 |services||"),
            ("GET /api/v1/services?watch=1", "watch /v1 |services||"),
            ("GET /api/v1/services?watch", "watch /v1 |services||"),
            ("GET /api/v1/services?watch=false", "list /v1 |services||"),
            ("GET /api/v1/namespaces/default/services/web?watch=true", "get /v1 default|services|web|"),
            ("POST /api/v1/namespaces/default/services", "create /v1 default|services||"),
            ("PUT /api/v1/namespaces/default/services/web/status", "update /v1 default|services|web|status"),
            ("PATCH /api/v1/nodes/n1", "patch /v1 |nodes|n1|"),
            ("DELETE /api/v1/nodes/n1", "delete /v1 |nodes|n1|"),
            ("DELETE /api/v1/nodes", "deletecollection /v1 |nodes||"),
            ("HEAD /api/v1/nodes", "? /v1 |nodes||"),
            ("GET /api/v1/namespaces", "list /v1 |namespaces||"),
            ("GET /api/v1/namespaces/a", "get /v1 a|namespaces|a|"),
            ("PUT /api/v1/namespaces/a/finalize", "update /v1 a|namespaces|a|finalize"),
            ("GET /api/v1/namespaces/a/status", "get /v1 a|namespaces|a|status"),
            (
                "GET /apis/discovery.k8s.io/v1/namespaces/a/endpointslices/x",
                "get discovery.k8s.io/v1 a|endpointslices|x|",
            ),
            ("GET /api/v1/watch/services", "watch /v1 |services||"),
            ("GET /api/v1/watch/namespaces/a/services/web", "watch /v1 a|services|web|"),
            ("GET /api/v1/watch/namespaces/a", "watch /v1 a|namespaces|a|"),
            ("GET /api/v1/namespaces/a/services/we%62", "get /v1 a|services|web|"),
            ("GET /api/v1/namespaces/a/services/", "list /v1 a|services||"),
            ("GET /api/v1", "-"),
            ("GET /apis/discovery.k8s.io/v1", "-"),
            ("GET /apis/discovery.k8s.io", "-"),
            ("GET /", "-"),
            ("GET /version", "-"),
        ];
        for (line, expected) in table {
            assert_eq!(told(line), expected, "{line}");
        }
    }

    #[test]
    fn what_follows_a_subresource_is_kept() {
        let info = parse("GET /api/v1/namespaces/a/services/web/proxy/x/y").resource.unwrap();
        assert_eq!((info.subresource.as_str(), info.rest.as_str()), ("proxy", "x/y"));
    }

    #[test]
    fn bad_encodings_are_refused() {
        for path in ["/api/v1/%zz", "/%ff", "/%2"] {
            let error = RequestInfo::parse(&Method::GET, path, &Query::parse("")).unwrap_err();
            assert_eq!(error.code.as_u16(), 400, "{path}");
        }
    }

    #[test]
    fn a_field_selector_can_bind_a_request_to_a_name() {
        let name = |line: &str| {
            let query = Query::parse(line.split_once('?').map_or("", |(_, query)| query));
            parse(line).resource.unwrap().only_name(&query).to_owned()
        };
        assert_eq!(name("GET /api/v1/nodes?fieldSelector=metadata.name%3Dn1"), "n1");
        assert_eq!(name("GET /api/v1/nodes?fieldSelector=spec.x=y,metadata.name==n1&watch=1"), "n1");
        assert_eq!(name("GET /api/v1/nodes?fieldSelector=metadata.name!=n1"), "");
        assert_eq!(name("GET /api/v1/nodes/n2?fieldSelector=metadata.name=n1"), "n2");
    }
}
