//! CNI against the real kernel: each test on a host of its own, with containers that are network namespaces.
//!
//! Called by the name `switchyard-cni`, this program is the plugin, so that tests can have it executed like any other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod crash;
mod host;
mod network;
mod ports;
mod runtime;
mod upkeep;

use std::io::Write;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use switchyard_cni::plugin;

fn main() -> ExitCode {
    if std::env::args().next().is_some_and(|name| name.ends_with("/switchyard-cni")) {
        let answer = plugin::main(&plugin::variables(), &mut std::io::stdin());
        std::io::stdout().write_all(&answer.stdout).unwrap();
        return ExitCode::from(answer.exit_code);
    }
    let mut trials = Vec::new();
    for (module, tests) in [
        ("network", network::TESTS),
        ("ports", ports::TESTS),
        ("crash", crash::TESTS),
        ("upkeep", upkeep::TESTS),
        ("runtime", runtime::TESTS),
    ] {
        for (name, test) in tests {
            trials.push(Trial::test(format!("{module}::{name}"), move || {
                host::on_a_fresh_host(test);
                Ok(())
            }));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
