//! The demo: the lecture on service networking, step by step, on a lab of its own.
//!
//! The module `story` is what is told, `step` how a step is shown, and `stage` the lab that it is told on.

mod stage;
mod step;
mod story;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use thiserror::Error;

use crate::cluster::LabError;
use stage::Stage;
use step::Step;

/// The lab that the lecture is told on.
pub const NAME: &str = "lecture";

const USAGE: &str = "\
Usage: switchyard demo

Tells the lecture on service networking with a three-node cluster on this machine: each step is a command, its output, and what
to see in it. On a terminal, it waits for Enter between steps. Needs root and kubectl.
";

/// Why the lecture could not be told.
#[derive(Debug, Error)]
pub enum DemoError {
    #[error(transparent)]
    Lab(#[from] LabError),
    #[error("a demo is running already; end that one first")]
    RunningAlready,
    #[error("the lab did not come up")]
    NotUp,
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
}

fn doing(what: &str) -> impl FnOnce(io::Error) -> DemoError {
    let doing = what.to_owned();
    move |source| DemoError::Io { doing, source }
}

/// `switchyard demo`. The exit code says whether every step showed what it should.
pub fn main(arguments: &[String]) -> ExitCode {
    if !arguments.is_empty() {
        say(USAGE);
        return if arguments == ["--help"] || arguments == ["-h"] {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    match tell() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            say("\nThat is not what it should show.\n");
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tell() -> Result<bool, DemoError> {
    let stage = Stage::open()?;
    let told = stage.build().and_then(|()| show_all(&stage, &story::steps()));
    say("\nTaking the lab down.\n");
    stage.take_down();
    told
}

fn show_all(stage: &Stage, steps: &[Step]) -> Result<bool, DemoError> {
    let pauses = io::stdin().is_terminal() && io::stdout().is_terminal();
    for (index, step) in steps.iter().enumerate() {
        say(&format!("\n[{}/{}] {step}\n", index + 1, steps.len()));
        let told = step.tell(stage).map_err(doing("running a command of the lecture"))?;
        say(&told.output);
        if !told.as_expected {
            return Ok(false);
        }
        if pauses {
            say("    (Enter goes on) ");
            io::stdin().read_line(&mut String::new()).map_err(doing("waiting for Enter"))?;
        }
    }
    Ok(true)
}

/// A reader that went away is no reason to leave the lab behind.
fn say(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
