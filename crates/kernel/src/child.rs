//! Talking to a program over its three pipes, with a limit on how long that may take.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How a child ended, and what it printed on standard error.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: Vec<u8>,
}

/// Lets every program that this process starts from now on hold the file open too. So a lock on it lasts until the last
/// of them has ended, although whoever took it may have been killed before that.
///
/// # Errors
/// None that an open file would give.
pub fn share_with_programs(file: &impl AsFd) -> io::Result<()> {
    Ok(fcntl(file, FcntlArg::F_SETFD(FdFlag::empty())).map(drop)?)
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Runs a program to its end in a process group of its own; `None` if it took longer than `limit`. Then it is ended
/// with every program that it started, since one of those may be what hangs.
///
/// # Errors
/// When it cannot be started, or the pipes to it fail.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> io::Result<Option<Finished>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn()?;
    let group = i32::try_from(child.id()).ok().map(Pid::from_raw);
    let mut stdout = Vec::new();
    let on_limit = || {
        if let Some(group) = group {
            // Ended before the child is waited for, while nobody else can have its number.
            let _ = killpg(group, Signal::SIGKILL);
        }
    };
    let ended = communicate_or(child, input, limit, &mut |bytes| stdout.extend_from_slice(bytes), &on_limit)?;
    Ok(ended.map(|Ended { status, stderr }| Finished { status, stdout, stderr }))
}

/// Feeds `input` to the child and hands over what it prints until it closes its outputs; `None` if it took longer than
/// `limit` and was ended. One poll loop, since a program that prints before it has read everything would otherwise
/// wait for us as we wait for it. Listings run to many megabytes, so standard output is not collected here.
pub(crate) fn communicate(
    child: Child,
    input: &[u8],
    limit: Duration,
    stdout_seen: &mut dyn FnMut(&[u8]),
) -> io::Result<Option<Ended>> {
    communicate_or(child, input, limit, stdout_seen, &|| {})
}

/// The same, doing something of the caller's before a child that took too long is ended.
fn communicate_or(
    mut child: Child,
    input: &[u8],
    limit: Duration,
    stdout_seen: &mut dyn FnMut(&[u8]),
    on_limit: &dyn Fn(),
) -> io::Result<Option<Ended>> {
    let mut stderr_seen = Vec::new();
    let deadline = Instant::now() + limit;
    let mut stdin = Feed::new(child.stdin.take(), input)?;
    let mut stdout = Drain::new(child.stdout.take());
    let mut stderr = Drain::new(child.stderr.take());
    while stdout.is_open() || stderr.is_open() {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            on_limit();
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        wait_for_any(&stdin, &stdout, &stderr, remaining)?;
        stdin.write_some()?;
        stdout.read_some(stdout_seen)?;
        stderr.read_some(&mut |bytes| stderr_seen.extend_from_slice(bytes))?;
    }
    drop(stdin);
    Ok(Some(Ended { status: child.wait()?, stderr: stderr_seen }))
}

fn wait_for_any(
    stdin: &Feed<'_>,
    stdout: &Drain<ChildStdout>,
    stderr: &Drain<ChildStderr>,
    limit: Duration,
) -> io::Result<()> {
    let mut descriptors = Vec::with_capacity(3);
    descriptors.extend(stdin.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
    descriptors.extend(stdout.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
    descriptors.extend(stderr.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
    match poll(&mut descriptors, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// What is still to be written to the child.
struct Feed<'a> {
    pipe: Option<ChildStdin>,
    rest: &'a [u8],
}

impl<'a> Feed<'a> {
    fn new(pipe: Option<ChildStdin>, input: &'a [u8]) -> io::Result<Feed<'a>> {
        if let Some(pipe) = &pipe {
            set_nonblocking(pipe)?;
        }
        Ok(Feed { pipe, rest: input })
    }

    /// Writes what the pipe takes now, and closes it once everything is written.
    fn write_some(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        match pipe.write(self.rest) {
            Ok(written) => self.rest = &self.rest[written..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // It stopped reading because it already failed; its exit status and its words tell more.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.rest = &[],
            Err(error) => return Err(error),
        }
        if self.rest.is_empty() {
            self.pipe = None;
        }
        Ok(())
    }
}

/// One of the child's outputs.
struct Drain<P> {
    pipe: Option<P>,
}

impl<P: Read + AsFd> Drain<P> {
    fn new(pipe: Option<P>) -> Drain<P> {
        if let Some(pipe) = &pipe {
            // A pipe that cannot be made non-blocking is still read correctly, only less evenly.
            let _ = set_nonblocking(pipe);
        }
        Drain { pipe }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Takes what is there; the child's end being closed ends the stream.
    fn read_some(&mut self, seen: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(read) => seen(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn set_nonblocking(pipe: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn shell(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn input_larger_than_any_pipe_comes_back_whole() {
        let input = vec![b'x'; 3 << 20];
        let mut echoed = Vec::new();
        let mut seen = |bytes: &[u8]| echoed.extend_from_slice(bytes);
        let ended = communicate(shell("cat; echo done >&2"), &input, LIMIT, &mut seen).unwrap().unwrap();
        assert_eq!(echoed, input);
        assert_eq!(ended.stderr, b"done\n");
        assert!(ended.status.success());
    }

    #[test]
    fn a_program_that_does_not_read_its_input_still_reports_its_status() {
        let input = vec![b'x'; 1 << 20];
        let ended = communicate(shell("exec <&-; echo why >&2; exit 3"), &input, LIMIT, &mut |_| {});
        let ended = ended.unwrap().unwrap();
        assert_eq!((ended.status.code(), ended.stderr), (Some(3), b"why\n".to_vec()));
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_those_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $! > \"$0\"; exit 0"]).arg(&file);
        assert!(run(&mut command, b"", Duration::from_millis(300)).unwrap().is_none());
        let id = std::fs::read_to_string(&file).unwrap();
        // It ends when it runs next, and may stay a zombie until whoever inherited it has looked.
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
        let is_gone = || state().is_empty() || state().contains(") Z ");
        let deadline = Instant::now() + LIMIT;
        while !is_gone() {
            assert!(Instant::now() < deadline, "{}", state());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        assert!(
            communicate(shell("exec sleep 60"), b"", Duration::from_millis(50), &mut |_| {})
                .unwrap()
                .is_none()
        );
    }
}
