//! Amounts of a resource, such as `500m` or `1Gi`.

/// The amount in billionths, rounded up; `None` if the text is no quantity or too large to count.
pub(super) fn nanos(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (factor, exponent) = match suffix {
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?),
    };
    let (is_negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value: i128 = 0;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit.to_digit(10)?))?;
    }
    let value = value.checked_mul(factor)?;
    let places = exponent.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(places.unsigned_abs())?;
    let value = if places >= 0 {
        value.checked_mul(power)?
    } else {
        value.div_euclid(power) + i128::from(value.rem_euclid(power) != 0)
    };
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_ten_or_of_1024() {
        const ONE: i128 = 1_000_000_000;
        let cases = [
            ("1", Some(ONE)),
            ("1000m", Some(ONE)),
            ("0.5", Some(ONE / 2)),
            ("1Ki", Some(1024 * ONE)),
            ("1.5Gi", Some(1_610_612_736 * ONE)),
            ("1e3", Some(1000 * ONE)),
            ("2E", Some(2_000_000_000_000_000_000 * ONE)),
            ("-1", Some(-ONE)),
            ("1.0000000001", Some(ONE + 1)),
            ("", None),
            ("m", None),
            ("1x", None),
            ("1-", None),
        ];
        for (text, expected) in cases {
            assert_eq!(nanos(text), expected, "{text}");
        }
        assert_eq!(nanos(&"9".repeat(60)), None);
    }
}
