//! Subresources that somebody else answers.

use http::header::{CONTENT_LENGTH, UPGRADE};
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Empty};

use super::ResourceInfo;
use super::front::{Front, Head, RequestBody};
use super::objects::Objects;
use super::response::Body;
use crate::forward::{self, Agents, Backends, Forwarded};
use crate::object::Object;
use crate::status::{ApiError, Subject};

/// The segments of a path up to the end of `proxy`, in a namespace and without.
const SEGMENTS_IN_NAMESPACE: usize = 7;
const SEGMENTS: usize = 5;

impl Agents for Objects {
    fn node(&self, name: &str) -> Option<Object> {
        self.object("nodes", "", name)
    }
}

impl Backends for Objects {
    fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        crate::authorization::node::Objects::get(self, resource, namespace, name)
    }
}

impl Front {
    /// Answers about a subresource that is found elsewhere.
    pub(super) async fn forward(
        &self,
        head: &Head,
        info: &ResourceInfo,
        body: RequestBody,
    ) -> Result<Response<Body>, ApiError> {
        let ResourceInfo { namespace, resource, name, subresource, .. } = info;
        if subresource == "proxy" {
            let path = after_proxy(head, !namespace.is_empty());
            let destination = forward::find(resource, namespace, name, &path, &self.objects)?;
            let (method, headers, upgrade) = (head.method.clone(), &head.headers, &head.upgrade);
            return self.forwarder.forward(&destination, Forwarded { method, headers, body, upgrade }).await;
        }
        let subject = Subject { group: "", kind: "pods", name };
        let pod = self.objects.object("pods", namespace, name).ok_or_else(|| ApiError::not_found(subject))?;
        let destination = forward::locate(&pod, subresource, &head.query, &self.objects)?;
        // What was asked is all in the path.
        let headers = match subresource.as_str() {
            "log" => HeaderMap::new(),
            _ => of_upgrade(head)?,
        };
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let method = if subresource == "log" { Method::GET } else { head.method.clone() };
        let request = Forwarded { method, headers: &headers, body, upgrade: &head.upgrade };
        forward::as_status(self.forwarder.forward(&destination, request).await?).await
    }
}

/// The headers by which a client asks for a WebSocket, or for SPDY: agents know what to say to that, and check the rest first. A
/// kubectl that was refused a WebSocket for any reason asks again by SPDY, and shows the answer to that.
fn of_upgrade(head: &Head) -> Result<HeaderMap, ApiError> {
    if head.text(UPGRADE).is_empty() {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let mut headers = head.headers.clone();
    headers.remove(CONTENT_LENGTH);
    Ok(headers)
}

/// What follows `proxy/` in the path, as it was sent.
fn after_proxy(head: &Head, in_namespace: bool) -> String {
    let segments = if in_namespace { SEGMENTS_IN_NAMESPACE } else { SEGMENTS };
    let path = head.uri.path().trim_start_matches('/');
    let rest = path.splitn(segments + 1, '/').nth(segments).unwrap_or_default();
    match head.uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    }
}
