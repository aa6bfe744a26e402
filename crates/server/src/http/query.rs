//! The parameters of a URL.

/// Parameters, decoded, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// Reads what follows the question mark. Pairs that are not properly encoded are left out, as upstream does.
    pub fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key, true)?, decode(value, true)?))
        });
        Query(pairs.collect())
    }

    /// The first value; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.given(name).unwrap_or_default()
    }

    /// The first value, which may be empty.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag is there and not false. One without a value is set.
    pub fn is_set(&self, name: &str) -> bool {
        self.given(name).is_some_and(|value| !matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False"))
    }
}

/// Undoes percent-encoding, and `+` for a space in parameters. `None` if it is not properly encoded text.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_in_order() {
        let query = Query::parse("a=1&b=x+y%2Cz&a=2&watch&=&bad=%z");
        assert_eq!(query.get("a"), "1");
        assert_eq!(query.get("b"), "x y,z");
        assert_eq!((query.given("watch"), query.given("bad")), (Some(""), None));
        assert!(query.is_set("watch") && !query.is_set("other"));
        assert!(!Query::parse("watch=false").is_set("watch"));
    }
}
