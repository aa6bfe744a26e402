//! `$(NAME)` in commands, arguments and values.

/// Puts values in the place of `$(NAME)`. `$$` is a `$`; a name that is not known stays as it is written.
pub(in crate::pod) fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
            continue;
        }
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match reference {
            Some((name, after)) => {
                match value(name) {
                    Some(value) => result.push_str(value),
                    None => result.push_str(&format!("$({name})")),
                }
                rest = after;
            }
            None => {
                result.push('$');
                rest = after;
            }
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_as_kubernetes_does() {
        let value = |name: &str| (name == "A").then_some("one");
        for (text, expected) in [
            ("x$(A)y$(A)", "xoneyone"),
            ("$(B) stays", "$(B) stays"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$one"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("", ""),
        ] {
            assert_eq!(expand(text, value), expected, "{text}");
        }
    }
}
