//! Lines of a log, in the format of the container runtime interface.

use std::io::Write;

use jiff::Timestamp;

use crate::server::route::LogOptions;

/// One line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    time: &'a str,
    stream: &'a str,
    /// Whether the line of the container ends here.
    is_whole: bool,
    text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// `2026-01-02T03:04:05.678901234Z stdout F text`, with or without the line's end.
    pub(super) fn parse(line: &'a [u8]) -> Option<Entry<'a>> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let mut word = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
        let (time, stream, tags) = (word()?, word()?, word()?);
        // Tags that may come later are parted by colons.
        let is_whole = match tags.split(':').next() {
            Some("F") => true,
            Some("P") => false,
            _ => return None,
        };
        Some(Entry { time, stream, is_whole, text: parts.next().unwrap_or_default() })
    }
}

/// Whether a line of the file ends a line of the container.
pub(super) fn ends_line(line: &[u8]) -> bool {
    Entry::parse(line).is_none_or(|entry| entry.is_whole)
}

/// Chooses what was asked for, and puts it in the form that was asked for.
#[derive(Debug)]
pub(super) struct Filter {
    since: Option<Timestamp>,
    stream: Option<String>,
    timestamps: bool,
    is_inside_line: bool,
}

impl Filter {
    pub(super) fn new(options: &LogOptions) -> Filter {
        Filter {
            since: options.since,
            stream: options.stream.as_ref().map(|stream| stream.to_lowercase()),
            timestamps: options.timestamps,
            is_inside_line: false,
        }
    }

    /// Appends what of a line is wanted; whether that was anything. A line that cannot be understood is passed on as it is.
    pub(super) fn take(&mut self, line: &[u8], output: &mut Vec<u8>) -> bool {
        let Some(entry) = Entry::parse(line) else {
            output.extend_from_slice(line);
            return true;
        };
        if self.stream.as_deref().is_some_and(|stream| stream != entry.stream) {
            return false;
        }
        let time: Option<Timestamp> = self.since.and_then(|_| entry.time.parse().ok());
        if time.zip(self.since).is_some_and(|(time, since)| time < since) {
            return false;
        }
        if self.timestamps && !self.is_inside_line {
            // Writing to memory does not fail.
            let _ = write!(output, "{} ", entry.time);
        }
        output.extend_from_slice(entry.text);
        if entry.is_whole {
            output.push(b'\n');
        }
        self.is_inside_line = !entry.is_whole;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: [&str; 5] = [
        "2026-01-01T00:00:01Z stdout F one",
        "2026-01-01T00:00:02Z stderr F two",
        "2026-01-01T00:00:03Z stdout P thr",
        "2026-01-01T00:00:03Z stdout F ee",
        "2026-01-01T00:00:04Z stdout F ",
    ];

    fn filtered(options: LogOptions) -> String {
        let (mut filter, mut output) = (Filter::new(&options), Vec::new());
        for line in LOG {
            filter.take(format!("{line}\n").as_bytes(), &mut output);
        }
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn lines_are_joined_chosen_and_stamped() {
        assert_eq!(filtered(LogOptions::default()), "one\ntwo\nthree\n\n");
        let since = Some("2026-01-01T00:00:03Z".parse().unwrap());
        assert_eq!(filtered(LogOptions { since, ..LogOptions::default() }), "three\n\n");
        let stream = Some("Stderr".to_owned());
        assert_eq!(filtered(LogOptions { stream, ..LogOptions::default() }), "two\n");
        let stamped = filtered(LogOptions { timestamps: true, ..LogOptions::default() });
        assert!(stamped.contains("2026-01-01T00:00:03Z three\n"), "{stamped}");
    }

    #[test]
    fn what_is_no_entry_is_passed_on() {
        let (mut filter, mut output) = (Filter::new(&LogOptions::default()), Vec::new());
        filter.take(b"plain text\n", &mut output);
        assert_eq!(output, b"plain text\n");
    }
}
