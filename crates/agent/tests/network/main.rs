//! The ways between nodes in the real kernel: nodes are network namespaces with an agent each.
//!
//! Called by the name `switchyard-cni`, this program is the network plugin, as the agent's own program is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod nodes;
mod ways;

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
    let trials = ways::TESTS.iter().map(|(name, test)| {
        Trial::test(*name, move || {
            nodes::on_a_fresh_host(*test);
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
