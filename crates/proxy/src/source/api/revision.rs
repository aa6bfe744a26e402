//! Resource versions, and which of two is newer.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// The `resourceVersion` of an object or a list. API servers write decimal numbers that grow; any other text can
/// only be compared for equality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Revision {
    Number(u64),
    Opaque(Box<str>),
}

impl Revision {
    pub(super) fn parse(text: &str) -> Revision {
        // Only what prints back as the same text is a number to us: "007" must be sent back as "007".
        match text.parse::<u64>() {
            Ok(number) if text == "0" || !text.starts_with(['0', '+']) => Revision::Number(number),
            _ => Revision::Opaque(text.into()),
        }
    }

    /// False also where the two have no order.
    pub(super) fn is_newer_than(&self, other: &Revision) -> bool {
        matches!((self, other), (Revision::Number(this), Revision::Number(other)) if this > other)
    }

    /// Whether an object at `self` replaces the same object at `known`. Revisions without an order replace each
    /// other: the server sent them last.
    pub(super) fn replaces(&self, known: &Revision) -> bool {
        match (self, known) {
            (Revision::Number(new), Revision::Number(known)) => new > known,
            _ => self != known,
        }
    }
}

impl Default for Revision {
    fn default() -> Revision {
        Revision::Opaque("".into())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Revision::Number(number) => write!(f, "{number}"),
            Revision::Opaque(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Revision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Revision, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Ok(text.map_or_else(Revision::default, |text| Revision::parse(&text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_an_order_and_other_texts_replace_each_other() {
        let revision = Revision::parse;
        assert!(revision("10").replaces(&revision("9")));
        assert!(!revision("9").replaces(&revision("10")));
        assert!(!revision("9").replaces(&revision("9")));
        assert!(revision("a").replaces(&revision("b")) && revision("b").replaces(&revision("a")));
        assert!(!revision("a").replaces(&revision("a")));
    }

    #[test]
    fn every_revision_is_sent_back_as_it_came() {
        for text in ["", "0", "7", "007", "+7", "x", "18446744073709551615", "18446744073709551616"] {
            assert_eq!(Revision::parse(text).to_string(), text);
        }
    }
}
