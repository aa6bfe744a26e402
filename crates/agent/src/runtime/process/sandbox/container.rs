//! A container that runs in this sandbox.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use switchyard_kernel::process::ProcessHandle;
use switchyard_kernel::wait::readable;

use super::super::folder::EndRecord;
use super::super::protocol::{self, Reply, Surroundings};
use super::log::{Log, Stream};

/// How often, and for how long, it is looked whether a program that held SIGTERM back when it was sent lets go of it: then the
/// kernel has dropped it.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOK_FOR: Duration = Duration::from_secs(1);

/// A running container: the first process of a process namespace of its own. When that process ends, the kernel ends all others
/// of the container before it lets anybody know, wherever they went and whatever group or session they made.
#[derive(Debug)]
pub(super) struct Container {
    name: String,
    child: Child,
    handle: ProcessHandle,
    surroundings: Surroundings,
    outputs: Vec<(Stream, fs::File)>,
    /// Held open, so that a program that waits for input goes on waiting.
    _input: Option<OwnedFd>,
    log: Log,
    /// When it is to be ended.
    due: Option<Instant>,
    /// When to look, and for how long to go on looking, whether SIGTERM got lost.
    look: Option<(Instant, Instant)>,
    /// The signal that ends it in the place of one that the kernel keeps from it.
    in_place_of: Option<Signal>,
    waiting: Vec<UnixStream>,
    ended: Option<EndRecord>,
}

/// What there is to be seen of a container.
#[derive(Debug, Clone, Copy)]
pub(super) enum Happened {
    End,
    /// On which of its outputs.
    Output(usize),
}

/// What [`Container::new`] is made from.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) child: Child,
    pub(super) handle: ProcessHandle,
    pub(super) surroundings: Surroundings,
    pub(super) outputs: Vec<(Stream, OwnedFd)>,
    pub(super) input: Option<OwnedFd>,
    pub(super) log: Log,
}

impl Container {
    pub(super) fn new(parts: Parts) -> Container {
        let outputs = parts.outputs.into_iter().map(|(stream, file)| (stream, fs::File::from(file)));
        Container {
            name: parts.name,
            child: parts.child,
            handle: parts.handle,
            surroundings: parts.surroundings,
            outputs: outputs.collect(),
            _input: parts.input,
            log: parts.log,
            due: None,
            look: None,
            in_place_of: None,
            waiting: Vec::new(),
            ended: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Another descriptor of its first process.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        self.handle.as_fd().try_clone_to_owned()
    }

    /// When [`Container::act_if_due`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.look.map(|(next, _)| next)).min()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn end(&self) -> Option<EndRecord> {
        self.ended
    }

    /// What to wait for; the end last, since it takes all output that is there along.
    pub(super) fn sources(&self) -> Vec<(BorrowedFd<'_>, Happened)> {
        let outputs = self.outputs.iter().enumerate();
        let outputs = outputs.map(|(index, (_, file))| (file.as_fd(), Happened::Output(index)));
        outputs.chain([(self.handle.as_fd(), Happened::End)]).collect()
    }

    /// Takes note of what happened.
    pub(super) fn take(&mut self, happened: Happened) {
        match happened {
            Happened::End => self.take_end(),
            Happened::Output(index) => {
                self.take_output(index);
            }
        }
    }

