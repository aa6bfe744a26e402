//! What `up` tells while it works.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Lines on standard output: one a step, and on a terminal also what is being done right now.
#[derive(Debug)]
pub(super) struct Progress {
    is_terminal: bool,
    since: Instant,
}

impl Progress {
    pub(super) fn start() -> Progress {
        Progress { is_terminal: io::stdout().is_terminal(), since: Instant::now() }
    }

    /// What is being done from now on.
    pub(super) fn begin(&mut self, what: &str) {
        self.since = Instant::now();
        if self.is_terminal {
            print(&format!("  {what} …"));
        }
    }

    /// That it is done.
    pub(super) fn done(&self, what: &str) {
        self.clear();
        print(&format!("✓ {what} ({})\n", seconds(self.since.elapsed())));
    }

    /// Takes back what [`Progress::begin`] said, before an error is told.
    pub(super) fn clear(&self) {
        if self.is_terminal {
            // To the line's beginning, and nothing on it.
            print("\r\x1b[K");
        }
    }
}

/// Says something; a reader that went away is no reason to stop.
pub(super) fn print(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
