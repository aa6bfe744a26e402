//! What `kubectl get` shows: columns, and the texts of their cells.

use jiff::Timestamp;
use serde_json::Value;

use crate::object::Object;
use crate::registry::Column;

/// A cell without a value.
pub const NONE: &str = "<none>";
/// A cell whose value is not known (yet).
pub const UNKNOWN: &str = "<unknown>";

/// A cell of a list that nobody filled in.
pub const UNSET: &str = "<unset>";

/// The first column of nearly every resource.
pub const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "The name of the object.",
    priority: 0,
};

/// The last column of nearly every resource.
pub const AGE: Column = column("Age", "string", "The time since the object was created.", 0);

/// The columns of a resource that says nothing else.
pub const NAME_AND_AGE: &[Column] = &[NAME, AGE];

/// A column without a format. `kind` is `string` or `integer`; above priority 0 it is shown with `-o wide` only.
pub const fn column(
    name: &'static str,
    kind: &'static str,
    description: &'static str,
    priority: u8,
) -> Column {
    Column { name, kind, format: "", description, priority }
}

pub fn name_and_age(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), age(object, now).into()]
}

/// The time since an object was created.
pub fn age(object: &Object, now: Timestamp) -> String {
    since(object.text(&["metadata", "creationTimestamp"]), now)
}

/// The time since a time stamp (RFC 3339); `<unknown>` if it is none.
pub fn since(timestamp: &str, now: Timestamp) -> String {
    match timestamp.parse::<Timestamp>() {
        Ok(then) => duration(now.as_second().saturating_sub(then.as_second())),
        Err(_) => UNKNOWN.to_owned(),
    }
}

/// A duration in as few words as tell its size. Negative ones come from clocks that disagree, which a second may.
pub fn duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let both = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => both(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => both(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => both(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => both(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// The text itself, or `<none>` for an empty one.
pub fn or_none(text: &str) -> &str {
    if text.is_empty() { NONE } else { text }
}

/// Values with commas between them; `<none>` if there are none.
pub fn joined<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<T> = values.into_iter().collect();
    let texts: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    if texts.is_empty() { NONE.to_owned() } else { texts.join(",") }
}

/// The same, but of many values the first three and how many more there are; `empty` if there are none.
pub fn shortened<T: AsRef<str>>(values: impl IntoIterator<Item = T>, empty: &str) -> String {
    let mut values = values.into_iter();
    let shown: Vec<T> = values.by_ref().take(3).collect();
    let texts: Vec<&str> = shown.iter().map(AsRef::as_ref).collect();
    match (texts.as_slice(), values.count()) {
        ([], _) => empty.to_owned(),
        (texts, 0) => texts.join(","),
        (texts, more) => format!("{} + {more} more...", texts.join(",")),
    }
}

/// A map of texts as `a=b,c=d`, sorted; `<none>` if it is empty or not there.
pub fn pairs(map: Option<&Value>) -> String {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    let mut pairs: Vec<String> =
        map.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.sort();
    joined(pairs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_as_kubectl_shows_them() {
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 90, "3h1m"),
            (8 * 3600, "8h"),
            (48 * 3600 - 1, "47h"),
            (48 * 3600, "2d"),
            (49 * 3600, "2d1h"),
            (8 * 86_400, "8d"),
            (2 * 365 * 86_400 - 1, "729d"),
            (2 * 365 * 86_400, "2y"),
            (2 * 365 * 86_400 + 86_400, "2y1d"),
            (8 * 365 * 86_400, "8y"),
            (9 * 365 * 86_400 + 86_400, "9y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds} seconds");
        }
        assert_eq!(since("", Timestamp::UNIX_EPOCH), "<unknown>");
    }

    #[test]
    fn lists_say_when_they_are_empty_or_cut() {
        assert_eq!(joined::<&str>([]), "<none>");
        assert_eq!(joined(["a", "b"]), "a,b");
        assert_eq!(shortened::<&str>([], "<unset>"), "<unset>");
        assert_eq!(shortened(["a", "b", "c"], ""), "a,b,c");
        assert_eq!(shortened(["a", "b", "c", "d", "e"], ""), "a,b,c + 2 more...");
        assert_eq!(pairs(Some(&json!({"b": "2", "a": "1"}))), "a=1,b=2");
        assert_eq!(pairs(None), "<none>");
    }
}