    /// Reads once what there is. Where no more can come it returns false, and the output is not looked at again.
    fn take_output(&mut self, index: usize) -> bool {
        let Some((stream, file)) = self.outputs.get_mut(index) else { return false };
        let mut buffer = [0; 8 * 1024];
        match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            // A terminal ends with EIO, when no program has it any more.
            Ok(0) | Err(_) => {
                self.outputs.remove(index);
                false
            }
            Ok(read) => {
                self.log.add(*stream, &buffer[..read]);
                true
            }
        }
    }

    fn has_output(&self, index: usize) -> bool {
        self.outputs.get(index).is_some_and(|(_, file)| readable(file, Instant::now()).unwrap_or(false))
    }

    fn take_end(&mut self) {
        let Ok(Some(status)) = self.child.try_wait() else { return };
        // What is in the pipes was written before. Somebody else's hand on a pipe must not keep anybody waiting.
        for index in (0..self.outputs.len()).rev() {
            while self.has_output(index) && self.take_output(index) {}
        }
        self.ended = Some(end_of(status, self.in_place_of));
    }

    /// Asks it to end, and sees to it when `due` has come; whoever asked is answered when it has ended.
    pub(super) fn ask_to_end(&mut self, due: Instant, asker: UnixStream) {
        self.waiting.push(asker);
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        // The number cannot be another process's: nobody has waited for this child.
        let Ok(id) = i32::try_from(self.child.id()) else { return };
        match use_for_sigterm(id) {
            Use::None => self.end_in_place_of_sigterm(),
            Use::Taken => drop(kill(Pid::from_raw(id), Signal::SIGTERM)),
            Use::HeldBack => {
                let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
                let now = Instant::now();
                self.look = Some((now + LOOK_EVERY, now + LOOK_FOR));
            }
        }
    }

    /// The kernel keeps signals that a program makes nothing of from the first process of a process namespace. Anywhere else
    /// SIGTERM would have ended it, which is what people expect of a plain `sleep`.
    fn end_in_place_of_sigterm(&mut self) {
        self.look = None;
        self.in_place_of = Some(Signal::SIGTERM);
        let _ = self.child.kill();
    }

    pub(super) fn act_if_due(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            let _ = self.child.kill();
        }
        let Some((_, until)) = self.look.filter(|(next, _)| *next <= now) else { return };
        self.look = None;
        match i32::try_from(self.child.id()).map(use_for_sigterm) {
            Ok(Use::None) => self.end_in_place_of_sigterm(),
            Ok(Use::HeldBack) if now < until => self.look = Some((now + LOOK_EVERY, until)),
            _ => {}
        }
    }

    pub(super) fn answer_those_who_wait(self) {
        for asker in self.waiting {
            let _ = protocol::send(&asker, &Reply::Done, &[]);
        }
    }
}

fn end_of(status: ExitStatus, in_place_of: Option<Signal>) -> EndRecord {
    let signal = status.signal().map(|signal| in_place_of.map_or(signal, |other| other as i32));
    // 128 and the signal, as shells and container runtimes tell it.
    let exit_code = signal.map_or_else(|| status.code().unwrap_or(-1), |signal| 128 + signal);
    EndRecord { exit_code, signal, at: Timestamp::now() }
}

/// What a process does with SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    None,
    /// It is caught or ignored.
    Taken,
    /// It is blocked: to be fetched in another way; or for a moment only, as shells do while they start a program.
    HeldBack,
}

fn use_for_sigterm(id: i32) -> Use {
    fs::read_to_string(format!("/proc/{id}/status")).map_or(Use::Taken, |status| use_in(&status))
}

fn use_in(status: &str) -> Use {
    let bit = 1_u64 << (Signal::SIGTERM as u32 - 1);
    let is_in = |mask: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(mask));
        let mask = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
        mask.is_none_or(|mask| mask & bit != 0)
    };
    if is_in("SigIgn:") || is_in("SigCgt:") {
        Use::Taken
    } else if is_in("SigBlk:") {
        Use::HeldBack
    } else {
        Use::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_catches_ignores_or_fetches_sigterm_is_left_to_itself() {
        let status = |blocked: u64, ignored: u64, caught: u64| {
            format!("Name:\tx\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n")
        };
        let other = !0x4000_u64;
        assert_eq!(use_in(&status(other, other, other)), Use::None);
        assert_eq!(use_in(&status(!0, 0, 0)), Use::HeldBack);
        assert_eq!(use_in(&status(0, 0x4000, 0)), Use::Taken);
        assert_eq!(use_in(&status(!0, 0, 0x4000)), Use::Taken);
        assert_eq!(use_in("Name:\tx\n"), Use::Taken);
    }

    #[test]
    fn a_signal_is_told_as_128_and_its_number() {
        let end = |status, in_place_of| {
            let end = end_of(ExitStatus::from_raw(status), in_place_of);
            (end.exit_code, end.signal)
        };
        assert_eq!(end(3 << 8, None), (3, None));
        assert_eq!(end(9, None), (137, Some(9)));
        assert_eq!(end(9, Some(Signal::SIGTERM)), (143, Some(15)));
        assert_eq!(end(0, Some(Signal::SIGTERM)), (0, None));
    }
}
