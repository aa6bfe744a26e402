//! `switchyard demo`: the lab's story, on a terminal.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
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
            let _ = writeln!(io::stderr(), "Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tell() -> Result<bool, DemoError> {
    let io = |source| DemoError::Io { doing: "telling the story".to_owned(), source };
    let binary = std::env::current_exe().map_err(io)?;
    let shared = SharedStage::default();
    shared.take_away_on_signal().map_err(io)?;
    say("Building three nodes, their pods and a client outside …");
    let told = shared.build(&binary).and_then(|steps| show_all(&steps).map_err(io));
    shared.take_away();
    told
}

fn show_all(steps: &[Step]) -> io::Result<bool> {
    for (index, step) in steps.iter().enumerate() {
        if !show(index + 1, steps.len(), step)? {
            return Ok(false);
        }
    }
    say("\nThat is all. The nodes are removed again.");
    Ok(true)
}

/// The stage belongs to two threads: the one that tells the story, and the one that a signal ends it with. Namespaces
/// outlive the process that made them, so dying is not enough.
#[derive(Default, Clone)]
struct SharedStage(Arc<Mutex<Option<Stage>>>);

impl SharedStage {
    fn build(&self, binary: &Path) -> Result<Vec<Step>, DemoError> {
        // Held while building, so that a signal takes away what is whole.
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let built = stage.insert(Stage::build(binary)?);
        Ok(steps(built.folder(), binary))
    }

    fn take_away_on_signal(&self) -> io::Result<()> {
        let stage = self.clone();
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                stage.take_away();
                // What a shell makes of a process that died of this signal.
                std::process::exit(128 + signal);
            }
        })?;
        Ok(())
    }

    fn take_away(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
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
