//! Waiting for files until a point in time.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until there is something to read, or the end of it, or something happened to what the file stands for; false if
/// `deadline` came first.
///
/// # Errors
/// When the kernel is out of memory.
pub fn readable(file: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let is_last = deadline <= Instant::now();
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], timeout_until(deadline)) {
            Ok(0) if is_last => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// For `poll`: rounded up to its milliseconds, since rounded down the last one would be spent in a busy loop.
#[must_use]
pub fn timeout_until(deadline: Instant) -> PollTimeout {
    let rest = deadline.saturating_duration_since(Instant::now());
    let rest = rest.saturating_add(Duration::from_nanos(999_999));
    PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn it_takes_as_long_as_it_was_told_to_and_no_longer_than_it_has_to() {
        let (reader, mut writer) = io::pipe().unwrap();
        let begin = Instant::now();
        let limit = Duration::from_micros(2_500);
        assert!(!readable(&reader, begin + limit).unwrap());
        assert!(begin.elapsed() >= limit);
        writer.write_all(b"x").unwrap();
        assert!(readable(&reader, begin).unwrap());
        assert!(readable(&reader, begin + Duration::from_secs(600)).unwrap());
    }
}
