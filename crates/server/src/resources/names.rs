//! Rules for names, with the texts that follow `Invalid value: "x": `.

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

/// A DNS subdomain (RFC 1123) of at most 253 characters; nothing if the name is one.
pub fn subdomain(name: &str) -> Vec<String> {
    let mut mistakes = Vec::new();
    if name.len() > 253 {
        mistakes.push("must be no more than 253 characters".to_owned());
    }
    if !is_subdomain(name) {
        mistakes.push(SUBDOMAIN.to_owned());
    }
    mistakes
}

/// A DNS label (RFC 1123): a subdomain without dots, of at most 63 characters.
pub fn label(name: &str) -> Vec<String> {
    let mut mistakes = Vec::new();
    if name.len() > 63 {
        mistakes.push("must be no more than 63 characters".to_owned());
    }
    if !is_label(name) {
        let mistake = if is_subdomain(name) { "must not contain dots" } else { LABEL };
        mistakes.push(mistake.to_owned());
    }
    mistakes
}

/// The name of a port (an IANA service name, RFC 6335).
pub fn port_name(name: &str) -> Vec<String> {
    let is_fine = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let rules = [
        (name.len() <= 15, "must be no more than 15 characters"),
        (
            !name.is_empty() && name.bytes().all(is_fine),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (name.bytes().any(|byte| byte.is_ascii_lowercase()), "must contain at least one letter (a-z)"),
        (!name.contains("--"), "must not contain consecutive hyphens"),
        (!name.starts_with('-') && !name.ends_with('-'), "must not begin or end with a hyphen"),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, mistake)| mistake.to_owned()).collect()
}

fn is_subdomain(name: &str) -> bool {
    name.split('.').all(is_label)
}

fn is_label(name: &str) -> bool {
    let is_fine = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !name.is_empty() && name.bytes().all(is_fine) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_subdomains_without_dots() {
        for good in ["a", "0", "my-name", &"a".repeat(63)] {
            assert_eq!((label(good), subdomain(good)), (vec![], vec![]), "{good}");
        }
        assert_eq!(label("a.b"), ["must not contain dots"]);
        assert_eq!(subdomain("a.b"), Vec::<String>::new());
        for bad in ["", "A", "-a", "a-", "a_b", "ä"] {
            assert_eq!(
                (label(bad), subdomain(bad)),
                (vec![LABEL.to_owned()], vec![SUBDOMAIN.to_owned()]),
                "{bad}"
            );
        }
        assert_eq!(subdomain("a..b"), [SUBDOMAIN]);
        assert_eq!(label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(subdomain(&"a".repeat(254)), ["must be no more than 253 characters"]);
    }

    #[test]
    fn port_names_are_short_words() {
        assert!(port_name("http-2").is_empty());
        let cases: [(&str, &[&str]); 5] = [
            ("a-name-that-is-too-long", &["must be no more than 15 characters"]),
            ("Http", &["must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"]),
            ("80", &["must contain at least one letter (a-z)"]),
            ("a--b", &["must not contain consecutive hyphens"]),
            ("-a", &["must not begin or end with a hyphen"]),
        ];
        for (name, expected) in cases {
            assert_eq!(port_name(name), expected, "{name}");
        }
    }
}
