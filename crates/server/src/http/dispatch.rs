//! Who answers an allowed request.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{ACCEPT, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};

use super::front::{Front, Head, RequestBody};
use super::metrics::Running;
use super::negotiation;
use super::response::{self, Body};
use super::{RequestInfo, ResourceInfo, reviews, token_request, version};
use crate::authentication::{MASTERS, UserInfo};
use crate::authorization::node;
use crate::handlers::{FieldValidation, Reply, Request, Verb};
use crate::object::Object;
use crate::registry::{Names, Resource, Scope, SubresourceWrite};
use crate::schema;
use crate::status::ApiError;

/// Bodies that are longer are not read.
const MOST_BODY_BYTES: usize = 3 * 1024 * 1024;

/// Whether somebody else answers.
///
/// # Errors
/// 405 for a verb that does not go with the subresource.
fn is_forwarded(resource: &dyn Resource, info: &ResourceInfo, verb: Verb) -> Result<bool, ApiError> {
    let subresource = resource.subresources().iter().find(|one| one.name == info.subresource);
    match subresource.filter(|one| one.write == SubresourceWrite::Forwarded) {
        Some(subresource) if !subresource.verbs.contains(&verb.as_str()) => {
            Err(ApiError::method_not_allowed())
        }
        found => Ok(found.is_some()),
    }
}

