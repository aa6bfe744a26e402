//! Leases, by which nodes tell that they live and leaders that they lead.

use jiff::Timestamp;
use serde_json::Value;

use super::table::{AGE, NAME, age, column};
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::{Column, Context, Names, PutCreates, Resource, Scope, Update};
use crate::status::ApiError;

#[derive(Debug)]
pub(super) struct Leases;

const NAMES: Names = Names {
    group: "coordination.k8s.io",
    version: "v1",
    plural: "leases",
    singular: "lease",
    kind: "Lease",
    short: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: Names::ALL_VERBS,
};

const COLUMNS: &[Column] = &[NAME, column("Holder", "string", "The identity of the holder", 0), AGE];

impl Resource for Leases {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.coordination.v1.Lease"
    }

    fn put_creates(&self) -> PutCreates {
        PutCreates::Yes
    }

    /// Whoever takes a lease must have seen who holds it.
    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) -> Result<(), ApiError> {
        drop_coordinated_election(object);
        Ok(())
    }

    fn prepare_update(
        &self,
        _context: &Context<'_>,
        new: &mut Object,
        _old: &Object,
        _subresource: &str,
    ) -> Result<(), ApiError> {
        drop_coordinated_election(new);
        Ok(())
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        errors(object)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        errors(update.new)
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), object.text(&["spec", "holderIdentity"]).into(), age(object, now).into()]
    }
}

/// Fields of a feature that is off by default.
fn drop_coordinated_election(object: &mut Object) {
    object.remove(&["spec", "preferredHolder"]);
    object.remove(&["spec", "strategy"]);
}

fn errors(lease: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let number = |field| lease.at(&["spec", field]).and_then(Value::as_i64);
    if let Some(seconds) = number("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
    if let Some(transitions) = number("leaseTransitions").filter(|transitions| *transitions < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("spec.leaseTransitions", transitions, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{context, object, texts};

    #[test]
    fn durations_are_positive_and_transitions_count_up() {
        let lease = object(json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}));
        assert_eq!(
            texts(&Leases.validate_create(&context(), &lease)),
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
        assert_eq!(Leases.validate_create(&context(), &object(json!({}))), []);
    }

    #[test]
    fn the_holder_is_shown() {
        let lease = object(json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "n1"}}));
        assert_eq!(Leases.row(&lease, Timestamp::UNIX_EPOCH), [json!("l"), json!("n1"), json!("<unknown>")]);
    }
}
