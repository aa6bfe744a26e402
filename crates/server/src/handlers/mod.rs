//! The verbs: what becomes of a request that has been read and allowed.
//!
//! Reads are answered from the [`Cache`]: bytes are copied, objects parsed only for tables. A write works its change out on a
//! snapshot, commits it together with what it relied on, and starts over when somebody else was faster. Which client
//! manages which field is not tracked: `managedFields` are dropped, and server-side apply is refused.

mod body;
mod clients;
mod collection;
mod create;
mod delete;
pub mod expiry;
mod options;
mod read;
mod subresource;
mod token;
mod update;
mod view;
mod watch;
mod write;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use clients::Clients;
use options::{DeleteOptions, ListOptions, Query, WatchOptions, WriteOptions};
use update::Target;
use view::View;
use write::{ATTEMPTS, Answer, Change, PATCH_ATTEMPTS, by_resource};

pub use options::FieldValidation;
pub use view::{Form, Include};

use crate::allocation::ClusterSettings;
use crate::metadata;
use crate::object::Object;
use crate::registry::{Context, Resource, Scope, Subresource, SubresourceWrite};
use crate::selectors::Selectors;
use crate::status::ApiError;
use crate::store::Cache;

/// A request about a resource, by somebody who may make it.
#[derive(Debug)]
pub struct Request {
    pub resource: Arc<dyn Resource>,
    /// As in the path: empty for resources of the cluster and for all namespaces; that of a Namespace may be its name.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// Empty for none.
    pub subresource: String,
    pub verb: Verb,
    /// The parameters, decoded.
    pub query: Vec<(String, String)>,
    pub form: Form,
    /// Of the body; empty if it is not said.
    pub content_type: String,
    pub body: Bytes,
    /// Whose watches are counted together: a user, or a user and an address.
    pub client: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// As descriptors and rules have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

/// The answer to a request that succeeded.
pub enum Reply {
    Json {
        code: StatusCode,
        json: Bytes,
        /// Texts of `Warning` headers.
        warnings: Vec<String>,
    },
    /// The events of a watch, each a JSON object and a line feed.
    Events(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Json { code, json, warnings } => f
                .debug_struct("Json")
                .field("code", code)
                .field("json", json)
                .field("warnings", warnings)
                .finish(),
            Reply::Events(_) => f.write_str("Events"),
        }
    }
}

impl Reply {
    fn json(code: StatusCode, json: Bytes) -> Reply {
        Reply::Json { code, json, warnings: Vec::new() }
    }
}

/// The verbs over all resources.
#[derive(Debug)]
pub struct Handlers {
    cache: Arc<Cache>,
    cluster: ClusterSettings,
    clients: Clients,
}

