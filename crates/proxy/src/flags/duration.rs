//! Durations in Go's notation (`1h0m0s`, `250ms`), which flags and the configuration file use.
//!
//! They are signed: a negative one must survive parsing so that validation can name the field.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A signed duration in nanoseconds, read and written as Go does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

const NANOS_PER_SECOND: i64 = 1_000_000_000;

impl GoDuration {
    /// No time at all; several options read it as "leave the kernel's setting alone".
    pub const ZERO: GoDuration = GoDuration(0);

    /// `seconds` as a duration.
    pub const fn from_secs(seconds: i64) -> GoDuration {
        GoDuration(seconds * NANOS_PER_SECOND)
    }

    /// `milliseconds` as a duration.
    pub const fn from_millis(milliseconds: i64) -> GoDuration {
        GoDuration(milliseconds * 1_000_000)
    }

    /// `nanoseconds` as a duration.
    pub const fn from_nanos(nanoseconds: i64) -> GoDuration {
        GoDuration(nanoseconds)
    }

    /// Parses Go's notation: decimal numbers with units `ns us µs ms s m h`, an optional sign, or a bare `0`.
    ///
    /// The error is Go's text.
    pub fn parse(text: &str) -> Result<GoDuration, String> {
        let invalid = || format!("time: invalid duration {text:?}");
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if unsigned == "0" {
            return Ok(GoDuration::ZERO);
        }
        if unsigned.is_empty() {
            return Err(invalid());
        }
        let mut rest = unsigned;
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let (nanos, after) = parse_term(rest, text)?;
            total += nanos;
            rest = after;
        }
        let signed = if negative { -total } else { total };
        i64::try_from(signed).map(GoDuration).map_err(|_| invalid())
    }

    /// The length as the standard library has it; negative durations become zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// Whether nothing was set.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// One number with its unit from the front of `rest`: its nanoseconds, and what follows it.
fn parse_term<'a>(rest: &'a str, whole: &str) -> Result<(i128, &'a str), String> {
    let number_len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, rest) = rest.split_at(number_len);
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (integer.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 18 {
        return Err(format!("time: invalid duration {whole:?}"));
    }
    let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_len);
    let scale: i128 = match unit {
        "" => return Err(format!("time: missing unit in duration {whole:?}")),
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000, // both Unicode letters for micro
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(format!("time: unknown unit {unit:?} in duration {whole:?}")),
    };
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
    let (Some(integer), Some(parts)) = (digits(integer), digits(fraction)) else {
        return Err(format!("time: invalid duration {whole:?}"));
    };
    let divisor = 10i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    Ok((integer * scale + parts * scale / divisor, rest))
}

impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> GoDuration {
        GoDuration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => return f.write_str("0s"),
            1..1_000 => return write!(f, "{nanos}ns"),
            1_000..1_000_000 => return write!(f, "{}µs", decimal(nanos, 3)),
            1_000_000..1_000_000_000 => return write!(f, "{}ms", decimal(nanos, 6)),
            _ => {}
        }
        let seconds = nanos / 1_000_000_000;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(nanos % 60_000_000_000, 9))
    }
}

/// `value` divided by ten to the power of `places`, without trailing zeros.
fn decimal(value: u64, places: u32) -> String {
    let unit = 10u64.pow(places);
    let fraction = format!("{:0width$}", value % unit, width = places as usize);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{}{dot}{fraction}", value / unit)
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GoDuration, D::Error> {
        struct DurationVisitor;
        impl Visitor<'_> for DurationVisitor {
            type Value = GoDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30s\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<GoDuration, E> {
                GoDuration::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(DurationVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (input, printed) in [
            ("0", "0s"),
            ("0s", "0s"),
            ("30s", "30s"),
            ("15m", "15m0s"),
            ("24h", "24h0m0s"),
            ("90s", "1m30s"),
            ("1h0.5s", "1h0m0.5s"),
            ("250ms", "250ms"),
            ("1.5ms", "1.5ms"),
            ("1500us", "1.5ms"),
            ("2µs", "2µs"),
            ("7ns", "7ns"),
            ("-5s", "-5s"),
            ("+5s", "5s"),
            (".5s", "500ms"),
            ("1m1h", "1h1m0s"),
        ] {
            assert_eq!(GoDuration::parse(input).unwrap().to_string(), printed, "{input}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_named() {
        for (input, message) in [
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("-", "time: invalid duration \"-\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            (".s", "time: invalid duration \".s\""),
            ("99999999999h", "time: invalid duration \"99999999999h\""),
            ("9999999999999999999999s", "time: invalid duration \"9999999999999999999999s\""),
        ] {
            assert_eq!(GoDuration::parse(input).unwrap_err(), message);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_duration_survives_printing_and_parsing(nanos: i64) {
            proptest::prop_assume!(nanos != i64::MIN);
            let duration = GoDuration::from_nanos(nanos);
            proptest::prop_assert_eq!(GoDuration::parse(&duration.to_string()), Ok(duration));
        }
    }
}
