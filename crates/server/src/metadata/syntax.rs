//! What keys and values of labels look like, with the texts that follow `Invalid value: "x": `.

/// The rest of the sentence of a label key, after its name part.
const LABEL_KEY: &str = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start \
    and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation \
    is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. \
    'example.com/MyName')";

const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
    with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// `[prefix/]name`: keys of labels and annotations, and finalizers.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut mistakes = Vec::new();
    let (prefix, name) = match text.split_once('/') {
        Some((_, rest)) if rest.contains('/') => return vec![LABEL_KEY.to_owned()],
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    match prefix {
        None => {}
        Some("") => mistakes.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            let wrong = crate::resources::names::subdomain(prefix);
            mistakes.extend(wrong.into_iter().map(|mistake| format!("prefix part {mistake}")));
        }
    }
    if name.is_empty() {
        mistakes.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        mistakes.push("name part must be no more than 63 characters".to_owned());
    }
    if !is_word(name) {
        mistakes.push(NAME_PART.to_owned());
    }
    mistakes
}

/// Empty, or a word of at most 63 characters.
pub fn label_value(text: &str) -> Vec<String> {
    let mut mistakes = Vec::new();
    if text.len() > 63 {
        mistakes.push("must be no more than 63 characters".to_owned());
    }
    if !text.is_empty() && !is_word(text) {
        mistakes.push(LABEL_VALUE.to_owned());
    }
    mistakes
}

/// Letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn is_word(text: &str) -> bool {
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualified_names_say_which_part_is_wrong() {
        for good in ["a", "app.kubernetes.io/name", "A_b-c.d", "1"] {
            assert_eq!(qualified_name(good), Vec::<String>::new(), "{good}");
        }
        let cases: [(&str, &[&str]); 6] = [
            ("a/b/c", &[LABEL_KEY]),
            ("", &["name part must be non-empty", NAME_PART]),
            ("x/", &["name part must be non-empty", NAME_PART]),
            ("/a", &["prefix part must be non-empty"]),
            ("-a", &[NAME_PART]),
            ("a b", &[NAME_PART]),
        ];
        for (bad, mistakes) in cases {
            assert_eq!(qualified_name(bad), mistakes, "{bad}");
        }
        assert_eq!(qualified_name(&"a".repeat(64)), ["name part must be no more than 63 characters"]);
    }

    #[test]
    fn label_values_may_be_empty() {
        assert!(label_value("").is_empty() && label_value("My_value.1").is_empty());
        assert_eq!(label_value("-"), [LABEL_VALUE]);
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 characters"]);
    }
}
