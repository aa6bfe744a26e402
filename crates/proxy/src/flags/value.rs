//! How the value of a flag is read and printed, by its type.

use std::collections::BTreeMap;

use switchyard_api::address::parse_ip;

use super::number::{parse_bool, parse_f32, parse_i32, parse_u32};
use super::{GoDuration, RawFlags, VerbosityPattern, version};

/// The type of a flag, with the field that its value goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    Bool(fn(&mut RawFlags) -> &mut bool),
    Int(fn(&mut RawFlags) -> &mut i32),
    Level(fn(&mut RawFlags) -> &mut u32),
    Float(fn(&mut RawFlags) -> &mut f32),
    Duration(fn(&mut RawFlags) -> &mut GoDuration),
    Text(fn(&mut RawFlags) -> &mut String),
    /// Text that help calls by a name of its own; checked at validation, if at all.
    Named(&'static str, fn(&mut RawFlags) -> &mut String),
    Ip(fn(&mut RawFlags) -> &mut String),
    IpPort(fn(&mut RawFlags) -> &mut String),
    Quantity(fn(&mut RawFlags) -> &mut String),
    List(fn(&mut RawFlags) -> &mut Vec<String>),
    Gates(fn(&mut RawFlags) -> &mut BTreeMap<String, bool>),
    Patterns(fn(&mut RawFlags) -> &mut Vec<VerbosityPattern>),
    Version(fn(&mut RawFlags) -> &mut String),
}

impl Slot {
    /// The type's name in help; empty for booleans, which need no value.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Slot::Bool(_) => "",
            Slot::Int(_) => "int32",
            Slot::Level(_) => "Level",
            Slot::Float(_) => "float32",
            Slot::Duration(_) => "duration",
            Slot::Text(_) => "string",
            Slot::Named(name, _) => name,
            Slot::Ip(_) => "ip",
            Slot::IpPort(_) => "ipport",
            Slot::Quantity(_) => "quantity",
            Slot::List(_) => "strings",
            Slot::Gates(_) => "mapStringBool",
            Slot::Patterns(_) => "pattern=N,...",
            Slot::Version(_) => "version",
        }
    }

    /// Whether the flag may stand without a value, which then is `true`.
    pub(crate) fn stands_alone(&self) -> bool {
        matches!(self, Slot::Bool(_) | Slot::Version(_))
    }

    /// Reads `text` into the flag's field; `first` says that only the default is there yet.
    pub(crate) fn set(&self, flags: &mut RawFlags, text: &str, first: bool) -> Result<(), String> {
        match self {
            Slot::Bool(field) => *field(flags) = parse_bool(text)?,
            Slot::Int(field) => *field(flags) = parse_i32(text)?,
            Slot::Level(field) => *field(flags) = parse_u32(text)?,
            Slot::Float(field) => *field(flags) = parse_f32(text)?,
            Slot::Duration(field) => *field(flags) = GoDuration::parse(text)?,
            Slot::Text(field) | Slot::Named(_, field) => text.clone_into(field(flags)),
            // An empty address leaves the default in force: clusters rely on `--healthz-bind-address=""`.
            Slot::Ip(_) | Slot::IpPort(_) if text.is_empty() => {}
            Slot::Ip(field) => *field(flags) = checked(text, check_ip)?,
            Slot::IpPort(field) => *field(flags) = checked(text, check_ip_port)?,
            Slot::Quantity(field) => *field(flags) = checked(text, check_quantity)?,
            Slot::List(field) => {
                let items = parse_csv(text)?;
                let list = field(flags);
                if first {
                    list.clear();
                }
                list.extend(items);
            }
            Slot::Gates(field) => field(flags).extend(parse_gates(text)?),
            Slot::Patterns(field) if text.is_empty() => field(flags).clear(),
            Slot::Patterns(field) => field(flags).extend(parse_patterns(text)?),
            Slot::Version(field) => {
                version::parse_request(text)?;
                text.clone_into(field(flags));
            }
        }
        Ok(())
    }

    /// The flag's value as `FLAG:` lines and `/flagz` show it.
    pub(crate) fn show(&self, flags: &mut RawFlags) -> String {
        match self {
            Slot::Bool(field) => field(flags).to_string(),
            Slot::Int(field) => field(flags).to_string(),
            Slot::Level(field) => field(flags).to_string(),
            Slot::Float(field) => field(flags).to_string(),
            Slot::Duration(field) => field(flags).to_string(),
            Slot::Text(field)
            | Slot::Named(_, field)
            | Slot::Ip(field)
            | Slot::IpPort(field)
            | Slot::Quantity(field)
            | Slot::Version(field) => field(flags).clone(),
            Slot::List(field) => format!("[{}]", field(flags).join(",")),
            Slot::Gates(field) => joined(field(flags), |(name, on)| format!("{name}={on}")),
            Slot::Patterns(field) => {
                joined(field(flags).iter(), |p| format!("{}={}", p.pattern, p.verbosity))
            }
        }
    }
}

