//! Which lines are wanted, and where they go.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing_subscriber::layer::SubscriberExt;

use super::bridge::Bridge;
use super::line::{Format, Origin, Record, render};

/// The logging flags, checked by whoever read them.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub format: Format,
    /// Lines up to this level are written.
    pub verbosity: u32,
    /// `--vmodule`: the first pattern that matches a source file gives its level.
    pub patterns: Vec<FilePattern>,
}

/// One entry of `--vmodule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePattern {
    /// A glob (`*` and `?`) for the base name of a source file without its extension, or for upstream's name of the
    /// file with the same job: `proxier`, `config`, `runner`, `server`.
    pub pattern: String,
    pub verbosity: u32,
}

/// Decides about lines and writes them. The process has one, [`logger`]; tests may make others.
#[derive(Debug)]
pub struct Logger {
    verbosity: AtomicU32,
    /// Whether `settings` holds any pattern, so that the common case takes no lock.
    has_patterns: AtomicBool,
    settings: RwLock<(Format, Vec<FilePattern>)>,
    captured: Mutex<Option<Captured>>,
}

/// The process's logger: text to standard error at level 0 until [`Logger::configure`] says otherwise.
pub fn logger() -> &'static Logger {
    static LOGGER: LazyLock<Logger> = LazyLock::new(|| Logger::new(Options::default()));
    &LOGGER
}

/// Configures the process's logger and lets it hear what libraries say through `tracing`.
pub fn install(options: Options) {
    logger().configure(options);
    // Fails only if this was done before; then the bridge is there already.
    let _ =
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Bridge::new(logger())));
}

impl Logger {
    pub fn new(options: Options) -> Logger {
        let logger = Logger {
            verbosity: AtomicU32::new(0),
            has_patterns: AtomicBool::new(false),
            settings: RwLock::default(),
            captured: Mutex::default(),
        };
        logger.configure(options);
        logger
    }

    pub fn configure(&self, options: Options) {
        self.has_patterns.store(!options.patterns.is_empty(), Ordering::Relaxed);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = (options.format, options.patterns);
        self.set_verbosity(options.verbosity);
    }

    /// Takes effect at once, also for lines of libraries.
    pub fn set_verbosity(&self, verbosity: u32) {
        self.verbosity.store(verbosity, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    pub fn verbosity(&self) -> u32 {
        self.verbosity.load(Ordering::Relaxed)
    }

    /// Whether a line of this level from this source file is wanted.
    pub fn enabled(&self, verbosity: u32, file: &str) -> bool {
        verbosity <= self.verbosity()
            || (self.has_patterns.load(Ordering::Relaxed) && self.matches(verbosity, file))
    }

    fn matches(&self, verbosity: u32, file: &str) -> bool {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        let names = module_names(file);
        let found = settings.1.iter().find(|entry| names.iter().any(|name| glob(&entry.pattern, name)));
        found.is_some_and(|entry| verbosity <= entry.verbosity)
    }

    /// Writes the line, whether [`Logger::enabled`] or not.
    pub fn write(&self, record: &Record<'_>) {
        let format = self.settings.read().unwrap_or_else(PoisonError::into_inner).0;
        let origin =
            Origin { time: Timestamp::now(), zone: TimeZone::system(), process_id: std::process::id() };
        let line = render(format, record, &origin);
        match &*self.capture_slot() {
            Some(captured) => captured.push(line),
            // Standard error may be closed or its disk full: there is nobody left to tell.
            None => drop(std::io::stderr().lock().write_all(line.as_bytes())),
        }
    }

    /// From now on lines are kept in memory, not written: for tests. Everyone who captures the same logger sees the
    /// same lines; the verbosity is raised if need be, never lowered.
    pub fn capture(&self, verbosity: u32) -> Captured {
        self.verbosity.fetch_max(verbosity, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
        self.capture_slot().get_or_insert_default().clone()
    }

    fn capture_slot(&self) -> MutexGuard<'_, Option<Captured>> {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines kept in memory, oldest first, each with its line break.
#[derive(Debug, Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<String>>>);

impl Captured {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn contains(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }

    fn push(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// What a `--vmodule` pattern may call a source file: its base name (for `mod.rs` the folder's) and the name of
/// upstream's file with the same job.
fn module_names(file: &str) -> Vec<&str> {
    let mut parts = file.rsplit('/');
    let stem = parts.next().unwrap_or(file).trim_end_matches(".rs");
    let folder = parts.next().unwrap_or_default();
    let own = if stem == "mod" { folder } else { stem };
    let upstream = [(own, UPSTREAM_FILES), (folder, UPSTREAM_FOLDERS)]
        .into_iter()
        .find_map(|(name, table)| table.iter().find(|(ours, _)| *ours == name))
        .map(|(_, upstream)| *upstream);
    std::iter::once(own).chain(upstream).collect()
}

const UPSTREAM_FILES: &[(&str, &str)] =
    &[("sync", "proxier"), ("run", "server"), ("startup", "server"), ("health", "proxy_health")];
const UPSTREAM_FOLDERS: &[(&str, &str)] =
    &[("iptables", "proxier"), ("source", "config"), ("sources", "config")];

/// Matches `*` (any text) and `?` (one character).
fn glob(pattern: &str, name: &str) -> bool {
    match pattern.chars().next() {
        None => name.is_empty(),
        Some('*') => name
            .char_indices()
            .map(|(at, _)| at)
            .chain([name.len()])
            .any(|at| glob(&pattern[1..], &name[at..])),
        Some(wanted) => name.chars().next().is_some_and(|found| {
            (wanted == '?' || wanted == found)
                && glob(&pattern[wanted.len_utf8()..], &name[found.len_utf8()..])
        }),
    }
}
