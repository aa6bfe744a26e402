//! What the programs of a place have logged, in the order of time.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::error::{LabError, doing_to};
use super::flags::LogsFlags;
use super::progress::print;
use super::state::{self, Folder};

/// The log that is no part's.
const KEEPER: &str = "keeper";
const POLL: Duration = Duration::from_millis(100);

/// `switchyard logs`.
pub(super) fn run(flags: &LogsFlags) -> Result<(), LabError> {
    let (folder, record) = state::meant_lab(flags.name.as_deref())?;
    let mut logs = logs_of(&flags.place, &record.settings.name, &folder)?;
    let has_prefix = logs.len() > 1;
    loop {
        let mut texts = Vec::new();
        for log in &mut logs {
            texts.push((log.name.clone(), log.read_lines()?));
        }
        for (name, line) in in_order_of_time(&texts) {
            let prefix = if has_prefix { format!("{name}: ") } else { String::new() };
            print(&format!("{prefix}{line}\n"));
        }
        // The lab may go away while one looks.
        if !flags.follow || !folder.exists() {
            return Ok(());
        }
        thread::sleep(POLL);
    }
}

fn logs_of(place: &str, lab: &str, folder: &Folder) -> Result<Vec<Log>, LabError> {
    let parts = folder.keeper()?.map(|keeper| keeper.parts).unwrap_or_default();
    let names: Vec<String> = parts.into_iter().map(|part| part.name).chain([KEEPER.to_owned()]).collect();
    let is_meant =
        |name: &&String| *name == place || name.split_once('/').is_some_and(|(own, _)| own == place);
    let logs: Vec<Log> = names.iter().filter(is_meant).map(|name| Log::new(name, folder)).collect();
    if logs.is_empty() {
        return Err(LabError::NoSuchPlace {
            lab: lab.to_owned(),
            place: place.to_owned(),
            places: places(&names),
        });
    }
    Ok(logs)
}

/// The places of parts, and the parts themselves.
fn places(names: &[String]) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    for name in names {
        let place = name.split_once('/').map_or(name.as_str(), |(place, _)| place);
        if !places.iter().any(|known| known == place) {
            places.push(place.to_owned());
        }
    }
    places.extend(names.iter().filter(|name| name.contains('/')).cloned());
    places
}

/// A log file, read as it grows.
#[derive(Debug)]
struct Log {
    name: String,
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line that is not whole yet.
    rest: Vec<u8>,
}

impl Log {
    fn new(name: &str, folder: &Folder) -> Log {
        Log { name: name.to_owned(), path: folder.log(name), file: None, rest: Vec::new() }
    }

    /// The lines that were added since.
    fn read_lines(&mut self) -> Result<Vec<String>, LabError> {
        if self.file.is_none() {
            self.file = match File::open(&self.path) {
                Ok(file) => Some(file),
                // The program has not been started yet.
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(doing_to("opening", &self.path)(error)),
            };
        }
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut self.rest).map_err(doing_to("reading", &self.path))?;
        }
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        Ok(String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect())
    }
}

/// The lines of several logs as one: the earliest first, those of one log in their order.
fn in_order_of_time(logs: &[(String, Vec<String>)]) -> Vec<(&str, &str)> {
    let mut lines = Vec::new();
    for (name, log) in logs {
        let mut latest = "";
        for line in log {
            // A line without a time belongs to the one before it.
            latest = time(line).map_or(latest, |time| time.max(latest));
            lines.push((latest, name.as_str(), line.as_str()));
        }
    }
    // Keeps the order of equals.
    lines.sort_by_key(|(time, ..)| *time);
    lines.into_iter().map(|(_, name, line)| (name, line)).collect()
}

/// The time of a line in Kubernetes' format, as in `I0102 15:04:05.678901`; it compares as text, but over new year.
fn time(line: &str) -> Option<&str> {
    let time = line.get(1..21)?;
    let is_time = time.bytes().zip("0000 00:00:00.000000".bytes()).all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    });
    (is_time && line.starts_with(['I', 'W', 'E', 'F'])).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_logs_come_in_the_order_of_time() {
        let log = |name: &str, lines: &[&str]| {
            (name.to_owned(), lines.iter().map(|line| (*line).to_owned()).collect())
        };
        let logs = [
            log("a", &["I0102 15:04:05.000001 1 x] one", "  of one", "I0102 15:04:05.000003 1 x] three"]),
            log("b", &["starting", "W0102 15:04:05.000002 1 x] two"]),
        ];
        let merged: Vec<&str> = in_order_of_time(&logs).into_iter().map(|(_, line)| line).collect();
        let ends: Vec<&str> = merged.iter().filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(ends, ["starting", "one", "one", "two", "three"]);
    }

    #[test]
    fn places_are_named_once() {
        let names = ["control/apiserver", "node-1/proxy", "node-1/agent", "keeper"].map(str::to_owned);
        assert_eq!(
            places(&names),
            ["control", "node-1", "keeper", "control/apiserver", "node-1/proxy", "node-1/agent"]
        );
    }
}
