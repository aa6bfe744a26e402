//! A step of the lecture: a command anyone could type, and what it must show.

use std::fmt;
use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::stage::Stage;

/// How long a change may take to show.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// What to see in it.
    pub(super) lesson: &'static str,
    /// A line for the shell.
    pub(super) command: &'static str,
    /// Texts that the output must hold.
    pub(super) shows: &'static [&'static str],
}

/// What a step printed, and whether that is what it should.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) output: String,
    pub(super) as_expected: bool,
}

impl Step {
    /// Runs the command until it shows what it should, for a while at most.
    ///
    /// # Errors
    /// When there is no shell.
    pub(super) fn tell(&self, stage: &Stage) -> io::Result<Told> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let command = stage.command("sh").args(["-c", self.command]).stdin(Stdio::null()).output()?;
            let mut output = String::from_utf8_lossy(&command.stdout).into_owned();
            output.push_str(&String::from_utf8_lossy(&command.stderr));
            let as_expected = self.shows.iter().all(|text| output.contains(text));
            if as_expected || Instant::now() >= deadline {
                return Ok(Told { output, as_expected });
            }
            std::thread::sleep(POLL);
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n$ {}", self.lesson, self.command)
    }
}
