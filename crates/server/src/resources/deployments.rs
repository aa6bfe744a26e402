//! Deployments.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::defaults::{fill, map_at, set_first_generation, set_generation};
use super::table::{AGE, NAME, age, column};
use super::workloads;
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Column, Context, Names, Resource, Scope, Subresource, Update};
use crate::status::ApiError;

#[derive(Debug)]
pub(super) struct Deployments;

const NAMES: Names = Names {
    group: "apps",
    version: "v1",
    plural: "deployments",
    singular: "deployment",
    kind: "Deployment",
    short: &["deploy"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: Names::ALL_VERBS,
};

const SUBRESOURCES: &[Subresource] = &workloads::subresources(NAMES.kind);

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "How many pods are ready, and how many there shall be", 0),
    column("Up-to-date", "string", "How many pods are of the current template", 0),
    column("Available", "string", "How many pods have been ready for long enough", 0),
    AGE,
    column("Containers", "string", "The names of the containers", 1),
    column("Images", "string", "The images of the containers", 1),
    column("Selector", "string", "Which pods belong to it", 1),
];

impl Resource for Deployments {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.apps.v1.Deployment"
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
    }

    fn default(&self, object: &mut Object) {
        let Some(spec) = workloads::fill_spec(object) else { return };
        fill(spec, "revisionHistoryLimit", 10);
        fill(spec, "progressDeadlineSeconds", 600);
        let Some(strategy) = map_at(spec, "strategy") else { return };
        fill(strategy, "type", "RollingUpdate");
        if strategy.get("type").is_some_and(|kind| kind == "RollingUpdate")
            && let Some(update) = map_at(strategy, "rollingUpdate")
        {
            fill(update, "maxUnavailable", "25%");
            fill(update, "maxSurge", "25%");
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) -> Result<(), ApiError> {
        object.set(&["status"], json!({}));
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
        if subresource == "status" {
            new.copy(old, &["spec"]);
            new.copy(old, &["metadata", "labels"]);
        } else {
            new.copy(old, &["status"]);
        }
        set_generation(new, old);
        Ok(())
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        errors(object)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        if update.subresource == "status" {
            let counts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
            return workloads::status_errors(update.new, &counts);
        }
        let mut errors = errors(update.new);
        errors.extend(workloads::selector_change(update.new, update.old));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let count = |path: [&str; 2]| object.at(&path).and_then(Value::as_i64).unwrap_or(0);
        let ready = format!("{}/{}", count(["status", "readyReplicas"]), count(["spec", "replicas"]));
        let mut cells = vec![
            object.name().into(),
            ready.into(),
            count(["status", "updatedReplicas"]).into(),
            count(["status", "availableReplicas"]).into(),
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
    let spec = match object.typed::<Deployment>() {
        Ok(deployment) => deployment.spec.unwrap_or_default(),
        Err(error) => return vec![FieldError::internal("spec", &error.to_string())],
    };
    let mut errors = workloads::negative_errors(&[("spec.replicas", spec.replicas)]);
    if object.at(&["spec", "selector"]).is_none_or(Value::is_null) {
        errors.push(FieldError::required("spec.selector", ""));
    } else {
        errors.extend(workloads::template_errors(&spec.selector, Some(&spec.template)));
    }
    if let Some(strategy) = &spec.strategy {
        errors.extend(strategy_errors(strategy));
    }
    errors.extend(time_errors(&spec));
    errors
}

fn strategy_errors(strategy: &DeploymentStrategy) -> Vec<FieldError> {
    const PATH: &str = "spec.strategy";
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            vec![FieldError::forbidden(format!("{PATH}.rollingUpdate"), detail)]
        }
        ("Recreate", None) => Vec::new(),
        ("RollingUpdate", None) => {
            let detail = "this should be defaulted and never be nil";
            vec![FieldError::required(format!("{PATH}.rollingUpdate"), detail)]
        }
        ("RollingUpdate", Some(update)) => rolling_update_errors(update),
        (other, _) => {
            vec![FieldError::not_supported(format!("{PATH}.type"), other, &["Recreate", "RollingUpdate"])]
        }
    }
}

fn rolling_update_errors(update: &RollingUpdateDeployment) -> Vec<FieldError> {
    const PATH: &str = "spec.strategy.rollingUpdate";
    let mut errors = Vec::new();
    let amounts = [("maxUnavailable", &update.max_unavailable), ("maxSurge", &update.max_surge)];
    for (field, amount) in amounts {
        let detail = match amount {
            Some(IntOrString::Int(..0)) => "must be greater than or equal to 0",
            Some(IntOrString::String(text)) if percent(text).is_none() => {
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                 regex used for validation is '[0-9]+%')"
            }
            _ => continue,
        };
        errors.push(FieldError::invalid(format!("{PATH}.{field}"), shown(amount), detail));
    }
    let is_zero = |amount: &Option<IntOrString>| match amount {
        None | Some(IntOrString::Int(0)) => true,
        Some(IntOrString::Int(_)) => false,
        Some(IntOrString::String(text)) => percent(text) == Some(0),
    };
    let unavailable = || (format!("{PATH}.maxUnavailable"), shown(&update.max_unavailable));
    if is_zero(&update.max_unavailable) && is_zero(&update.max_surge) {
        let (path, value) = unavailable();
        errors.push(FieldError::invalid(path, value, "may not be 0 when `maxSurge` is 0"));
    }
    if let Some(IntOrString::String(text)) = &update.max_unavailable
        && percent(text).is_some_and(|percent| percent > 100)
    {
        let (path, value) = unavailable();
        errors.push(FieldError::invalid(path, value, "must not be greater than 100%"));
    }
    errors
}

