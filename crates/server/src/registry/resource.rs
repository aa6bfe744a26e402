//! What the server must know of a resource.

use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use crate::field::FieldError;
use crate::object::Object;
use crate::status::ApiError;
use crate::store::{Key, Revision, Snapshot, Write};

/// How a resource is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    pub short: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub scope: Scope,
    /// Sorted, as discovery shows them.
    pub verbs: &'static [&'static str],
}

impl Names {
    /// The verbs of most resources.
    pub const ALL_VERBS: &[&str] =
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

    /// As in `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// Whether PUT makes an object that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutCreates {
    Yes,
    No,
}

/// A column of `kubectl get`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// `string` or `integer`.
    pub kind: &'static str,
    /// `name` for the Name column, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// Above 0: with `-o wide` only.
    pub priority: u8,
}

/// A subresource as discovery shows it, and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subresource {
    pub name: &'static str,
    pub verbs: &'static [&'static str],
    /// Of its bodies; group and version are empty where they are those of the resource.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub write: SubresourceWrite,
}

/// What writing a subresource does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubresourceWrite {
    /// An update of the object that takes nothing but its status (and some metadata) from the request.
    Status,
    /// Another view of the object, or an action: [`Resource::subresource`] has it.
    Own,
    /// Answered by a node's agent, or by a pod: [`crate::forward`].
    Forwarded,
}

/// What a descriptor may look at while it works on an object: a consistent state, the time, and the cluster's settings.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub snapshot: &'a Snapshot,
    pub now: Timestamp,
    pub cluster: &'a crate::allocation::ClusterSettings,
    /// Nothing will be stored.
    pub dry_run: bool,
}

/// An update as validation sees it.
#[derive(Debug, Clone, Copy)]
pub struct Update<'a> {
    pub old: &'a Object,
    pub new: &'a Object,
    /// Empty for the resource itself.
    pub subresource: &'a str,
}

/// Further writes that must take place together with that of the object, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Beyond that of the object itself.
    pub writes: Vec<Write>,
    /// What the descriptor found and relied on; `None`: that there is nothing.
    pub expectations: Vec<(Key, Option<Revision>)>,
}

/// One resource. Every method but [`names`](Resource::names) has the behaviour of a plain resource by default.
///
/// The order for a create: decode and check against the schema, [`default`](Resource::default), metadata,
/// [`prepare_create`](Resource::prepare_create), [`allocate`](Resource::allocate),
/// [`validate_create`](Resource::validate_create), commit. A commit that finds something changed starts over with a newer
/// snapshot. All methods are pure.
pub trait Resource: fmt::Debug + Send + Sync + 'static {
    fn names(&self) -> &Names;

    /// The name of the type in [`crate::schema`]: `io.k8s.api.core.v1.Service`.
    fn schema(&self) -> &'static str;

    fn subresources(&self) -> &'static [Subresource] {
        &[]
    }

    fn put_creates(&self) -> PutCreates {
        PutCreates::No
    }

    /// Whether PUT and PATCH may leave `metadata.resourceVersion` out.
    fn allows_unconditional_update(&self) -> bool {
        true
    }

    /// A warning that goes with every answer, for resources that have a better one in their place.
    fn deprecation(&self) -> Option<&'static str> {
        None
    }

    /// Where the object is stored. Another view of the same objects (events) names the same key.
    fn key(&self, namespace: &str, name: &str) -> Key {
        Key::object(self.names().group, self.names().plural, namespace, name)
    }

    /// What the keys of its objects begin with.
    fn key_prefix(&self, namespace: &str) -> String {
        Key::prefix(self.names().group, self.names().plural, namespace)
    }

    /// From the stored form to this version's; for views of objects that are stored in another form.
    fn read_stored(&self, _object: &mut Object) {}

    /// From this version's form to the stored one.
    fn write_stored(&self, _object: &mut Object) {}

    /// Fills in what the client left out.
    fn default(&self, _object: &mut Object) {}

    /// Takes away what a client may not set, sets the first generation. Runs before validation.
    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Object) -> Result<(), ApiError> {
        Ok(())
    }

    /// The same for an update: restores what this write may not change (status, or everything but it), raises the
    /// generation. `old` is the stored object.
    fn prepare_update(
        &self,
        _context: &Context<'_>,
        _new: &mut Object,
        _old: &Object,
        _subresource: &str,
    ) -> Result<(), ApiError> {
        Ok(())
    }

    /// Addresses, ports and whatever else has to be unique, written in the same transaction. `old` is `None` for a create,
    /// `new` is `None` for a removal.
    fn allocate(
        &self,
        _context: &Context<'_>,
        _new: Option<&mut Object>,
        _old: Option<&Object>,
    ) -> Result<Transaction, ApiError> {
        Ok(Transaction::default())
    }

    /// Besides what all metadata must be.
    fn validate_create(&self, _context: &Context<'_>, _object: &Object) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_update(&self, _context: &Context<'_>, _update: Update<'_>) -> Vec<FieldError> {
        Vec::new()
    }

    /// Texts of `Warning` headers for what is accepted but unwise.
    fn warnings(&self, _object: &Object, _old: Option<&Object>) -> Vec<String> {
        Vec::new()
    }

    /// What is wrong with a name, if anything: the texts that follow `metadata.name: Invalid value: "x": `.
    fn validate_name(&self, name: &str) -> Vec<String> {
        crate::resources::names::subdomain(name)
    }

    /// Runs before a deletion: refuses it, or changes what an object that stays for now shows of it (the phase of a
    /// namespace). `object` has its deletion timestamp already. Not called again for an object that is being deleted.
    fn prepare_delete(&self, _context: &Context<'_>, _object: &mut Object) -> Result<(), ApiError> {
        Ok(())
    }

    /// How long a deletion may take at most, in seconds. `None` removes the object at once.
    fn deletion_grace(&self, _object: &Object, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether DELETE answers with the object that is gone, not with a Status.
    fn delete_returns_object(&self) -> bool {
        false
    }

    /// A finalizer of its own that keeps an object while `true`: namespaces, whose `spec.finalizers` count.
    fn is_kept(&self, _object: &Object) -> bool {
        false
    }

    /// What `fieldSelector` may name besides `metadata.name` and `metadata.namespace`.
    fn fields(&self, _object: &Object) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The names of [`fields`](Resource::fields).
    fn field_names(&self) -> &'static [&'static str] {
        &[]
    }

    fn columns(&self) -> &'static [Column] {
        crate::resources::table::NAME_AND_AGE
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        crate::resources::table::name_and_age(object, now)
    }

    /// `conditions` of a row, for objects that are done.
    fn row_conditions(&self, _object: &Object) -> Vec<Value> {
        Vec::new()
    }

    /// Whether an object is only of interest for a while (`--event-ttl`) after its last change.
    fn expires(&self) -> bool {
        false
    }

    /// Answers a write to a subresource of its own ([`SubresourceWrite::Own`]): the changed object, if it changes it, and
    /// what the client is told.
    fn subresource(
        &self,
        _context: &Context<'_>,
        _subresource: &str,
        _verb: &str,
        _object: &Object,
        _body: Option<&Object>,
    ) -> Result<(Option<Object>, Value), ApiError> {
        Err(ApiError::no_such_resource())
    }
}
