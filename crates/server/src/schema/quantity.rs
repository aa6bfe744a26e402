//! Amounts: `1500m`, `2Gi`, `1e3`; and the one way to write each.

/// The canonical text of an amount; `None` if the text is none.
///
/// The suffix keeps its family: binary (`Ki`), decimal (`k`) or exponent (`e3`). The number gets as small as it can without
/// a fraction: `1000000` is `1M`, `0.5` is `500m`. What is finer than a nano is rounded up.
pub(super) fn canonical(text: &str) -> Option<String> {
    let split =
        text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) || all.len() > MOST_DIGITS {
        return None;
    }
    let mantissa: i128 = all.parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    let sign = if negative && mantissa != 0 { "-" } else { "" };
    if let Some(power) = BINARY.iter().position(|binary| *binary == suffix && !suffix.is_empty()) {
        return binary(mantissa, places, power).map(|text| format!("{sign}{text}"));
    }
    let (exponent, family) = match suffix {
        "n" => (-9, Family::Suffix),
        "u" => (-6, Family::Suffix),
        "m" => (-3, Family::Suffix),
        "" => (0, Family::Suffix),
        "k" => (3, Family::Suffix),
        "M" => (6, Family::Suffix),
        "G" => (9, Family::Suffix),
        "T" => (12, Family::Suffix),
        "P" => (15, Family::Suffix),
        "E" => (18, Family::Suffix),
        other => (
            other.strip_prefix(['e', 'E'])?.parse::<i32>().ok().filter(|e| e.abs() <= 100)?,
            Family::Exponent,
        ),
    };
    Some(format!("{sign}{}", decimal(mantissa, exponent - places, family)?))
}

/// More digits than any amount of anything has.
const MOST_DIGITS: usize = 30;
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] =
    [("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0), ("m", -3), ("u", -6), ("n", -9)];

#[derive(Clone, Copy, PartialEq)]
enum Family {
    Suffix,
    Exponent,
}

fn binary(mantissa: i128, places: i32, power: usize) -> Option<String> {
    let scaled = mantissa.checked_mul(1024i128.checked_pow(u32::try_from(power).ok()?)?)?;
    let divisor = 10i128.checked_pow(u32::try_from(places).ok()?)?;
    if scaled % divisor != 0 {
        // No whole number of bytes: written as a decimal.
        return decimal(scaled, -places, Family::Suffix);
    }
    let mut value = scaled / divisor;
    let mut power = 0;
    while value != 0 && value % 1024 == 0 && power + 1 < BINARY.len() {
        value /= 1024;
        power += 1;
    }
    // Below a Ki the binary family has no suffix of its own.
    match power {
        0 => Some(value.to_string()),
        power => Some(format!("{value}{}", BINARY.get(power)?)),
    }
}

fn decimal(mut mantissa: i128, mut exponent: i32, family: Family) -> Option<String> {
    if mantissa == 0 {
        return Some("0".to_owned());
    }
    while mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
    }
    while exponent < -9 {
        mantissa = (mantissa + 9) / 10;
        exponent += 1;
    }
    // Down to a power of a thousand.
    let lower = exponent.div_euclid(3) * 3;
    let lower = lower.min(if family == Family::Suffix { 18 } else { i32::MAX });
    let value = mantissa.checked_mul(10i128.checked_pow(u32::try_from(exponent - lower).ok()?)?)?;
    Some(match family {
        Family::Exponent if lower == 0 => value.to_string(),
        Family::Exponent => format!("{value}e{lower}"),
        Family::Suffix => format!("{value}{}", DECIMAL.iter().find(|(_, power)| *power == lower)?.0),
    })
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn amounts_have_one_way_to_be_written() {
        for (given, expected) in [
            ("1000000", "1M"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("100m", "100m"),
            ("0", "0"),
            ("-1000", "-1k"),
            ("1e3", "1e3"),
            ("10E", "10E"),
            ("12Ei", "12Ei"),
            ("110", "110"),
            ("8Gi", "8Gi"),
            ("0.0000000001", "1n"),
            ("100Ki", "100Ki"),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(expected), "{given}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "x", "1x", "1.2.3", "--1", "1e", "1e1000", ".", "9".repeat(40).as_str()] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }
}
