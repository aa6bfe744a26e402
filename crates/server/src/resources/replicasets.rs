//! ReplicaSets.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use super::defaults::{set_first_generation, set_generation};
use super::table::{AGE, NAME, age, column};
use super::workloads;
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Column, Context, Names, Resource, Scope, Subresource, Update};
use crate::status::ApiError;

#[derive(Debug)]
pub(super) struct ReplicaSets;

const NAMES: Names = Names {
    group: "apps",
    version: "v1",
    plural: "replicasets",
    singular: "replicaset",
    kind: "ReplicaSet",
    short: &["rs"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: Names::ALL_VERBS,
};

const SUBRESOURCES: &[Subresource] = &workloads::subresources(NAMES.kind);

const COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", "How many pods there shall be", 0),
    column("Current", "integer", "How many pods there are", 0),
    column("Ready", "integer", "How many pods are ready", 0),
    AGE,
    column("Containers", "string", "The names of the containers", 1),
    column("Images", "string", "The images of the containers", 1),
    column("Selector", "string", "Which pods belong to it", 1),
];

impl Resource for ReplicaSets {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.apps.v1.ReplicaSet"
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, object: &mut Object) {
        workloads::fill_spec(object);
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) -> Result<(), ApiError> {
        object.set(&["status"], json!({"replicas": 0}));
        set_first_generation(object);
        Ok(())
    }

    fn prepare_update(
        &self,
        _context: &Context<'_>,
        new: &mut Object,
        old: &Object,
        subresource: &str,
    ) -> Result<(), ApiError> {
        new.copy(old, if subresource == "status" { &["spec"] } else { &["status"] });
        set_generation(new, old);
        Ok(())
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        errors(object)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        if update.subresource == "status" {
            let counts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
            return workloads::status_errors(update.new, &counts);
        }
        let mut errors = errors(update.new);
        errors.extend(workloads::selector_change(update.new, update.old));
        errors
    }

    fn fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        let replicas = object.at(&["status", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
        vec![("status.replicas", replicas.to_string())]
    }

    fn field_names(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let count = |path: [&str; 2]| object.at(&path).and_then(Value::as_i64).unwrap_or(0);
        let mut cells = vec![
            object.name().into(),
            count(["spec", "replicas"]).into(),
            count(["status", "replicas"]).into(),
            count(["status", "readyReplicas"]).into(),
            age(object, now).into(),
        ];
        cells.extend(workloads::wide_cells(object));
        cells
    }

    fn subresource(
        &self,
        _context: &Context<'_>,
        _subresource: &str,
        _verb: &str,
        object: &Object,
        body: Option<&Object>,
    ) -> Result<(Option<Object>, Value), ApiError> {
        workloads::scale(&NAMES, object, body)
    }
}

fn errors(object: &Object) -> Vec<FieldError> {
    let spec = match object.typed::<ReplicaSet>() {
        Ok(set) => set.spec.unwrap_or_default(),
        Err(error) => return vec![FieldError::internal("spec", &error.to_string())],
    };
    let numbers = [("spec.replicas", spec.replicas), ("spec.minReadySeconds", spec.min_ready_seconds)];
    let mut errors = workloads::negative_errors(&numbers);
    if object.at(&["spec", "selector"]).is_none_or(Value::is_null) {
        errors.push(FieldError::required("spec.selector", ""));
        return errors;
    }
    errors.extend(workloads::template_errors(&spec.selector, spec.template.as_ref()));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, object, texts};

    fn set() -> Object {
        let mut set = object(json!({
            "metadata": {"name": "web", "namespace": "n", "resourceVersion": "7"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}, "creationTimestamp": null},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            }},
        }));
        ReplicaSets.default(&mut set);
        ReplicaSets.prepare_create(&context(), &mut set).unwrap();
        set
    }

    #[test]
    fn one_pod_after_a_complete_template() {
        let set = set();
        assert_eq!(set.at(&["spec", "replicas"]), Some(&json!(1)));
        assert_eq!(set.at(&["spec", "template", "metadata"]), Some(&json!({"labels": {"app": "web"}})));
        assert_eq!(set.text(&["spec", "template", "spec", "restartPolicy"]), "Always");
        assert_eq!(ReplicaSets.validate_create(&context(), &set), []);
    }

    #[test]
    fn the_template_is_found_by_the_selector() {
        let mut set = set();
        set.set(&["spec", "template", "metadata", "labels", "app"], "api");
        set.set(&["spec", "template", "spec", "restartPolicy"], "Never");
        assert_eq!(
            texts(&ReplicaSets.validate_create(&context(), &set)),
            [
                "spec.template.metadata.labels: Invalid value: {\"app\":\"api\"}: \
                 `selector` does not match template `labels`",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ]
        );
        set.remove(&["spec", "selector"]);
        assert_eq!(texts(&ReplicaSets.validate_create(&context(), &set)), ["spec.selector: Required value"]);
    }

    #[test]
    fn scale_is_a_view_of_the_number_of_pods() {
        let (_, shown) = ReplicaSets.subresource(&context(), "scale", "get", &set(), None).unwrap();
        let expected = json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {"name": "web", "namespace": "n", "resourceVersion": "7"},
            "spec": {"replicas": 1}, "status": {"replicas": 0, "selector": "app=web"},
        });
        assert_eq!(shown, expected);
        let scale = |replicas: i64, version: &str| {
            let body =
                object(json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}));
            ReplicaSets.subresource(&context(), "scale", "update", &set(), Some(&body))
        };
        let scaled = scale(3, "7").unwrap().0.unwrap();
        assert_eq!(scaled.at(&["spec", "replicas"]), Some(&json!(3)));
        assert_eq!(scaled.at(&["metadata", "generation"]), Some(&json!(2)));
        assert_eq!(scale(3, "6").unwrap_err().reason, "Conflict");
        assert_eq!(
            scale(-1, "").unwrap_err().message,
            "Scale.autoscaling \"web\" is invalid: \
             spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
    }

    #[test]
    fn counts_of_the_status_fit_together() {
        let mut new = set();
        new.set(&["status"], json!({"replicas": 1, "readyReplicas": 2}));
        let update = Update { old: &set(), new: &new, subresource: "status" };
        assert_eq!(
            texts(&ReplicaSets.validate_update(&context(), update)),
            ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]
        );
    }

    #[test]
    fn rows_count_pods_and_name_images() {
        let mut set = set();
        set.set(&["status"], json!({"replicas": 2, "readyReplicas": 1}));
        set.set(
            &["spec", "selector", "matchExpressions"],
            json!([{"key": "t", "operator": "In", "values": ["a", "b"]}]),
        );
        let expected = json!(["web", 1, 2, 1, "<unknown>", "c", "web:1", "app=web,t in (a,b)"]);
        assert_eq!(Value::from(ReplicaSets.row(&set, Timestamp::UNIX_EPOCH)), expected);
    }
}
