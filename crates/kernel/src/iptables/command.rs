//! The host's `iptables`, `iptables-save` and `iptables-restore`.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use switchyard_plan::IpFamily;
use switchyard_plan::iptables::{Table, Variant};
use tracing::debug;

use super::lock::{self, XtablesLock};
use super::version::{Features, Wait};
use super::{Iptables, IptablesError};
use crate::child::communicate;

/// Upstream's limit for `-C`, which may have to wait for another program's lock. It serves for every command that
/// changes a rule: a hung program must not hang the proxy for good.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

/// Runs the programs of one address family. Clones share the memory of what they ran.
#[derive(Debug, Clone)]
pub struct Programs {
    family: IpFamily,
    features: Features,
    own: OwnProcesses,
}

/// The process ids of the programs that we started last, so that a kernel notice of a change can be told apart from
/// one that somebody else made.
#[derive(Debug, Clone, Default)]
pub struct OwnProcesses(Arc<Mutex<Recent>>);

#[derive(Debug, Default)]
struct Recent {
    ids: VecDeque<u32>,
    running: usize,
    last_end: Option<Instant>,
}

impl OwnProcesses {
    /// Enough for the programs of one full sync; a notice is read within moments of its change.
    const REMEMBERED: usize = 4096;

    pub fn contains(&self, process: u32) -> bool {
        self.lock().ids.contains(&process)
    }

    /// Whether a program of ours runs now or ended within `margin`. For process ids that cannot be compared, because
    /// the kernel gives them as the host sees them and we live in a process id namespace of our own.
    pub fn active_within(&self, margin: Duration) -> bool {
        let recent = self.lock();
        recent.running > 0 || recent.last_end.is_some_and(|end| end.elapsed() <= margin)
    }

    fn started(&self, process: u32) {
        let mut recent = self.lock();
        recent.running += 1;
        recent.ids.push_back(process);
        if recent.ids.len() > Self::REMEMBERED {
            recent.ids.pop_front();
        }
    }

