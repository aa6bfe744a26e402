//! Reads the words of a command line by pflag's rules, without printing or exiting.

use std::collections::{BTreeMap, BTreeSet};

use super::table::{self, Flag};
use super::version::{self, KUBERNETES_VERSION, VersionRequest};
use super::{RawFlags, raw_version, usage};

/// A flag that a subcommand adds to the proxy's own; its value is text that the subcommand checks.
#[derive(Clone, Copy, Debug)]
pub struct Extra {
    /// The name, with dashes.
    pub name: &'static str,
    /// A letter that stands for it, as in `-o`.
    pub letter: Option<char>,
    /// The type's name in help; empty for a switch, whose value is then `true` or `false`.
    pub type_name: &'static str,
    /// The value when the flag is not given.
    pub default: &'static str,
    /// One sentence for help.
    pub doc: &'static str,
}

/// A command line that asks for the program to run.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Every flag's value.
    pub flags: RawFlags,
    /// Values of the caller's own flags by name.
    pub extras: BTreeMap<&'static str, String>,
    /// Lines for stderr: deprecated flags that were used.
    pub notices: Vec<String>,
    /// The version to report: the built-in one, or that of `--version=vX.Y.Z-…`.
    pub version: String,
    given: BTreeSet<&'static str>,
}

impl Parsed {
    /// No flag given: every default.
    pub fn defaults() -> Parsed {
        Parsed {
            flags: RawFlags::default(),
            extras: BTreeMap::new(),
            notices: Vec::new(),
            version: KUBERNETES_VERSION.to_owned(),
            given: BTreeSet::new(),
        }
    }

    /// Whether the flag called `name` (with dashes) stood on the command line.
    pub fn given(&self, name: &str) -> bool {
        self.given.contains(name)
    }

    /// Name and value of every flag, hidden ones too, sorted by name: for `FLAG:` lines and `/flagz`.
    pub fn all(&self) -> Vec<(&'static str, String)> {
        let mut flags = self.flags.clone();
        let mut all: Vec<_> =
            table::TABLE.iter().map(|flag| (flag.name, flag.slot.show(&mut flags))).collect();
        all.extend(self.extras.iter().map(|(name, value)| (*name, value.clone())));
        all.sort();
        all
    }

    /// The line a flag that is logged at verbosity 1 and above: `FLAG: --name="value"`.
    pub fn dump(&self) -> Vec<String> {
        self.all().into_iter().map(|(name, value)| format!("FLAG: --{name}={value:?}")).collect()
    }
}

/// A command line that ends the program: help, a version, or an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// To print on stdout.
    pub stdout: String,
    /// To print on stderr.
    pub stderr: String,
    /// The exit code of the process.
    pub code: u8,
}

impl Exit {
    fn success(stdout: String) -> Exit {
        Exit { stdout, stderr: String::new(), code: 0 }
    }

    fn failure(stderr: String) -> Exit {
        Exit { stdout: String::new(), stderr, code: 1 }
    }
}

/// Reads the proxy's command line: `args` without the program's own name, which is `program` (for messages).
pub fn parse(program: &str, args: &[String]) -> Result<Parsed, Exit> {
    parse_with(program, args, &[])
}

/// As [`parse`], for a subcommand with flags of its own besides the proxy's.
pub fn parse_with(program: &str, args: &[String], extras: &[Extra]) -> Result<Parsed, Exit> {
    let mut parsed = Parsed::defaults();
    parsed.extras = extras.iter().map(|extra| (extra.name, extra.default.to_owned())).collect();
    let mut reader = Reader { parsed, extras, words: args.iter(), positional: Vec::new() };
    if let Err(reason) = reader.read_all() {
        let notices = lines(&reader.parsed.notices);
        let usage = usage::usage(program, extras);
        return Err(Exit::failure(format!("{notices}{usage}\nError: {reason}\n")));
    }
    let Reader { mut parsed, positional, .. } = reader;
    if parsed.flags.help {
        return Err(Exit::success(usage::help(program, extras)));
    }
    if positional.iter().any(|word| !word.is_empty()) {
        let words: Vec<_> = positional.iter().map(|word| format!("{word:?}")).collect();
        let got = words.join(" ");
        let notices = lines(&parsed.notices);
        return Err(Exit::failure(format!(
            "{notices}Error: {program:?} does not take any arguments, got [{got}]\n"
        )));
    }
    match version::parse_request(&parsed.flags.version) {
        Ok(VersionRequest::Print) => Err(Exit::success(format!("Kubernetes {KUBERNETES_VERSION}\n"))),
        Ok(VersionRequest::Raw) => Err(Exit::success(raw_version() + "\n")),
        Ok(VersionRequest::Override(version)) => {
            parsed.version = version;
            Ok(parsed)
        }
        Ok(VersionRequest::None) | Err(_) => Ok(parsed),
    }
}

