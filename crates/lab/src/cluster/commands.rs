//! The commands of the lab, as the binary hands them over.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use super::error::{LabError, chain};
use super::flags::{DownFlags, KeeperFlags, LogsFlags, ShellFlags, StatusFlags, UpFlags};
use super::progress::print;
use super::settings::check_name;
use super::{down, keeper, logs, shell, status, up};

/// Runs `switchyard COMMAND` for a command of the lab; `None` if it is none of them.
pub fn main(command: &str, arguments: &[String]) -> Option<ExitCode> {
    let result = match command {
        "up" => read(command, arguments).and_then(|flags: UpFlags| done(up::run(&flags))),
        "down" => read(command, arguments).and_then(|flags: DownFlags| done(take_down(&flags.name))),
        "status" => read(command, arguments).and_then(|flags: StatusFlags| coded(status::run(&flags))),
        "logs" => read(command, arguments).and_then(|flags: LogsFlags| done(logs::run(&flags))),
        "lab-keeper" => {
            read(command, arguments).and_then(|flags: KeeperFlags| done(keeper::run(&flags.name)))
        }
        "shell" => read(command, arguments).and_then(|flags: ShellFlags| coded(shell::run(&flags))),
        _ => return None,
    };
    Some(result.unwrap_or_else(|code| code))
}

fn read<F: Parser>(command: &str, arguments: &[String]) -> Result<F, ExitCode> {
    let program = format!("switchyard {command}");
    let arguments = std::iter::once(program.as_str()).chain(arguments.iter().map(String::as_str));
    F::try_parse_from(arguments).map_err(|error| {
        // A closed stream is no reason to do anything else.
        let _ = error.print();
        if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    })
}

fn done(result: Result<(), LabError>) -> Result<ExitCode, ExitCode> {
    result.map(|()| ExitCode::SUCCESS).map_err(|error| complain(&error))
}

fn coded(result: Result<ExitCode, LabError>) -> Result<ExitCode, ExitCode> {
    result.map_err(|error| complain(&error))
}

/// Tells of an error; gives the exit code for it.
pub(super) fn complain(error: &LabError) -> ExitCode {
    let _ = writeln!(io::stderr(), "Error: {}", chain(error));
    ExitCode::FAILURE
}

fn take_down(name: &str) -> Result<(), LabError> {
    check_name(name)?;
    need_root()?;
    let what = if down::run(name)? { "is gone" } else { "is not there" };
    print(&format!("Lab {name} {what}.\n"));
    Ok(())
}

/// Everything here takes root, also looking: the lab's folder holds keys.
pub(super) fn need_root() -> Result<(), LabError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}
