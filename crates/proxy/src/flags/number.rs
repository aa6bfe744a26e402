//! Numbers and booleans as Go's `strconv` reads them, with its error texts.

/// `1 t T TRUE true True` or `0 f F FALSE false False`.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(invalid("ParseBool", text)),
    }
}

/// A signed 32-bit number; `0x`, `0o`, `0b` and a plain leading zero (octal) choose the base.
pub(crate) fn parse_i32(text: &str) -> Result<i32, String> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = parse_magnitude(digits).map_err(|reason| failed("ParseInt", text, reason))?;
    let value = if negative { -magnitude } else { magnitude };
    i32::try_from(value).map_err(|_| failed("ParseInt", text, OUT_OF_RANGE))
}

/// An unsigned 32-bit number, bases as for [`parse_i32`].
pub(crate) fn parse_u32(text: &str) -> Result<u32, String> {
    let value = parse_magnitude(text).map_err(|reason| failed("ParseUint", text, reason))?;
    u32::try_from(value).map_err(|_| failed("ParseUint", text, OUT_OF_RANGE))
}

/// A 32-bit floating point number.
pub(crate) fn parse_f32(text: &str) -> Result<f32, String> {
    text.parse().map_err(|_| invalid("ParseFloat", text))
}

const SYNTAX: &str = "invalid syntax";
const OUT_OF_RANGE: &str = "value out of range";

fn parse_magnitude(text: &str) -> Result<i64, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(SYNTAX);
    }
    i64::from_str_radix(digits, radix).map_err(|_| OUT_OF_RANGE)
}

fn invalid(function: &str, text: &str) -> String {
    failed(function, text, SYNTAX)
}

fn failed(function: &str, text: &str, reason: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: {reason}")
}
