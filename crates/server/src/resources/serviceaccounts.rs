//! ServiceAccounts. Tokens for them are not issued here.

use super::table::{AGE, NAME};
use crate::registry::{Column, Names, Resource, Scope};

#[derive(Debug)]
pub(super) struct ServiceAccounts;

const NAMES: Names = Names {
    group: "",
    version: "v1",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    kind: "ServiceAccount",
    short: &["sa"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: Names::ALL_VERBS,
};

const COLUMNS: &[Column] = &[NAME, AGE];

impl Resource for ServiceAccounts {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn schema(&self) -> &'static str {
        "io.k8s.api.core.v1.ServiceAccount"
    }

    fn delete_returns_object(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }
}