impl Handlers {
    pub fn new(cache: Arc<Cache>, cluster: ClusterSettings) -> Handlers {
        Handlers { cache, cluster, clients: Clients::default() }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// What the client is told in place of an answer.
    pub async fn handle(&self, mut request: Request) -> Result<Reply, ApiError> {
        request.check_place()?;
        if !request.subresource.is_empty() {
            return self.subresource(&request).await;
        }
        if !request.resource.names().verbs.contains(&request.verb.as_str()) {
            return Err(ApiError::method_not_allowed());
        }
        match request.verb {
            Verb::Get => self.get(&request).await,
            Verb::List => self.list_all(&request).await,
            Verb::Watch => self.watch_all(&request).await,
            Verb::Create => self.create(&request).await,
            Verb::Update => self.update(&request).await,
            Verb::Patch => self.patch(&request).await,
            Verb::Delete => self.delete(&request).await,
            Verb::DeleteCollection => self.delete_all(&request).await,
        }
    }

    async fn subresource(&self, request: &Request) -> Result<Reply, ApiError> {
        let found = request.resource.subresources().iter().find(|one| one.name == request.subresource);
        let subresource = found.ok_or_else(ApiError::no_such_resource)?;
        if !subresource.verbs.contains(&request.verb.as_str()) {
            return Err(ApiError::method_not_allowed());
        }
        match (subresource.write, request.verb) {
            (SubresourceWrite::Status, Verb::Get) => self.get(request).await,
            (SubresourceWrite::Status, Verb::Update) => self.update(request).await,
            (SubresourceWrite::Status, Verb::Patch) => self.patch(request).await,
            (SubresourceWrite::Own, Verb::Get) => self.get_own(request).await,
            (SubresourceWrite::Own, Verb::Patch) => self.patch_own(request, subresource).await,
            (SubresourceWrite::Own, Verb::Create | Verb::Update | Verb::Delete) => {
                self.write_own(request, subresource).await
            }
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    async fn get(&self, request: &Request) -> Result<Reply, ApiError> {
        let snapshot = self.snapshot(options::wanted_by_get(request.query())?).await?;
        let target = request.target();
        let cached = snapshot.get(&target.key()).ok_or_else(|| target.not_found())?;
        Ok(Reply::json(StatusCode::OK, request.view().cached(&cached, Timestamp::now())))
    }

    async fn list_all(&self, request: &Request) -> Result<Reply, ApiError> {
        let options = ListOptions::parse(request.query())?;
        let selectors = request.selectors()?;
        let listed = self.list(&*request.resource, &request.namespace, &selectors, &options).await?;
        Ok(Reply::json(
            StatusCode::OK,
            request.view().list(&listed.items, &listed.metadata, Timestamp::now()),
        ))
    }

    async fn watch_all(&self, request: &Request) -> Result<Reply, ApiError> {
        let options = WatchOptions::parse(request.query())?;
        let mut selectors = request.selectors()?;
        if !request.name.is_empty() {
            selectors = selectors.and_name(&request.name);
        }
        let place = self.clients.enter(&request.client)?;
        let mut prefix = request.resource.key_prefix(&request.namespace);
        let is_flat = request.resource.names().scope == Scope::Cluster || !request.namespace.is_empty();
        if let (Some(name), true) = (selectors.only_name(), is_flat) {
            prefix.push_str(name);
        }
        let subject = watch::Subject { view: request.view(), selectors, prefix, _place: place };
        Ok(Reply::Events(Box::pin(self.watch(subject, options).await?)))
    }

    async fn create(&self, request: &Request) -> Result<Reply, ApiError> {
        let options = WriteOptions::parse(request.query(), "CreateOptions")?;
        let resource = &*request.resource;
        let (mut body, warnings) = body::decode(resource, request, options.field_validation)?;
        metadata::set_namespace(&mut body, &request.namespace)?;
        let change = self
            .commit(by_resource(resource, body.name()), ATTEMPTS, options.dry_run, |context| {
                create::create(resource, context, &request.namespace, &body)
            })
            .await?;
        Ok(request.reply(change, warnings))
    }

    async fn update(&self, request: &Request) -> Result<Reply, ApiError> {
        let options = WriteOptions::parse(request.query(), "UpdateOptions")?;
        let target = request.target();
        let (mut body, warnings) = body::decode(target.resource, request, options.field_validation)?;
        metadata::set_namespace(&mut body, &request.namespace)?;
        metadata::check_name(&body, &request.name)?;
        let change = self
            .commit(request.subject(), ATTEMPTS, options.dry_run, |context| {
                update::put(target, context, &body)
            })
            .await?;
        Ok(request.reply(change, warnings))
    }

    async fn patch(&self, request: &Request) -> Result<Reply, ApiError> {
        let patch = body::Patch::parse(request)?;
        let options = WriteOptions::parse(request.query(), "PatchOptions")?;
        let target = request.target();
        let change = self
            .commit(request.subject(), PATCH_ATTEMPTS, options.dry_run, |context| {
                let cached = context.snapshot.get(&target.key()).ok_or_else(|| target.not_found())?;
                let old = view::visible(target.resource, cached.object());
                let (mut new, warnings) = patch.apply(target.resource, &old, options.field_validation)?;
                metadata::set_namespace(&mut new, &request.namespace)?;
                metadata::check_name(&new, &request.name)?;
                let mut change = update::update(target, context, &cached, &old, new)?;
                change.warnings.splice(0..0, warnings);
                Ok(change)
            })
            .await?;
        Ok(request.reply(change, Vec::new()))
    }

    async fn delete(&self, request: &Request) -> Result<Reply, ApiError> {
        let options = DeleteOptions::parse(body::delete_options(request)?.as_ref(), request.query())?;
        let target = request.target();
        let change = self
            .commit(request.subject(), ATTEMPTS, options.dry_run, |context| {
                delete::delete(target, context, &options)
            })
            .await?;
        Ok(request.reply(change, Vec::new()))
    }

    async fn delete_all(&self, request: &Request) -> Result<Reply, ApiError> {
        let options = DeleteOptions::parse(body::delete_options(request)?.as_ref(), request.query())?;
        let list = ListOptions::parse(request.query())?;
        let selectors = request.selectors()?;
        let deleted = self
            .delete_collection(&*request.resource, &request.namespace, &selectors, &list, &options)
            .await?;
        Ok(Reply::json(StatusCode::OK, deleted.to_string().into()))
    }

    async fn get_own(&self, request: &Request) -> Result<Reply, ApiError> {
        let snapshot = self.snapshot(options::wanted_by_get(request.query())?).await?;
        let now = Timestamp::now();
        let context = Context { snapshot: &snapshot, now, cluster: &self.cluster, dry_run: false };
        let shown = subresource::read(request.target(), &context)?;
        Ok(Reply::json(StatusCode::OK, shown.to_string().into()))
    }

    async fn write_own(&self, request: &Request, subresource: &Subresource) -> Result<Reply, ApiError> {
        let kind = if request.verb == Verb::Create { "CreateOptions" } else { "UpdateOptions" };
        let options = WriteOptions::parse(request.query(), kind)?;
        let target = request.target();
        let (body, warnings) =
            body::decode_subresource(target.resource, subresource, request, options.field_validation)?;
        let change = self
            .commit(request.subject(), ATTEMPTS, options.dry_run, |context| {
                subresource::write(target, context, request.verb.as_str(), &body)
            })
            .await?;
        Ok(request.reply(change, warnings))
    }

    async fn patch_own(&self, request: &Request, subresource: &Subresource) -> Result<Reply, ApiError> {
        let patch = body::Patch::parse(request)?;
        let options = WriteOptions::parse(request.query(), "PatchOptions")?;
        let target = request.target();
        let change = self
            .commit(request.subject(), PATCH_ATTEMPTS, options.dry_run, |context| {
                let shown = match subresource::read(target, context)? {
                    Value::Object(shown) => Object(shown),
                    _ => return Err(ApiError::method_not_allowed()),
                };
                let (new, warnings) =
                    patch.apply_to_view(target.resource, subresource, &shown, options.field_validation)?;
                let mut change = subresource::write(target, context, "update", &new)?;
                change.warnings.splice(0..0, warnings);
                Ok(change)
            })
            .await?;
        Ok(request.reply(change, Vec::new()))
    }
}

impl Request {
    /// Whether the verb goes with a namespace and a name, or with none.
    fn check_place(&mut self) -> Result<(), ApiError> {
        let names = self.resource.names();
        match names.scope {
            // The path of a Namespace looks as if it were in itself.
            Scope::Cluster if self.namespace == self.name => self.namespace.clear(),
            Scope::Cluster if !self.namespace.is_empty() => return Err(ApiError::no_such_resource()),
            _ => {}
        }
        let spans_namespaces = matches!(self.verb, Verb::List | Verb::Watch);
        let is_somewhere = names.scope == Scope::Cluster || !self.namespace.is_empty();
        let is_named = !self.name.is_empty();
        let goes_with_name = match self.verb {
            Verb::Get | Verb::Update | Verb::Patch | Verb::Delete => is_named,
            Verb::Create => is_named != self.subresource.is_empty(),
            Verb::List | Verb::DeleteCollection => !is_named,
            // Paths below `/watch/` may name an object.
            Verb::Watch => true,
        };
        if goes_with_name && (is_somewhere || spans_namespaces) {
            Ok(())
        } else {
            Err(ApiError::method_not_allowed())
        }
    }

    fn query(&self) -> Query<'_> {
        Query(&self.query)
    }

    fn target(&self) -> Target<'_> {
        Target {
            resource: &*self.resource,
            namespace: &self.namespace,
            name: &self.name,
            subresource: &self.subresource,
        }
    }

    fn subject(&self) -> crate::status::Subject<'_> {
        by_resource(&*self.resource, &self.name)
    }

    fn view(&self) -> View {
        View::new(&self.resource, self.form)
    }

    fn selectors(&self) -> Result<Selectors, ApiError> {
        let query = self.query();
        Selectors::parse(&*self.resource, query.get("labelSelector"), query.get("fieldSelector"))
    }

    fn reply(&self, change: Change, mut warnings: Vec<String>) -> Reply {
        warnings.extend(change.warnings);
        let is_create = self.verb == Verb::Create;
        let code = match &change.answer {
            Answer::Created(_) => StatusCode::CREATED,
            _ if is_create => StatusCode::CREATED,
            _ => StatusCode::OK,
        };
        let json = match change.answer {
            // Another view of the object is not of its kind, and has no table.
            Answer::Kept(object) if object.kind() != self.resource.names().kind => {
                Value::from(object.0).to_string().into()
            }
            Answer::Created(object) | Answer::Kept(object) | Answer::Gone(object) => {
                self.view().single(object, Timestamp::now())
            }
            Answer::Other(value) => value.to_string().into(),
        };
        Reply::Json { code, json, warnings }
    }
}

#[cfg(test)]
mod tests;
