//! IPAddresses: one stands for each cluster IP that is taken.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::table::{NAME, age, column};
use super::{ips, names};
use crate::field::{CauseReason, FieldError};
use crate::object::Object;
use crate::registry::{Column, Context, Names, Resource, Scope, Update};

#[derive(Debug)]
pub(super) struct IpAddresses;

const NAMES: Names = Names {
    group: "networking.k8s.io",
    version: "v1",
    plural: "ipaddresses",
    singular: "ipaddress",
    kind: "IPAddress",
    short: &["ip"],
    categories: &[],
    scope: Scope::Cluster,
    verbs: Names::ALL_VERBS,
};

const COLUMNS: &[Column] = &[NAME, column("ParentRef", "string", "What has the address.", 0)];

/// The parts of the reference to the parent, in the order in which they are told.
const PARTS: [&str; 4] = ["group", "resource", "namespace", "name"];

impl Resource for IpAddresses {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.networking.v1.IPAddress"
    }

    fn prepare_create(
        &self,
        _context: &Context<'_>,
        object: &mut Object,
    ) -> Result<(), crate::status::ApiError> {
        super::defaults::set_first_generation(object);
        Ok(())
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        ips::strict_ip(name)
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        errors(object)
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        let mut errors = errors(update.new);
        let (new, old) = (parts(update.new), parts(update.old));
        if new != old {
            let [group, resource, namespace, name] = new.map(|part| Value::from(part).to_string());
            errors.push(FieldError {
                path: "spec.parentRef".to_owned(),
                reason: CauseReason::Invalid,
                body: format!(
                    "Invalid value: {{\"Group\":{group},\"Resource\":{resource},\"Namespace\":{namespace},\
                     \"Name\":{name}}}: field is immutable"
                ),
            });
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let [group, resource, namespace, name] = parts(object);
        let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        let present = [resource.as_str(), namespace, name].into_iter().filter(|part| !part.is_empty());
        let parent = present.collect::<Vec<_>>().join("/");
        // Upstream's rows have an age, for which it has no column.
        vec![object.name().into(), parent.into(), json!(age(object, now))]
    }
}

fn parts(object: &Object) -> [&str; 4] {
    PARTS.map(|part| object.text(&["spec", "parentRef", part]))
}

fn errors(object: &Object) -> Vec<FieldError> {
    if object.at(&["spec", "parentRef"]).is_none_or(Value::is_null) {
        return vec![FieldError::required("spec.parentRef", "")];
    }
    let mut errors = Vec::new();
    let [group, resource, namespace, name] = parts(object);
    let path = |part: &str| format!("spec.parentRef.{part}");
    let mut tell = |part: &str, value: &str, mistakes: Vec<String>| {
        let found = mistakes.into_iter().map(|mistake| FieldError::invalid(path(part), value, &mistake));
        errors.extend(found);
    };
    if !group.is_empty() {
        tell("group", group, names::subdomain(group));
    }
    tell("resource", resource, segment(resource));
    tell("name", name, segment(name));
    tell("namespace", namespace, segment(namespace));
    let missing =
        |(part, value): (&str, &str)| value.is_empty().then(|| FieldError::required(path(part), ""));
    let required: Vec<_> = [("resource", resource), ("name", name)].into_iter().filter_map(missing).collect();
    required.into_iter().chain(errors).collect()
}

/// What may stand between two slashes of a path.
fn segment(text: &str) -> Vec<String> {
    match text {
        "." => return vec!["may not be '.'".to_owned()],
        ".." => return vec!["may not be '..'".to_owned()],
        _ => {}
    }
    let forbidden = ["/", "%"].into_iter().filter(|part| text.contains(part));
    forbidden.map(|part| format!("may not contain '{part}'")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, object, texts};

    fn address(parent: Value) -> Object {
        object(json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": parent}}))
    }

    #[test]
    fn names_are_addresses_in_their_canonical_form() {
        assert_eq!(IpAddresses.validate_name("fd00::1"), [""; 0]);
        assert_eq!(IpAddresses.validate_name("FD00::1"), ["must be in canonical form (\"fd00::1\")"]);
        assert_eq!(
            IpAddresses.validate_name("abc"),
            ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
        );
    }

    #[test]
    fn somebody_has_the_address_and_keeps_it() {
        let old = address(json!({"resource": "services", "namespace": "default", "name": "a"}));
        assert_eq!(IpAddresses.validate_create(&context(), &old), []);
        let none = object(json!({"spec": {}}));
        assert_eq!(
            texts(&IpAddresses.validate_create(&context(), &none)),
            ["spec.parentRef: Required value"]
        );
        let wrong = address(json!({"resource": "..", "name": "a/b"}));
        assert_eq!(
            texts(&IpAddresses.validate_create(&context(), &wrong)),
            [
                "spec.parentRef.resource: Invalid value: \"..\": may not be '..'",
                "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'",
            ]
        );
        let new = address(json!({"resource": "services", "namespace": "default", "name": "b"}));
        let update = Update { old: &old, new: &new, subresource: "" };
        assert_eq!(
            texts(&IpAddresses.validate_update(&context(), update)),
            [
                "spec.parentRef: Invalid value: {\"Group\":\"\",\"Resource\":\"services\",\"Namespace\":\"default\",\
              \"Name\":\"b\"}: field is immutable"
            ]
        );
    }

    #[test]
    fn the_row_names_who_has_it() {
        let of = |parent| IpAddresses.row(&address(parent), Timestamp::UNIX_EPOCH)[1].clone();
        assert_eq!(
            of(json!({"resource": "services", "namespace": "default", "name": "a"})),
            "services/default/a"
        );
        assert_eq!(of(json!({"group": "g", "resource": "r", "name": "a"})), "r.g/a");
    }
}
