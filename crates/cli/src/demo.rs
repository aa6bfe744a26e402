//! The demo: see `switchyard demo`.

use std::process::ExitCode;

pub fn run(_arguments: &[String]) -> ExitCode {
    ExitCode::SUCCESS
}