/// Who answers about a resource.
#[derive(Debug, Clone, Copy)]
enum Plan<'a> {
    Review(&'static Names),
    Token,
    Resource(&'a Arc<dyn Resource>),
}

impl Front {
    /// Answers about anything but resources.
    pub(super) async fn path(&self, head: &Head) -> Result<Response<Body>, ApiError> {
        let path = head.info.path.as_str();
        let answer = self.document(path, head).await?;
        match (answer, &head.method) {
            (None, _) => Ok(response::page_not_found()),
            (Some(answer), &Method::GET | &Method::HEAD) => Ok(answer),
            (Some(_), _) => {
                let mut refused = response::error(
                    &ApiError::method_not_allowed(),
                    head.indented(super::negotiation::Encoding::Json),
                );
                refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                Ok(refused)
            }
        }
    }

    async fn document(&self, path: &str, head: &Head) -> Result<Option<Response<Body>>, ApiError> {
        let accept = head.text(ACCEPT);
        if let Some(answer) = self.health.answer(path, &head.query).await {
            return Ok(Some(answer));
        }
        if let Some(answer) = self.discovery.answer(path, &accept, &head.headers, head.is_pretty()) {
            return Ok(Some(answer));
        }
        if let Some(answer) = self.openapi.answer(path, &head.query, &accept, &head.headers) {
            return Ok(Some(answer));
        }
        let plain = || negotiation::negotiate_plain(&accept).map(|encoding| head.indented(encoding));
        Ok(match path {
            "/version" | "/version/" => Some(response::value(StatusCode::OK, &version::document(), plain()?)),
            "/metrics" => {
                let text = self.metrics.text().map_err(ApiError::internal)?;
                Some(response::whole(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
            }
            "/" => {
                let others =
                    ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];
                let paths: Vec<&str> = self.discovery.paths().chain(others).collect();
                Some(response::value(StatusCode::OK, &json!({"paths": paths}), plain()?))
            }
            _ => None,
        })
    }

    /// Answers about a resource.
    pub(super) async fn dispatch(
        &self,
        head: &Head,
        info: &ResourceInfo,
        body: RequestBody,
        user: UserInfo,
        running: Option<Running>,
    ) -> Result<Response<Body>, ApiError> {
        let is_virtual =
            |names: &Names| (names.group, names.version) == (info.group.as_str(), info.version.as_str());
        if !self.registry.serves(&info.group, &info.version) && !reviews::RESOURCES.iter().any(is_virtual) {
            return Ok(response::page_not_found());
        }
        let verb = info.verb.ok_or_else(ApiError::method_not_allowed)?;
        let plan = self.plan(info, verb)?;
        if let Plan::Resource(resource) = plan
            && is_forwarded(&**resource, info, verb)?
        {
            return self.forward(head, info, body).await;
        }
        let body = match verb {
            Verb::Get | Verb::List | Verb::Watch => Bytes::new(),
            _ => read(&head.headers, body).await?,
        };
        if !body.is_empty() && verb != Verb::Patch {
            negotiation::check_content_type(&head.text(CONTENT_TYPE))?;
        }
        self.check_node(&user, info, plan, head, &body)?;
        match plan {
            Plan::Review(names) => self.review(names, info, head, &body, &user),
            Plan::Token => self.token(info, head, &body),
            Plan::Resource(resource) => {
                let request = request(resource, info, verb, head, body, user)?;
                let encoding = negotiation::negotiate(&head.text(ACCEPT), verb)?.encoding;
                let deprecation = resource.deprecation().map(str::to_owned);
                let mut answer = match self.handlers.handle(request).await? {
                    Reply::Json { code, json, warnings } => {
                        let mut answer = response::json(code, json, head.indented(encoding));
                        response::warn(answer.headers_mut(), &warnings);
                        answer
                    }
                    Reply::Events(events) => {
                        let events = events.take_until(self.stopping.clone().cancelled_owned());
                        // The watch counts as long as somebody reads it.
                        response::stream(events.map(move |line| {
                            let _counts = &running;
                            line
                        }))
                    }
                };
                response::warn(answer.headers_mut(), deprecation.as_slice());
                Ok(answer)
            }
        }
    }

    /// Whether the path names something that is there to be asked.
    pub(super) fn knows(&self, info: &RequestInfo) -> bool {
        let resource = info.resource.as_ref();
        resource.is_some_and(|info| info.verb.is_some_and(|verb| self.plan(info, verb).is_ok()))
    }

    /// # Errors
    /// 404 for a path that names nothing, 405 for a verb that does not go with it.
    fn plan(&self, info: &ResourceInfo, verb: Verb) -> Result<Plan<'_>, ApiError> {
        let ResourceInfo { group, version, resource, name, subresource, .. } = info;
        let checked =
            |is_allowed: bool, plan| if is_allowed { Ok(plan) } else { Err(ApiError::method_not_allowed()) };
        if let Some(names) = reviews::find(group, version, resource) {
            check_scope(names, info)?;
            let has_place = names.scope == Scope::Cluster || !info.namespace.is_empty();
            return checked(verb == Verb::Create && name.is_empty() && has_place, Plan::Review(names));
        }
        let found = self.registry.find(group, version, resource).ok_or_else(ApiError::no_such_resource)?;
        check_scope(found.names(), info)?;
        if group.is_empty() && resource == "serviceaccounts" && subresource == token_request::SUBRESOURCE.name
        {
            return checked(verb == Verb::Create && !info.namespace.is_empty(), Plan::Token);
        }
        let is_known =
            subresource.is_empty() || found.subresources().iter().any(|one| one.name == subresource);
        if !is_known || (!info.rest.is_empty() && subresource != "proxy") {
            return Err(ApiError::no_such_resource());
        }
        let fits = match verb {
            Verb::Create => name.is_empty() || !subresource.is_empty(),
            Verb::Get | Verb::Update | Verb::Patch | Verb::Delete => !name.is_empty(),
            Verb::List | Verb::DeleteCollection => name.is_empty(),
            Verb::Watch => subresource.is_empty(),
        };
        checked(fits, Plan::Resource(found))
    }

    /// What nodes write is looked at; everybody else may do what the path says.
    fn check_node(
        &self,
        user: &UserInfo,
        info: &ResourceInfo,
        plan: Plan<'_>,
        head: &Head,
        body: &Bytes,
    ) -> Result<(), ApiError> {
        let Some(name) = user.node_name().filter(|_| !user.is_in(MASTERS)) else { return Ok(()) };
        let body: Option<Value> = match plan {
            Plan::Resource(_) if info.verb == Some(Verb::Patch) => serde_json::from_slice(body).ok(),
            Plan::Resource(resource) if node::needs_body(info) => {
                let names = resource.names();
                let object = decode(resource.schema(), &names.api_version(), names.kind, head, body)?;
                Some(object.0.into())
            }
            Plan::Token => Some(decode_token_request(head, body)?.0.into()),
            Plan::Resource(_) | Plan::Review(_) => None,
        };
        node::check(name, info, info.only_name(&head.query), body.as_ref(), &self.objects)
    }

    fn review(
        &self,
        names: &Names,
        info: &ResourceInfo,
        head: &Head,
        body: &Bytes,
        user: &UserInfo,
    ) -> Result<Response<Body>, ApiError> {
        let encoding = negotiation::negotiate_plain(&head.text(ACCEPT))?;
        let schema = schema::of_kind(names.group, names.version, names.kind);
        let review = decode(schema, &names.api_version(), names.kind, head, body)?;
        let answer = reviews::answer(names, &info.namespace, review, user, &self.authenticator)?;
        Ok(response::value(StatusCode::CREATED, &answer.0.into(), head.indented(encoding)))
    }

    fn token(&self, info: &ResourceInfo, head: &Head, body: &Bytes) -> Result<Response<Body>, ApiError> {
        let encoding = negotiation::negotiate_plain(&head.text(ACCEPT))?;
        let request = decode_token_request(head, body)?;
        let tokens = &self.authenticator.tokens;
        let answer = token_request::answer(&info.namespace, &info.name, request, &self.objects, tokens)?;
        Ok(response::value(StatusCode::CREATED, &answer.0.into(), head.indented(encoding)))
    }
}

/// What the handlers are asked.
fn request(
    resource: &Arc<dyn Resource>,
    info: &ResourceInfo,
    verb: Verb,
    head: &Head,
    body: Bytes,
    user: UserInfo,
) -> Result<Request, ApiError> {
    let names = resource.names();
    let negotiated = negotiation::negotiate(&head.text(ACCEPT), verb)?;
    let form = negotiated.form(verb, head.query.get("includeObject"), names.kind)?;
    let mut query = head.query.0.clone();
    let mut name = info.name.clone();
    if verb == Verb::Watch && !name.is_empty() {
        // A watch of one object is one of its collection.
        query.push(("fieldSelector".to_owned(), format!("metadata.name={name}")));
        name.clear();
    }
    Ok(Request {
        resource: resource.clone(),
        namespace: if names.scope == Scope::Cluster { String::new() } else { info.namespace.clone() },
        name,
        subresource: info.subresource.clone(),
        verb,
        query,
        form,
        content_type: head.text(CONTENT_TYPE),
        body,
        client: user.name,
    })
}

/// Resources of the cluster are in no namespace, but for namespaces themselves.
fn check_scope(names: &Names, info: &ResourceInfo) -> Result<(), ApiError> {
    let is_namespace = (names.group, names.plural) == ("", "namespaces");
    match names.scope == Scope::Cluster && !info.namespace.is_empty() && !is_namespace {
        true => Err(ApiError::no_such_resource()),
        false => Ok(()),
    }
}

fn decode(
    schema: &'static str,
    api_version: &str,
    kind: &str,
    head: &Head,
    body: &Bytes,
) -> Result<Object, ApiError> {
    let content_type = head.text(CONTENT_TYPE);
    schema::decode(schema, api_version, kind, &content_type, body, FieldValidation::Ignore)
        .map(|(object, _)| object)
}

fn decode_token_request(head: &Head, body: &Bytes) -> Result<Object, ApiError> {
    let crate::registry::Subresource { group, version, kind, .. } = token_request::SUBRESOURCE;
    decode(schema::of_kind(group, version, kind), &format!("{group}/{version}"), kind, head, body)
}

/// The whole body.
async fn read(headers: &HeaderMap, body: RequestBody) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("Request entity too large: limit is {MOST_BODY_BYTES}");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    };
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MOST_BODY_BYTES) {
        return Err(too_large());
    }
    // In a box, since the compiler cannot see past a generic error in a future that has to be Send.
    match Limited::new(body, MOST_BODY_BYTES).boxed_unsync().collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(ApiError::bad_request(format!("reading the body: {error}"))),
    }
}