/// `None` if the text is no percentage.
fn percent(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('%')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn shown(amount: &Option<IntOrString>) -> Value {
    match amount {
        None => Value::Null,
        Some(IntOrString::Int(number)) => (*number).into(),
        Some(IntOrString::String(text)) => text.as_str().into(),
    }
}

fn time_errors(spec: &DeploymentSpec) -> Vec<FieldError> {
    const DEADLINE: &str = "spec.progressDeadlineSeconds";
    let mut errors = workloads::negative_errors(&[
        ("spec.minReadySeconds", spec.min_ready_seconds),
        ("spec.revisionHistoryLimit", spec.revision_history_limit),
        (DEADLINE, spec.progress_deadline_seconds),
    ]);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    if let Some(deadline) = spec.progress_deadline_seconds.filter(|deadline| *deadline <= min_ready) {
        errors.push(FieldError::invalid(DEADLINE, deadline, "must be greater than minReadySeconds"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, object, texts};

    fn deployment() -> Object {
        let mut deployment = object(json!({
            "metadata": {"name": "web", "namespace": "n", "labels": {"l": "1"}},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            }},
        }));
        Deployments.default(&mut deployment);
        Deployments.prepare_create(&context(), &mut deployment).unwrap();
        deployment
    }

    fn errors_with(path: &[&str], value: Value) -> Vec<String> {
        let mut deployment = deployment();
        deployment.set(path, value);
        texts(&Deployments.validate_create(&context(), &deployment))
    }

    #[test]
    fn updates_roll_by_quarters() {
        let deployment = deployment();
        let strategy =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}});
        assert_eq!(deployment.at(&["spec", "strategy"]), Some(&strategy));
        assert_eq!(deployment.at(&["spec", "revisionHistoryLimit"]), Some(&json!(10)));
        assert_eq!(deployment.at(&["spec", "progressDeadlineSeconds"]), Some(&json!(600)));
        assert_eq!(Deployments.validate_create(&context(), &deployment), []);
    }

    #[test]
    fn strategies_make_progress() {
        let rolling = |unavailable: Value, surge: Value| {
            let update = json!({"maxUnavailable": unavailable, "maxSurge": surge});
            json!({"type": "RollingUpdate", "rollingUpdate": update})
        };
        const UNAVAILABLE: &str = "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: ";
        let cases = [
            (rolling(json!(0), json!("0%")), format!("{UNAVAILABLE}0: may not be 0 when `maxSurge` is 0")),
            (rolling(json!("101%"), json!(1)), format!("{UNAVAILABLE}\"101%\": must not be greater than 100%")),
            (rolling(json!(-1), json!(1)), format!("{UNAVAILABLE}-1: must be greater than or equal to 0")),
            (
                json!({"type": "Recreate", "rollingUpdate": {}}),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
                    .to_owned(),
            ),
            (
                json!({"type": "Foo"}),
                "spec.strategy.type: Unsupported value: \"Foo\": supported values: \"Recreate\", \"RollingUpdate\""
                    .to_owned(),
            ),
        ];
        for (strategy, expected) in cases {
            assert_eq!(errors_with(&["spec", "strategy"], strategy.clone()), [expected], "{strategy}");
        }
        assert_eq!(
            errors_with(&["spec", "minReadySeconds"], json!(600)),
            ["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"]
        );
    }

    #[test]
    fn the_selector_stays() {
        let old = deployment();
        let mut new = old.clone();
        for field in [["selector", "matchLabels"], ["template", "metadata"]] {
            let labels = json!({"app": "other"});
            let value = if field[0] == "selector" { labels } else { json!({"labels": labels}) };
            new.set(&["spec", field[0], field[1]], value);
        }
        let update = Update { old: &old, new: &new, subresource: "" };
        assert_eq!(
            texts(&Deployments.validate_update(&context(), update)),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"other\"}}: field is immutable"]
        );
    }

    #[test]
    fn the_generation_counts_changes_of_the_spec() {
        let old = deployment();
        let mut new = old.clone();
        new.set(&["spec", "replicas"], 3);
        new.set(&["status", "replicas"], 3);
        new.set(&["metadata", "labels", "l"], "2");
        let mut by_controller = new.clone();
        Deployments.prepare_update(&context(), &mut new, &old, "").unwrap();
        assert_eq!(new.at(&["metadata", "generation"]), Some(&json!(2)));
        assert_eq!(new.at(&["status"]), old.at(&["status"]));
        Deployments.prepare_update(&context(), &mut by_controller, &old, "status").unwrap();
        assert_eq!(by_controller.at(&["metadata"]), old.at(&["metadata"]));
        assert_eq!(by_controller.at(&["status", "replicas"]), Some(&json!(3)));
    }

    #[test]
    fn rows_tell_how_far_a_rollout_is() {
        let mut deployment = deployment();
        deployment
            .set(&["status"], json!({"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}));
        let expected = json!(["web", "1/1", 2, 1, "<unknown>", "c", "web:1", "app=web"]);
        assert_eq!(Value::from(Deployments.row(&deployment, Timestamp::UNIX_EPOCH)), expected);
    }
}
