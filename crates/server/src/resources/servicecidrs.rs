//! ServiceCIDRs: the ranges that cluster IPs are taken from.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::defaults::{set_first_generation, set_generation};
use super::ips;
use super::table::{AGE, NAME, age, column, joined};
use crate::allocation::addresses::family;
use crate::field::{CauseReason, FieldError};
use crate::object::Object;
use crate::registry::{Column, Context, Names, Resource, Scope, Subresource, SubresourceWrite, Update};
use crate::status::ApiError;

#[derive(Debug)]
pub(super) struct ServiceCidrs;

const NAMES: Names = Names {
    group: "networking.k8s.io",
    version: "v1",
    plural: "servicecidrs",
    singular: "servicecidr",
    kind: "ServiceCIDR",
    short: &[],
    categories: &[],
    scope: Scope::Cluster,
    verbs: Names::ALL_VERBS,
};

const SUBRESOURCES: &[Subresource] = &[Subresource {
    name: "status",
    verbs: &["get", "patch", "update"],
    group: "",
    version: "",
    kind: "ServiceCIDR",
    write: SubresourceWrite::Status,
}];

const COLUMNS: &[Column] = &[NAME, column("CIDRs", "string", "The ranges of addresses.", 0), AGE];

impl Resource for ServiceCidrs {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.networking.v1.ServiceCIDR"
    }

    fn subresources(&self) -> &'static [Subresource] {
        SUBRESOURCES
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
        new.copy(old, if subresource == "status" { &["spec"] } else { &["status"] });
        set_generation(new, old);
        Ok(())
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Object) -> Vec<FieldError> {
        errors(&ranges(object))
    }

    fn validate_update(&self, _context: &Context<'_>, update: Update<'_>) -> Vec<FieldError> {
        if update.subresource == "status" {
            return Vec::new();
        }
        let (new, old) = (ranges(update.new), ranges(update.old));
        if new == old {
            return Vec::new();
        }
        let immutable = |path: String, value: Value| FieldError::invalid(path, value, "field is immutable");
        let both = new.iter().zip(&old).enumerate();
        let changed = both.filter(|(_, (new, old))| new != old);
        let mut found: Vec<FieldError> = changed
            .map(|(index, (new, _))| immutable(format!("spec.cidrs[{index}]"), new.as_str().into()))
            .collect();
        if new.len() != old.len() && !(old.len() == 1 && new.len() == 2) {
            found.push(immutable("spec.cidrs".to_owned(), new.clone().into()));
        }
        found.extend(errors(&new));
        found
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), joined(ranges(object)).into(), age(object, now).into()]
    }
}

fn ranges(object: &Object) -> Vec<String> {
    let texts = object.list(&["spec", "cidrs"]).iter();
    texts.map(|range| range.as_str().unwrap_or_default().to_owned()).collect()
}

fn errors(ranges: &[String]) -> Vec<FieldError> {
    if ranges.is_empty() {
        return vec![FieldError::required("spec.cidrs", "at least one CIDR required")];
    }
    let mut errors = Vec::new();
    let shown = Value::from(ranges.to_vec());
    let family_of = |range: &String| {
        let address = range.split_once('/').and_then(|(address, _)| ips::lenient(address));
        address.map(family)
    };
    if ranges.len() > 2 {
        errors.push(FieldError {
            path: "spec.cidrs".to_owned(),
            reason: CauseReason::Invalid,
            body: format!("Invalid value: {{\"CIDRs\":{shown}}}: may only hold up to 2 values"),
        });
    } else if let [Some(first), Some(second)] = ranges.iter().map(family_of).collect::<Vec<_>>()[..]
        && first == second
    {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid("spec.cidrs", shown, detail));
    }
    for (index, range) in ranges.iter().enumerate() {
        let path = format!("spec.cidrs[{index}]");
        let mistakes = ips::strict_cidr(range).into_iter();
        errors.extend(mistakes.map(|mistake| FieldError::invalid(path.as_str(), range.as_str(), &mistake)));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, object, texts};

    fn cidr(ranges: &[&str]) -> Object {
        object(json!({"metadata": {"name": "a"}, "spec": {"cidrs": ranges}}))
    }

    #[test]
    fn one_range_a_family() {
        let told = |ranges: &[&str]| texts(&ServiceCidrs.validate_create(&context(), &cidr(ranges)));
        assert_eq!(told(&["10.0.0.0/24", "fd00::/112"]), [""; 0]);
        assert_eq!(told(&[]), ["spec.cidrs: Required value: at least one CIDR required"]);
        assert_eq!(
            told(&["10.0.0.0/24", "10.1.0.0/24"]),
            [
                "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one IP for each \
              IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
            ]
        );
        assert_eq!(
            told(&["10.0.0.1/24"]),
            [
                "spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must not have bits set beyond the prefix length"
            ]
        );
    }

    #[test]
    fn a_second_family_may_be_added_and_nothing_else() {
        let told = |new: &[&str], old: &[&str]| {
            let (new, old) = (cidr(new), cidr(old));
            texts(&ServiceCidrs.validate_update(&context(), Update { old: &old, new: &new, subresource: "" }))
        };
        assert_eq!(told(&["10.0.0.0/24", "fd00::/112"], &["10.0.0.0/24"]), [""; 0]);
        assert_eq!(
            told(&["10.0.1.0/24"], &["10.0.0.0/24"]),
            ["spec.cidrs[0]: Invalid value: \"10.0.1.0/24\": field is immutable"]
        );
        assert_eq!(
            told(&["10.0.0.0/24"], &["10.0.0.0/24", "fd00::/112"]),
            ["spec.cidrs: Invalid value: [\"10.0.0.0/24\"]: field is immutable"]
        );
    }

    #[test]
    fn the_row_has_both_ranges() {
        let row = ServiceCidrs.row(&cidr(&["10.0.0.0/24", "fd00::/112"]), Timestamp::UNIX_EPOCH);
        assert_eq!(row[1], "10.0.0.0/24,fd00::/112");
    }
}