fn lines(notices: &[String]) -> String {
    notices.iter().map(|notice| format!("{notice}\n")).collect()
}

/// What a name on the command line means.
#[derive(Clone, Copy)]
enum Known<'a> {
    Proxy(&'static Flag),
    Extra(&'a Extra),
}

impl Known<'_> {
    fn stands_alone(self) -> bool {
        match self {
            Known::Proxy(flag) => flag.slot.stands_alone(),
            Known::Extra(extra) => extra.type_name.is_empty(),
        }
    }

    /// The flag as errors name it: `--x`, or `-v, --v`.
    fn label(self) -> String {
        let (letter, name) = match self {
            Known::Proxy(flag) => (flag.letter, flag.name),
            Known::Extra(extra) => (extra.letter, extra.name),
        };
        letter.map_or_else(|| format!("--{name}"), |letter| format!("-{letter}, --{name}"))
    }
}

struct Reader<'a> {
    parsed: Parsed,
    extras: &'a [Extra],
    words: std::slice::Iter<'a, String>,
    positional: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn read_all(&mut self) -> Result<(), String> {
        while let Some(word) = self.words.next() {
            if word == "--" {
                self.positional.extend(self.words.by_ref().map(String::as_str));
            } else if let Some(long) = word.strip_prefix("--") {
                self.read_long(word, long)?;
            } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                self.read_letters(word, letters)?;
            } else {
                self.positional.push(word);
            }
        }
        Ok(())
    }

    fn read_long(&mut self, word: &str, long: &str) -> Result<(), String> {
        let (typed, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        if typed.is_empty() || typed.starts_with('-') {
            return Err(format!("bad flag syntax: {word}"));
        }
        let name = typed.replace('_', "-");
        let known = self.find(|flag_name, _| flag_name == name).ok_or(format!("unknown flag: --{name}"))?;
        match value {
            Some(value) => self.set(known, value),
            None if known.stands_alone() => self.set(known, "true"),
            None => {
                let value = self.words.next().ok_or(format!("flag needs an argument: --{name}"))?;
                self.set(known, value)
            }
        }
    }

    /// Reads `-v4`, `-v=4`, `-v 4`, `-h`, and letters run together.
    fn read_letters(&mut self, word: &str, letters: &'a str) -> Result<(), String> {
        let mut rest = letters;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            let known = self
                .find(|_, flag_letter| flag_letter == Some(letter))
                .ok_or(format!("unknown shorthand flag: '{letter}' in {word}"))?;
            if let Some(value) = rest.strip_prefix('=') {
                return self.set(known, value);
            }
            if known.stands_alone() {
                self.set(known, "true")?;
            } else if rest.is_empty() {
                let value =
                    self.words.next().ok_or(format!("flag needs an argument: '{letter}' in {word}"))?;
                return self.set(known, value);
            } else {
                return self.set(known, rest);
            }
        }
        Ok(())
    }

    fn find(&self, is: impl Fn(&str, Option<char>) -> bool) -> Option<Known<'a>> {
        let extra = self.extras.iter().find(|extra| is(extra.name, extra.letter)).map(Known::Extra);
        extra.or_else(|| table::TABLE.iter().find(|flag| is(flag.name, flag.letter)).map(Known::Proxy))
    }

    fn set(&mut self, known: Known<'_>, value: &str) -> Result<(), String> {
        let invalid =
            |reason: String| format!("invalid argument {value:?} for {:?} flag: {reason}", known.label());
        match known {
            Known::Proxy(flag) => {
                let first = self.parsed.given.insert(flag.name);
                flag.slot.set(&mut self.parsed.flags, value, first).map_err(invalid)?;
                if let Some(hint) = flag.deprecated {
                    self.parsed.notices.push(format!("Flag --{} has been deprecated, {hint}", flag.name));
                }
            }
            Known::Extra(extra) => {
                let switch = extra.type_name.is_empty();
                let value = if switch {
                    super::number::parse_bool(value).map_err(invalid)?.to_string()
                } else {
                    value.to_owned()
                };
                self.parsed.given.insert(extra.name);
                self.parsed.extras.insert(extra.name, value);
            }
        }
        Ok(())
    }
}
