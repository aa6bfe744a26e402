//! The values of a log line's keys, and how klog quotes them.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use switchyard_api::{IpFamily, Name, ObjectKey};

use crate::flags::GoDuration;

/// One value. Text is quoted in a text line, everything else is written bare, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Text(Cow<'a, str>),
    Json(serde_json::Value),
}

/// Anything that can be displayed, as quoted text.
pub fn text(value: impl fmt::Display) -> Value<'static> {
    Value::Text(Cow::Owned(value.to_string()))
}

/// An error with its chain of causes, as quoted text. A cause that its parent's text already ends with is not
/// repeated.
pub fn error(error: &dyn Error) -> Value<'static> {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    Value::Text(Cow::Owned(message))
}

/// A list or structure, as JSON.
pub fn json(value: impl Serialize) -> Value<'static> {
    serde_json::to_value(value).map_or_else(|error| text(format_args!("<not JSON: {error}>")), Value::Json)
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Value<'a> {
        Value::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Value<'a> {
        Value::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a Name> for Value<'a> {
    fn from(text: &'a Name) -> Value<'a> {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl From<IpFamily> for Value<'_> {
    fn from(family: IpFamily) -> Self {
        Value::Text(Cow::Borrowed(family.as_str()))
    }
}

/// As Go prints a duration: `12.5ms`, `1h0m0s`.
impl From<Duration> for Value<'_> {
    fn from(duration: Duration) -> Self {
        text(GoDuration::from(duration))
    }
}

macro_rules! from_displayed {
    ($($type:ty),*) => {$(
        impl From<$type> for Value<'_> {
            fn from(value: $type) -> Self {
                text(value)
            }
        }
    )*};
}
from_displayed!(&ObjectKey, IpAddr, SocketAddr, GoDuration);

macro_rules! from_bare {
    ($($type:ty),*) => {$(
        impl From<$type> for Value<'_> {
            fn from(value: $type) -> Self {
                Value::Json(serde_json::Value::from(value))
            }
        }
    )*};
}
from_bare!(bool, u8, u16, u32, u64, usize, i32, i64, f64);

/// A list of texts.
impl<T: fmt::Display> From<&[T]> for Value<'_> {
    fn from(list: &[T]) -> Self {
        json(list.iter().map(ToString::to_string).collect::<Vec<_>>())
    }
}

impl<T: fmt::Display> From<&Vec<T>> for Value<'_> {
    fn from(list: &Vec<T>) -> Self {
        Value::from(list.as_slice())
    }
}

/// `=value`; a text of several lines becomes `=<`, the lines indented by a tab, and ` >` on a line of its own.
pub(super) fn write_value(out: &mut String, value: &Value<'_>) {
    match value {
        Value::Json(value) => {
            let _ = write!(out, "={value}");
        }
        Value::Text(text) if text.contains('\n') => {
            out.push_str("=<\n");
            for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                let _ = writeln!(out, "\t{line}");
            }
            out.push_str(" >");
        }
        Value::Text(text) => {
            out.push('=');
            write_quoted(out, text);
        }
    }
}

/// Quotes as Go's `strconv.Quote` does: printable text stays readable, the rest is escaped.
pub(super) fn write_quoted(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        let _ = match character {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\u{7}' => out.write_str("\\a"),
            '\u{8}' => out.write_str("\\b"),
            '\u{b}' => out.write_str("\\v"),
            '\u{c}' => out.write_str("\\f"),
            control if (control as u32) < 0x80 && control.is_control() => {
                write!(out, "\\x{:02x}", control as u32)
            }
            control if control.is_control() => write!(out, "\\u{:04x}", control as u32),
            printable => out.write_char(printable),
        };
    }
    out.push('"');
}
