//! Output of containers as lines of the container runtime interface, which is what log readers and `kubectl logs` expect.

use std::fs::{self, File};
use std::io::{self, Write};

use jiff::Timestamp;

use super::super::super::Run;
use super::super::folder::{absent_is_fine, log_name};

/// Which of a program's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Output,
    Errors,
}

/// The log of a container that is being started.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
}

impl Log {
    /// Begins the log of a container that runs from now on; the one before becomes the previous one.
    pub(super) fn begin(container: &str) -> io::Result<Log> {
        let newest = log_name(container, Run::Newest);
        absent_is_fine(fs::rename(&newest, log_name(container, Run::Previous)))?;
        Ok(Log { file: File::create(newest)? })
    }

    /// Adds what was read from the program, at once and whole lines or not, so that nothing is kept here.
    pub(super) fn add(&mut self, stream: Stream, text: &[u8]) {
        // On a full disk output is lost; a program that hangs for it would be worse.
        let _ = self.file.write_all(&entries(stream, Timestamp::now(), text));
    }
}

/// One entry a line. The last is marked as partial if its line does not end here: readers join it with the next.
fn entries(stream: Stream, time: Timestamp, text: &[u8]) -> Vec<u8> {
    let stream = match stream {
        Stream::Output => "stdout",
        Stream::Errors => "stderr",
    };
    let mut entries = Vec::with_capacity(text.len() + 64);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (tag, line) = line.strip_suffix(b"\n").map_or(("P", line), |whole| ("F", whole));
        entries.extend_from_slice(format!("{time:.9} {stream} {tag} ").as_bytes());
        entries.extend_from_slice(line);
        entries.push(b'\n');
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_entry_and_a_part_of_one_is_marked() {
        let time = "2026-01-02T03:04:05.6789Z".parse().unwrap();
        let text = |stream, text: &str| String::from_utf8(entries(stream, time, text.as_bytes())).unwrap();
        assert_eq!(
            text(Stream::Output, "one\n\nthree"),
            "2026-01-02T03:04:05.678900000Z stdout F one\n\
             2026-01-02T03:04:05.678900000Z stdout F \n\
             2026-01-02T03:04:05.678900000Z stdout P three\n"
        );
        assert_eq!(text(Stream::Errors, "\n"), "2026-01-02T03:04:05.678900000Z stderr F \n");
    }
}
