//! What of a lab is in the kernel: its namespaces, and what runs in them.

use std::collections::BTreeSet;

use switchyard_kernel::namespace::{self, NamespaceError, NamespaceFile};
use switchyard_kernel::process::{self, Process};

use super::error::{LabError, doing};
use crate::wiring::LAN;

/// The names of a lab's namespaces, those of its pods included: all begin with its name and a dash. The LAN's comes last:
/// as long as it is there, others can tell that there is a lab of this name.
pub(super) fn namespaces(lab: &str) -> Result<Vec<String>, NamespaceError> {
    let all = namespace::list()?;
    let mut names: Vec<String> = all.iter().filter(|name| belongs(name, lab, &all)).cloned().collect();
    names.sort_by_key(|name| lab_of_lan(name) == Some(lab));
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
fn belongs(namespace: &str, lab: &str, all: &[String]) -> bool {
    let is_of = |lab: &str| namespace.strip_prefix(lab).is_some_and(|rest| rest.starts_with('-'));
    let mut labs = all.iter().filter_map(|name| lab_of_lan(name));
    is_of(lab) && !labs.any(|other| other.len() > lab.len() && is_of(other))
}

/// The lab whose LAN has this namespace.
fn lab_of_lan(namespace: &str) -> Option<&str> {
    namespace.strip_suffix(LAN)?.strip_suffix('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_belongs_to_the_lab_with_the_longest_name_that_it_begins_with() {
        let labs = ["lab-lan".to_owned(), "lab-2-lan".to_owned()];
        assert!(belongs("lab-node-1", "lab", &labs));
        assert!(belongs("lab-2-node-1", "lab-2", &labs));
        assert!(!belongs("lab-2-node-1", "lab", &labs));
        assert!(belongs("lab-lan", "lab", &labs) && belongs("lab-2-lan", "lab-2", &labs));
        assert!(!belongs("lab-2-lan", "lab", &labs));
        assert!(!belongs("laboratory", "lab", &labs));
        assert!(!belongs("my-lab-node-1", "lab", &labs));
    }
}