fn joined<T>(items: impl IntoIterator<Item = T>, show: impl Fn(T) -> String) -> String {
    items.into_iter().map(show).collect::<Vec<_>>().join(",")
}

fn checked(text: &str, check: fn(&str) -> Result<(), String>) -> Result<String, String> {
    check(text).map(|()| text.to_owned())
}

fn check_ip(text: &str) -> Result<(), String> {
    parse_ip(text).map(drop).ok_or_else(|| format!("{text:?} is not a valid IP address"))
}

fn check_ip_port(text: &str) -> Result<(), String> {
    if parse_ip(text).is_some() {
        return Ok(());
    }
    let (host, port) = split_host_port(text)
        .map_err(|reason| format!("{text:?} is not in a valid format (ip or ip:port): {reason}"))?;
    check_ip(host)?;
    port.parse::<u16>().map(drop).map_err(|_| format!("{port:?} is not a valid number"))
}

/// Splits `host:port` or `[host]:port`; the error says what is missing.
pub(crate) fn split_host_port(text: &str) -> Result<(&str, &str), String> {
    let error = |reason: &str| format!("address {text}: {reason}");
    let (host, port) = text.rsplit_once(':').ok_or_else(|| error("missing port in address"))?;
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or_else(|| error("missing port in address"))?;
        return Ok((inner, port));
    }
    if host.contains(':') {
        return Err(error("too many colons in address"));
    }
    Ok((host, port))
}

fn check_quantity(text: &str) -> Result<(), String> {
    if is_quantity(text) {
        return Ok(());
    }
    Err("quantities must match the regular expression \
         '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        .into())
}

/// Whether `text` is a Kubernetes quantity: a number with a decimal or binary suffix, or an exponent.
pub(crate) fn is_quantity(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number_len = unsigned.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, suffix) = unsigned.split_at(number_len);
    let exponent = suffix.strip_prefix(['e', 'E']).map(|e| e.strip_prefix(['+', '-']).unwrap_or(e));
    number.bytes().any(|b| b.is_ascii_digit())
        && number.matches('.').count() <= 1
        && (matches!(
            suffix,
            "" | "n"
                | "u"
                | "m"
                | "k"
                | "M"
                | "G"
                | "T"
                | "P"
                | "E"
                | "Ki"
                | "Mi"
                | "Gi"
                | "Ti"
                | "Pi"
                | "Ei"
        ) || exponent.is_some_and(|e| !e.is_empty() && e.bytes().all(|b| b.is_ascii_digit())))
}

/// One line of comma separated values, with CSV's quoting.
fn parse_csv(text: &str) -> Result<Vec<String>, String> {
    let mut items = Vec::new();
    if text.is_empty() {
        return Ok(items);
    }
    let mut rest = text;
    loop {
        let (item, after) = match rest.strip_prefix('"') {
            Some(quoted) => parse_quoted(quoted).ok_or_else(|| format!("unbalanced quotes in {text:?}"))?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err(format!("bare \" in non-quoted field of {text:?}"));
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        items.push(item);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(items),
        }
    }
}

/// The item up to the closing quote (a doubled quote is a quote), and what follows: nothing or a comma.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut item = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        item.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                item.push('"');
                rest = next;
            }
            None => return (after.is_empty() || after.starts_with(',')).then_some((item, after)),
        }
    }
}

fn parse_gates(text: &str) -> Result<Vec<(String, bool)>, String> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or("malformed pair, expect string=bool")?;
            let (name, value) = (name.trim(), value.trim());
            let on = parse_bool(value).map_err(|e| format!("invalid value of {name}: {value}, err: {e}"))?;
            Ok((name.to_owned(), on))
        })
        .collect()
}

fn parse_patterns(text: &str) -> Result<Vec<VerbosityPattern>, String> {
    let items = text.split(',').filter(|item| !item.is_empty());
    items
        .map(|item| {
            let (pattern, level) = item
                .split_once('=')
                .filter(|(pattern, level)| !pattern.is_empty() && !level.contains('='))
                .ok_or_else(|| format!("{item:?} does not have the pattern=N format"))?;
            let verbosity = parse_u32(level).map_err(|e| format!("parsing verbosity in {item:?}: {e}"))?;
            Ok(VerbosityPattern { pattern: pattern.to_owned(), verbosity })
        })
        .collect()
}
