//! Namespaces. One that is being deleted stays until its controller has emptied it and taken its own finalizer from
//! `spec.finalizers`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::defaults::map_at;
use super::names;
use super::table::{AGE, NAME, age, column};
use crate::field::FieldError;
use crate::metadata::syntax;
use crate::object::Object;
use crate::registry::{Column, Context, Names, Resource, Scope, Subresource, SubresourceWrite, Update};
use crate::status::{ApiError, Subject};

#[derive(Debug)]
pub(super) struct Namespaces;

const NAMES: Names = Names {
    group: "",
    version: "v1",
    plural: "namespaces",
    singular: "namespace",
    kind: "Namespace",
    short: &["ns"],
    categories: &[],
    scope: Scope::Cluster,
    // Deleting all of them at once is not possible.
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
};

const SUBRESOURCES: &[Subresource] = &[
    Subresource {
        name: "finalize",
        verbs: &["update"],
        group: "",
        version: "",
        kind: "Namespace",
        write: SubresourceWrite::Own,
    },
    Subresource {
        name: "status",
        verbs: &["get", "patch", "update"],
        group: "",
        version: "",
        kind: "Namespace",
        write: SubresourceWrite::Status,
    },
];

const COLUMNS: &[Column] = &[NAME, column("Status", "string", "The status of the namespace", 0), AGE];

/// Without these the cluster does not work.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// By which selectors of namespaces find a namespace by its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The finalizer that the namespace controller takes away.
const FINALIZER: &str = "kubernetes";

const FINALIZERS: [&str; 2] = ["spec", "finalizers"];
const PHASE: [&str; 2] = ["status", "phase"];

impl Resource for Namespaces {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.Namespace"
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, object: &mut Object) {
        map_at(&mut object.0, "spec");
        map_at(&mut object.0, "status");
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) -> Result<(), ApiError> {
        let mut finalizers = object.list(&FINALIZERS).to_vec();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        object.set(&FINALIZERS, finalizers);
        object.set(&["status"], json!({"phase": "Active"}));
        set_name_label(object);
        Ok(())
    }

    fn prepare_update(
        &self,
        _context: &Context<'_>,
        new: &mut Object,
        old: &Object,
        subresource: &str,
    ) -> Result<(), ApiError> {
        new.copy(old, &["spec"]);
        if subresource.is_empty() {
            new.copy(old, &["status"]);
        }
        set_name_label(new);
        Ok(())
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        finalizer_errors(object)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        let phase = update.new.text(&PHASE);
        let (allowed, when) = match update.new.is_being_deleted() {
            true => ("Terminating", "not empty"),
            false => ("Active", "empty"),
        };
        if update.subresource != "status" || phase == allowed {
            return Vec::new();
        }
        let detail = format!("may only be '{allowed}' if `deletionTimestamp` is {when}");
        vec![FieldError::invalid("status.Phase", phase, &detail)]
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::label(name)
    }

    fn prepare_delete(&self, _context: &Context<'_>, object: &mut Object) -> Result<(), ApiError> {
        let name = object.name();
        if IMMORTAL.contains(&name) {
            let subject = Subject { group: NAMES.group, kind: NAMES.plural, name };
            return Err(ApiError::forbidden(subject, "this namespace may not be deleted"));
        }
        object.set(&PHASE, "Terminating");
        Ok(())
    }

    fn is_kept(&self, object: &Object) -> bool {
        !object.list(&FINALIZERS).is_empty()
    }

    fn fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("status.phase", object.text(&PHASE).to_owned())]
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), object.text(&PHASE).into(), age(object, now).into()]
    }

    /// `finalize` replaces the finalizers of the spec and nothing else.
    fn subresource(
        &self,
        _context: &Context<'_>,
        _subresource: &str,
        _verb: &str,
        object: &Object,
        body: Option<&Object>,
    ) -> Result<(Option<Object>, Value), ApiError> {
        let body = body
            .ok_or_else(|| ApiError::bad_request("the namespace with its remaining finalizers is missing"))?;
        let subject = Subject { group: NAMES.group, kind: NAMES.plural, name: object.name() };
        let version = body.resource_version();
        if !version.is_empty() && version != object.resource_version() {
            return Err(ApiError::modified(subject));
        }
        let mut new = object.clone();
        new.set(&["spec"], json!({}));
        let finalizers = body.list(&FINALIZERS).to_vec();
        if !finalizers.is_empty() {
            new.set(&FINALIZERS, finalizers);
        }
        let errors = finalizer_errors(&new);
        if !errors.is_empty() {
            return Err(ApiError::invalid(Subject { kind: NAMES.kind, ..subject }, &errors));
        }
        let shown = new.0.clone().into();
        Ok((Some(new), shown))
    }
}

