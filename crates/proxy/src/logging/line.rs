//! One log line, as text or as JSON.

use std::fmt::Write;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::value::{Value, write_quoted, write_value};

/// How lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// The first letter of a text line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Info,
    Warning,
    Error,
    /// For the last line of a process that ends itself.
    Fatal,
}

impl Severity {
    fn letter(self) -> char {
        match self {
            Severity::Info => 'I',
            Severity::Warning => 'W',
            Severity::Error => 'E',
            Severity::Fatal => 'F',
        }
    }
}

/// What a call site says.
#[derive(Debug)]
pub struct Record<'a> {
    pub severity: Severity,
    /// klog's level: 0 is always written.
    pub verbosity: u32,
    /// The source file's path, of which the text line shows the last part.
    pub file: &'a str,
    pub line: u32,
    pub message: &'a str,
    pub fields: &'a [(&'a str, Value<'a>)],
}

/// When and by whom a line is written: passed in so that a line is a function of its input.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) time: Timestamp,
    pub(super) zone: TimeZone,
    pub(super) process_id: u32,
}

/// The line with its final line break.
pub(super) fn render(format: Format, record: &Record<'_>, origin: &Origin) -> String {
    let mut line = match format {
        Format::Text => render_text(record, origin),
        Format::Json => render_json(record, origin),
    };
    line.push('\n');
    line
}

fn render_text(record: &Record<'_>, origin: &Origin) -> String {
    let mut out = String::with_capacity(160);
    let time = origin.zone.to_datetime(origin.time);
    let _ = write!(
        out,
        "{}{:02}{:02} {:02}:{:02}:{:02}.{:06} {:7} {}:{}] ",
        record.severity.letter(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.subsec_nanosecond() / 1000,
        origin.process_id,
        base_name(record.file),
        record.line,
    );
    write_quoted(&mut out, record.message);
    for (key, value) in record.fields {
        out.push(' ');
        out.push_str(key_name(key));
        write_value(&mut out, value);
    }
    out
}

fn render_json(record: &Record<'_>, origin: &Origin) -> String {
    // Milliseconds with three decimals: the microsecond the text form shows.
    let milliseconds = origin.time.as_microsecond() as f64 / 1000.0;
    let mut out = format!(
        "{{\"ts\":{milliseconds:?},\"caller\":{},\"msg\":{}",
        json!(format!("{}:{}", caller(record.file), record.line)),
        json!(record.message),
    );
    // Errors have no level, as from zap.
    if record.severity != Severity::Error {
        let _ = write!(out, ",\"v\":{}", record.verbosity);
    }
    for (key, value) in record.fields {
        let _ = write!(out, ",{}:", json!(key_name(key)));
        let _ = match value {
            Value::Text(text) => write!(out, "{}", json!(text)),
            Value::Json(value) => write!(out, "{value}"),
        };
    }
    out.push('}');
    out
}

/// Keys arrive as source text, a key with a blank in it as a string literal.
fn key_name(key: &str) -> &str {
    key.trim_matches('"')
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The file with its folder, as the JSON form shows it.
fn caller(path: &str) -> &str {
    match path.rmatch_indices('/').nth(1) {
        Some((slash, _)) => &path[slash + 1..],
        None => path,
    }
}
