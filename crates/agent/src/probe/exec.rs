//! A look at a container by a command that is run in it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Target;
use crate::core::{blocking, one_line};
use crate::runtime::{ExecSpec, Process};

/// How much of the command's output is kept for whoever asks why it failed.
const MAX_OUTPUT: usize = 10 << 10;

/// Runs a command in a container; what it printed.
///
/// # Errors
/// In words for an event: it could not be run, took too long, or ended with another code than 0.
pub(crate) async fn exec(target: &Target, command: &[String], limit: Duration) -> Result<String, String> {
    let target = target.clone();
    let spec = ExecSpec { command: command.to_vec(), tty: false };
    blocking(move || {
        let started = target.runtime.exec(&target.uid, &target.container, &spec);
        let process = started.map_err(|error| one_line(&error))?;
        finish(process, limit)
    })
    .await
}

/// The process ends when it is dropped.
fn finish(mut process: Box<dyn Process>, limit: Duration) -> Result<String, String> {
    let deadline = Instant::now() + limit;
    let mut output = Vec::new();
    if let Some(streams) = process.streams() {
        drop(streams.input);
        let sources = [Some(streams.output), streams.errors].into_iter().flatten().collect();
        if !read_until(sources, deadline, &mut output) {
            return Err(format!("command timed out after {} s", limit.as_secs_f64()));
        }
    }
    let code = process.wait().map_err(|error| one_line(&error))?;
    let output = String::from_utf8_lossy(&output).trim_end().to_owned();
    match code {
        0 => Ok(output),
        _ if output.is_empty() => Err(format!("command ended with exit code {code}")),
        _ => Err(output),
    }
}

/// Reads from all until all are closed; false if that is not so in time.
fn read_until(sources: Vec<OwnedFd>, deadline: Instant, output: &mut Vec<u8>) -> bool {
    let mut sources: Vec<File> = sources.into_iter().map(File::from).collect();
    while !sources.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        // In milliseconds; rounded up, or the last of them would be spent in a busy loop.
        let wait = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|source| PollFd::new(source.as_fd(), PollFlags::POLLIN)).collect();
        if let Err(error) = poll(&mut fds, wait)
            && error != nix::Error::EINTR
        {
            return false;
        }
        let is_ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let mut is_ready = is_ready.into_iter();
        sources.retain_mut(|source| !is_ready.next().unwrap_or(false) || read_some(source, output));
    }
    true
}

/// False at the end.
fn read_some(source: &mut File, output: &mut Vec<u8>) -> bool {
    let mut bytes = [0; 4096];
    match source.read(&mut bytes) {
        Ok(0) => false,
        Ok(count) => {
            let room = MAX_OUTPUT.saturating_sub(output.len()).min(count);
            output.extend_from_slice(&bytes[..room]);
            true
        }
        Err(error) => error.kind() == ErrorKind::Interrupted,
    }
}