fn set_name_label(object: &mut Object) {
    let name = object.name().to_owned();
    object.set(&["metadata", "labels", NAME_LABEL], name);
}

fn finalizer_errors(object: &Object) -> Vec<FieldError> {
    const PATH: &str = "spec.finalizers";
    let mut errors = Vec::new();
    for finalizer in object.list(&FINALIZERS).iter().filter_map(Value::as_str) {
        let mistakes = syntax::qualified_name(finalizer);
        errors.extend(mistakes.iter().map(|mistake| FieldError::invalid(PATH, finalizer, mistake)));
        if !finalizer.contains('/') && finalizer != FINALIZER {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(PATH, finalizer, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, object, texts};

    fn created(name: &str) -> Object {
        let mut namespace = object(json!({"metadata": {"name": name}}));
        Namespaces.default(&mut namespace);
        Namespaces.prepare_create(&context(), &mut namespace).unwrap();
        namespace
    }

    #[test]
    fn a_new_namespace_is_active_labelled_and_held() {
        let expected = json!({
            "metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        });
        assert_eq!(created("n"), object(expected));
    }

    #[test]
    fn updates_change_neither_finalizers_nor_the_phase_nor_the_label() {
        let old = created("n");
        let mut new = object(json!({"metadata": {"name": "n", "labels": {"a": "1"}}, "spec": {}}));
        Namespaces.prepare_update(&context(), &mut new, &old, "").unwrap();
        assert_eq!((new.at(&["spec"]), new.at(&["status"])), (old.at(&["spec"]), old.at(&["status"])));
        assert_eq!(new.labels().get(NAME_LABEL), Some(&"n"));
    }

    #[test]
    fn the_clusters_own_namespaces_stay() {
        let error = Namespaces.prepare_delete(&context(), &mut created("kube-system")).unwrap_err();
        assert_eq!(
            error.message,
            r#"namespaces "kube-system" is forbidden: this namespace may not be deleted"#
        );
        let mut other = created("n");
        Namespaces.prepare_delete(&context(), &mut other).unwrap();
        assert_eq!(other.text(&PHASE), "Terminating");
    }

    #[test]
    fn finalize_lets_go() {
        let old = created("n");
        let body = object(json!({"metadata": {"name": "n"}, "spec": {}}));
        let answer = Namespaces.subresource(&context(), "finalize", "update", &old, Some(&body));
        let new = answer.unwrap().0.unwrap();
        assert!(Namespaces.is_kept(&old) && !Namespaces.is_kept(&new));
        assert_eq!(new.text(&PHASE), "Active");
    }

    #[test]
    fn finalizers_name_their_owner() {
        let namespace = object(json!({"spec": {"finalizers": ["foo"]}}));
        let expected = "spec.finalizers: Invalid value: \"foo\": \
            name is neither a standard finalizer name nor is it fully qualified";
        assert_eq!(texts(&Namespaces.validate_create(&context(), &namespace)), [expected]);
    }

    #[test]
    fn the_phase_follows_the_deletion() {
        let new = object(json!({"status": {"phase": "Terminating"}}));
        let update = Update { old: &new, new: &new, subresource: "status" };
        let expected = "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty";
        assert_eq!(texts(&Namespaces.validate_update(&context(), update)), [expected]);
    }
}
