//! What was told before, so that it is counted instead of told again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;

use super::Kind;

/// After this long it is told anew, as kubelet does.
const FORGOTTEN: SignedDuration = SignedDuration::from_mins(10);

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Happening {
    pub(crate) object: ObjectReference,
    pub(crate) kind: Kind,
    /// A word that programs know.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// How it is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    First { name: String },
    Again { name: String, count: i32 },
}

#[derive(Debug, Clone)]
struct Series {
    name: String,
    count: i32,
    last: Timestamp,
}

/// Of the last minutes, by object and what happened to it.
#[derive(Debug, Default)]
pub(super) struct SeriesTable {
    all: BTreeMap<String, Series>,
}

impl SeriesTable {
    pub(super) fn next(&mut self, happening: &Happening, now: Timestamp) -> Next {
        self.all.retain(|_, series| now.duration_since(series.last) < FORGOTTEN);
        let series = self.all.entry(key(happening)).or_insert_with(|| Series {
            // Unique, and by custom: the object's name and the time.
            name: format!(
                "{}.{:x}",
                happening.object.name.as_deref().unwrap_or("unknown"),
                now.as_nanosecond()
            ),
            count: 0,
            last: now,
        });
        series.count = series.count.saturating_add(1);
        series.last = now;
        match series.count {
            1 => Next::First { name: series.name.clone() },
            count => Next::Again { name: series.name.clone(), count },
        }
    }

    /// It could not be written.
    pub(super) fn forget(&mut self, happening: &Happening) {
        self.all.remove(&key(happening));
    }
}

fn key(happening: &Happening) -> String {
    let Happening { object, kind, reason, message } = happening;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    [
        part(&object.kind),
        part(&object.namespace),
        part(&object.name),
        part(&object.uid),
        part(&object.field_path),
        kind.as_str().to_owned(),
        (*reason).to_owned(),
        message.clone(),
    ]
    .join("\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(message: &str) -> Happening {
        let object = ObjectReference { name: Some("web".to_owned()), ..ObjectReference::default() };
        Happening { object, kind: Kind::Normal, reason: "Started", message: message.to_owned() }
    }

    #[test]
    fn what_repeats_itself_is_counted_until_it_is_forgotten() {
        let mut table = SeriesTable::default();
        let now = Timestamp::from_second(1).unwrap();
        let Next::First { name } = table.next(&happening("a"), now) else { panic!() };
        assert!(name.starts_with("web."), "{name}");
        assert_eq!(table.next(&happening("a"), now), Next::Again { name: name.clone(), count: 2 });
        assert!(matches!(table.next(&happening("b"), now), Next::First { .. }));
        assert_eq!(table.next(&happening("a"), now), Next::Again { name, count: 3 });
        let later = now + FORGOTTEN;
        assert!(matches!(table.next(&happening("a"), later), Next::First { .. }));
        table.forget(&happening("a"));
        assert!(matches!(table.next(&happening("a"), later), Next::First { .. }));
    }
}