    fn ended(&self) {
        let mut recent = self.lock();
        recent.running = recent.running.saturating_sub(1);
        recent.last_end = Some(Instant::now());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Programs {
    /// Finds out what the installed programs can do and whether the family's nat table can be reached.
    pub fn detect(family: IpFamily) -> Result<Programs, IptablesError> {
        let mut programs =
            Programs { family, features: Features::of("", false), own: OwnProcesses::default() };
        let version = programs.run("", &["--version"], None)?;
        let restore = programs.run("-restore", &["--version"], Some(""));
        let restore_has_version = restore.is_ok_and(|output| super::version::parse(&output).is_some());
        programs.features = Features::of(&version, restore_has_version);
        programs.edit(&["-S", "POSTROUTING", "-t", "nat"])?;
        Ok(programs)
    }

    pub fn features(&self) -> Features {
        self.features
    }

    pub fn own_processes(&self) -> OwnProcesses {
        self.own.clone()
    }

    fn program(&self, suffix: &str) -> String {
        let base = match self.family {
            IpFamily::V4 => "iptables",
            IpFamily::V6 => "ip6tables",
        };
        format!("{base}{suffix}")
    }

    /// Runs `iptables` with the lock's waiting flag first.
    fn edit<A: AsRef<str>>(&self, arguments: &[A]) -> Result<String, IptablesError> {
        let wait = self.features.wait.arguments().iter().copied();
        let all: Vec<&str> = wait.chain(arguments.iter().map(AsRef::as_ref)).collect();
        self.run("", &all, None)
    }

    /// Runs a program to its end and returns what it printed.
    fn run(&self, suffix: &str, arguments: &[&str], input: Option<&str>) -> Result<String, IptablesError> {
        let mut stdout = Vec::new();
        let result = self.stream(suffix, arguments, input, &mut |bytes| stdout.extend_from_slice(bytes));
        let text = String::from_utf8_lossy(&stdout).into_owned();
        match result {
            Ok(()) => Ok(text),
            // Some versions say on standard output what went wrong.
            Err(IptablesError::Failed { command, status, output }) => Err(IptablesError::Failed {
                command,
                status,
                output: format!("{text}{output}").trim().to_owned(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Runs a program to its end and hands over its standard output as it comes.
    fn stream(
        &self,
        suffix: &str,
        arguments: &[&str],
        input: Option<&str>,
        stdout: &mut dyn FnMut(&[u8]),
    ) -> Result<(), IptablesError> {
        let program = self.program(suffix);
        let command = || format!("{program} {}", arguments.join(" "));
        debug!(command = command(), "Running");
        let spawned = Command::new(&program)
            .args(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let child = spawned.map_err(|source| IptablesError::Missing { program: program.clone(), source })?;
        self.own.started(child.id());
        let input = input.unwrap_or_default();
        let result = communicate(child, input.as_bytes(), COMMAND_LIMIT, stdout);
        self.own.ended();
        match result {
            Ok(Some(ended)) if ended.status.success() => Ok(()),
            Ok(Some(ended)) => {
                let output = with_failed_lines(String::from_utf8_lossy(&ended.stderr).trim(), input);
                Err(IptablesError::Failed { command: command(), status: ended.status, output })
            }
            Ok(None) => Err(IptablesError::TimedOut { command: command(), seconds: COMMAND_LIMIT.as_secs() }),
            Err(source) => Err(IptablesError::Io { command: command(), source }),
        }
    }
}

impl Iptables for Programs {
    fn variant(&self) -> Variant {
        self.features.variant
    }

    fn random_fully(&self) -> bool {
        self.features.random_fully
    }

    fn ensure_chain(&mut self, table: Table, chain: &str) -> Result<bool, IptablesError> {
        match self.edit(&["-N", chain, "-t", table.as_str()]) {
            Ok(_) => Ok(true),
            // Exit status 1 is "already exists", and nothing else that -N of a valid name can meet.
            Err(IptablesError::Failed { status, .. }) if status.code() == Some(1) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn ensure_rule(&mut self, table: Table, chain: &str, rule: &[String]) -> Result<bool, IptablesError> {
        if self.rule_exists(table, chain, rule)? {
            return Ok(false);
        }
        self.edit(&rule_command("-I", table, chain, rule))?;
        Ok(true)
    }

    fn delete_rule(&mut self, table: Table, chain: &str, rule: &[String]) -> Result<(), IptablesError> {
        match self.rule_exists(table, chain, rule) {
            Ok(false) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
            Ok(true) => self.edit(&rule_command("-D", table, chain, rule)).map(drop),
        }
    }

    fn delete_chain(&mut self, table: Table, chain: &str) -> Result<(), IptablesError> {
        match self.edit(&["-X", chain, "-t", table.as_str()]) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    fn chain_exists(&mut self, table: Table, chain: &str) -> Result<bool, IptablesError> {
        match self.edit(&["-S", chain, "-t", table.as_str()]) {
            Ok(_) => Ok(true),
            Err(IptablesError::Failed { status, .. }) if status.code() == Some(1) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Without listing the table, which other rules may have made large.
    fn chain_rules(&mut self, table: Table, chain: &str) -> Result<Option<Vec<String>>, IptablesError> {
        match self.edit(&["-S", chain, "-t", table.as_str()]) {
            Ok(text) => {
                Ok(Some(text.lines().filter(|line| line.starts_with("-A ")).map(str::to_owned).collect()))
            }
            Err(IptablesError::Failed { status, .. }) if status.code() == Some(1) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&mut self, table: Table, line: &mut dyn FnMut(&str)) -> Result<(), IptablesError> {
        let mut lines = Lines::default();
        self.stream("-save", &["-t", table.as_str()], None, &mut |bytes| lines.push(bytes, line))
    }

    fn restore(&mut self, input: &str) -> Result<(), IptablesError> {
        let wait = self.features.restore_wait;
        let _lock = match wait {
            Wait::None => Some(XtablesLock::take(Path::new(lock::FILE))?),
            Wait::Forever | Wait::Seconds => None,
        };
        let mut arguments = wait.arguments().to_vec();
        arguments.extend(["--noflush", "--counters"]);
        self.run("-restore", &arguments, Some(input)).map(drop)
    }
}

impl Programs {
    fn rule_exists(&self, table: Table, chain: &str, rule: &[String]) -> Result<bool, IptablesError> {
        if !self.features.check {
            return self.rule_is_listed(table, chain, rule);
        }
        match self.edit(&rule_command("-C", table, chain, rule)) {
            Ok(_) => Ok(true),
            Err(IptablesError::Failed { status, .. }) if status.code() == Some(1) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Before `-C`: the rule exists if a listed rule has the same words, in whatever order the listing puts them.
    fn rule_is_listed(&self, table: Table, chain: &str, rule: &[String]) -> Result<bool, IptablesError> {
        let saved = self.run("-save", &["-t", table.as_str()], None)?;
        let sorted = |words: &mut Vec<String>| words.sort_unstable();
        let mut wanted: Vec<String> =
            rule.iter().flat_map(|a| a.split_whitespace()).map(str::to_owned).collect();
        sorted(&mut wanted);
        let prefix = format!("-A {chain} ");
        Ok(saved.lines().filter_map(|line| line.strip_prefix(&prefix)).any(|line| {
            let unquoted = line.replace('"', "");
            let mut words: Vec<String> = unquoted.split_whitespace().map(str::to_owned).collect();
            sorted(&mut words);
            words == wanted
        }))
    }
}

/// Cuts a stream into lines. What comes after the last line's end is not a line of a listing.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.begun.extend_from_slice(&rest[..end]);
            line(&String::from_utf8_lossy(&self.begun));
            self.begun.clear();
            rest = &rest[end + 1..];
        }
        self.begun.extend_from_slice(rest);
    }
}

fn rule_command<'a>(verb: &'a str, table: Table, chain: &'a str, rule: &'a [String]) -> Vec<&'a str> {
    let mut command = vec![verb, chain, "-t", table.as_str()];
    command.extend(rule.iter().map(String::as_str));
    command
}

/// Adds the lines of the input that iptables-restore means by `line N failed` or `Error occurred at line: N`.
fn with_failed_lines(output: &str, input: &str) -> String {
    const CONTEXT: usize = 3;
    let number = |after: &str| {
        let after = after.strip_prefix(':').unwrap_or(after).trim_start();
        let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<usize>().ok()
    };
    let mut numbers = output.split("line").skip(1).filter_map(number);
    let Some(number) = numbers.find(|n| (1..=input.lines().count()).contains(n)) else {
        return output.to_owned();
    };
    let first = number.saturating_sub(CONTEXT + 1);
    let lines = input.lines().enumerate().skip(first).take(number + CONTEXT - first);
    let shown: Vec<String> = lines.map(|(index, line)| format!("{:>6}: {line}", index + 1)).collect();
    format!("{output}\n{}", shown.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_line_is_shown_with_its_neighbours() {
        let input: String = (1..=9).map(|n| format!("rule {n}\n")).collect();
        let shown = with_failed_lines("iptables-restore: line 5 failed", &input);
        assert!(shown.contains("     2: rule 2\n"), "{shown}");
        assert!(shown.ends_with("     8: rule 8"), "{shown}");
        let shown = with_failed_lines("unknown option\nError occurred at line: 5\nTry ...", &input);
        assert!(shown.contains("     5: rule 5\n"), "{shown}");
        assert_eq!(with_failed_lines("line 99 failed", &input), "line 99 failed");
        assert_eq!(with_failed_lines("no such chain", &input), "no such chain");
    }

    #[test]
    fn lines_are_whole_however_the_bytes_arrive() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for bytes in ["*nat\n:KUBE", "-SERVICES - [0:0]", "\n-A x\nunfinished"] {
            lines.push(bytes.as_bytes(), &mut |line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["*nat", ":KUBE-SERVICES - [0:0]", "-A x"]);
    }

    #[test]
    fn own_processes_are_remembered_for_a_while() {
        let own = OwnProcesses::default();
        assert!(!own.active_within(Duration::from_secs(60)));
        own.started(7);
        assert!(own.contains(7) && !own.contains(8));
        assert!(own.active_within(Duration::ZERO));
        own.ended();
        assert!(own.active_within(Duration::from_secs(60)));
        for process in 100..100 + OwnProcesses::REMEMBERED as u32 {
            own.started(process);
        }
        assert!(!own.contains(7));
    }

    #[test]
    fn a_program_that_is_not_installed_is_named() {
        let programs = Programs {
            family: IpFamily::V4,
            features: Features::of("", false),
            own: OwnProcesses::default(),
        };
        let error = programs.run("-no-such-program", &[], None).unwrap_err().to_string();
        assert!(error.contains("iptables-no-such-program") && error.contains("install"), "{error}");
    }
}
