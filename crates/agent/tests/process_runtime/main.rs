//! The process runtime against the real kernel: each test on a host of its own.
//!
//! This program is also what the runtime starts again as sandboxes and containers, and an agent to be killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod containers;
mod crash;
mod exec;
mod host;
mod images;
mod isolation;
mod sandboxes;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = switchyard_agent::hidden_command(&arguments) {
        return code;
    }
    if let [command, rest @ ..] = arguments.as_slice()
        && command == crash::AGENT
    {
        crash::be_an_agent(rest);
    }
    let mut trials = Vec::new();
    for (module, tests) in [
        ("sandboxes", sandboxes::TESTS),
        ("containers", containers::TESTS),
        ("isolation", isolation::TESTS),
        ("exec", exec::TESTS),
        ("crash", crash::TESTS),
        ("images", images::TESTS),
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
