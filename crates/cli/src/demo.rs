//! `switchyard demo`: the lab's story, on a terminal.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use switchyard_lab::demo::{DemoError, Stage, Step, steps};

/// Tells the story: with a pause after each step for a person, straight through for a script. The exit code says whether
/// every step showed what it should.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    if !arguments.is_empty() {
        say(
            "Usage: switchyard demo\n\nBuilds three nodes on this machine and makes a service work between them. Needs root.",
        );
        return if arguments == ["--help"] { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match tell() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            say("\nA step did not show what it should.");
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("Error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn tell() -> Result<bool, DemoError> {
    let io = |source| DemoError::Io { doing: "telling the story".to_owned(), source };
    let binary = std::env::current_exe().map_err(io)?;
    say("Building three nodes, their pods and a client outside …");
    let stage = Stage::build(&binary)?;
    let steps = steps(stage.folder(), &binary);
    let count = steps.len();
    for (index, step) in steps.iter().enumerate() {
        if !show(index + 1, count, step).map_err(io)? {
            return Ok(false);
        }
    }
    say("\nThat is all. The nodes are removed again.");
    Ok(true)
}

fn show(number: usize, count: usize, step: &Step) -> io::Result<bool> {
    say(&format!("\n[{number}/{count}] {step}"));
    let told = step.tell()?;
    say(told.output.trim_end());
    if told.as_expected && number < count && io::stdin().is_terminal() {
        print_now("    (Enter for the next step) ");
        io::stdin().read_line(&mut String::new())?;
    }
    Ok(told.as_expected)
}

fn say(text: &str) {
    print_now(&format!("{text}\n"));
}

/// A reader that went away is no reason to leave the nodes behind.
fn print_now(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
