//! What of a lab is in the kernel: its namespaces, and what runs in them.

use std::collections::BTreeSet;

use switchyard_kernel::namespace::{self, NamespaceError, NamespaceFile};
use switchyard_kernel::process::{self, Process};

use super::error::{LabError, doing};
use super::state;

/// The names of a lab's namespaces, those of its pods included: all begin with its name and a dash.
pub(super) fn namespaces(lab: &str) -> Result<Vec<String>, NamespaceError> {
    let others = state::all_labs();
    let mut names = namespace::list()?;
    names.retain(|name| belongs(name, lab, &others));
    names.sort();
    Ok(names)
}

/// Every process in one of these namespaces.
pub(super) fn processes(namespaces: &[String]) -> Result<Vec<Process>, LabError> {
    // One that is gone meanwhile, or whose making stopped half-way, has nobody in it.
    let ids: BTreeSet<u64> =
        namespaces.iter().filter_map(|name| NamespaceFile::named(name).ok()?.id().ok()).collect();
    process::in_networks(&ids).map_err(doing("looking for processes"))
}

/// Whether a namespace is of this lab, and not of one whose longer name it begins with as well.
fn belongs(namespace: &str, lab: &str, labs: &[String]) -> bool {
    let is_of = |lab: &str| namespace.strip_prefix(lab).is_some_and(|rest| rest.starts_with('-'));
    is_of(lab) && !labs.iter().any(|other| other.len() > lab.len() && is_of(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_belongs_to_the_lab_with_the_longest_name_that_it_begins_with() {
        let labs = ["lab".to_owned(), "lab-2".to_owned()];
        assert!(belongs("lab-node-1", "lab", &labs));
        assert!(belongs("lab-2-node-1", "lab-2", &labs));
        assert!(!belongs("lab-2-node-1", "lab", &labs));
        assert!(!belongs("laboratory", "lab", &labs));
        assert!(!belongs("my-lab-node-1", "lab", &labs));
    }
}
