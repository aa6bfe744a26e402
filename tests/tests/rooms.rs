//! The boundaries between the crates, as ARCHITECTURE.md draws them.
#![allow(clippy::expect_used)] // a test that cannot read cargo's answer stops

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const TABLE: [(&str, &[&str]); 10] = [
    ("api", &[]),
    ("model", &["api"]),
    ("plan", &["model"]),
    ("kernel", &["plan"]),
    ("proxy", &["api", "model", "plan", "kernel"]),
    ("server", &[]),
    ("cni", &["kernel"]),
    ("agent", &["kernel", "cni"]),
    ("lab", &["kernel"]),
    ("cli", &["api", "model", "plan", "kernel", "proxy", "server", "cni", "agent", "lab"]),
];

/// Crates whose meaning must not hang on time, files or the network.
const PURE: [&str; 3] = ["api", "model", "plan"];
const IMPURE: [&str; 5] = ["tokio", "libc", "nix", "tracing", "kube"];

#[test]
fn no_crate_uses_another_that_the_table_does_not_allow() {
    for (name, used) in dependencies() {
        let Some(room) = name.strip_prefix("switchyard-").filter(|room| *room != "tests") else { continue };
        let allowed = TABLE.iter().find(|(row, _)| *row == room).map(|(_, allowed)| *allowed);
        let allowed =
            allowed.unwrap_or_else(|| panic!("crate {name} is missing in the table of ARCHITECTURE.md"));
        for other in used.iter().filter_map(|dependency| dependency.strip_prefix("switchyard-")) {
            assert!(
                allowed.contains(&other),
                "{room} must not use {other}: see the table in ARCHITECTURE.md"
            );
        }
    }
}

#[test]
fn the_pure_crates_stay_pure() {
    let dependencies = dependencies();
    for room in PURE {
        let used = &dependencies[&format!("switchyard-{room}")];
        for impure in IMPURE {
            assert!(!used.contains(impure), "{room} does no I/O and must not use {impure}");
        }
    }
}

/// The normal dependencies of every crate in the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["metadata", "--format-version=1", "--no-deps", "--offline"];
    let output = Command::new(cargo).args(arguments).output().expect("running cargo metadata");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("reading cargo metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let normal = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().expect("dependencies");
        let normal = all.iter().filter(|dependency| dependency["kind"].is_null());
        normal.filter_map(|dependency| dependency["name"].as_str().map(str::to_owned)).collect()
    };
    packages
        .iter()
        .map(|package| (package["name"].as_str().expect("name").to_owned(), normal(package)))
        .collect()
}
