//! What signals do to a program.

#![allow(unsafe_code)]

use std::io;

use nix::sys::signal::{SigHandler, Signal, signal};

/// Has every signal do what it does by default, here and in the program that this process becomes. Signals that are ignored stay
/// so across programs otherwise: those that a shell has its background programs ignore, or nohup.
///
/// # Errors
/// None that a running kernel gives.
pub fn reset_signals() -> io::Result<()> {
    for each in Signal::iterator() {
        // These two cannot be anything but what they are.
        if !matches!(each, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default is no function of this program that could run at a bad moment.
            unsafe { signal(each, SigHandler::SigDfl) }?;
        }
    }
    Ok(())
}
