use super::*;

fn labels(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn selects(selector: &str, pairs: &[(&str, &str)]) -> bool {
    labels::parse(selector).unwrap().iter().all(|requirement| requirement.matches(&labels(pairs)))
}

#[test]
fn labels_are_selected_as_upstream_does() {
    let object = &[("app", "web"), ("tier", "2"), ("example.com/a", "")];
    let cases = [
        ("", true),
        ("app=web", true),
        ("app==web", true),
        (" app = web , tier = 2 ", true),
        ("app!=web", false),
        ("other!=web", true),
        ("app in (db, web)", true),
        ("app notin (db,web)", false),
        ("other notin (db)", true),
        ("app", true),
        ("!app", false),
        ("! other", true),
        ("other", false),
        ("tier>1", true),
        ("tier<2", false),
        ("app>1", false),
        ("other<1", false),
        ("example.com/a=", true),
        ("example.com/a in ()", true),
        ("app=,tier=2", false),
        ("in=x", false),
    ];
    for (selector, expected) in cases {
        assert_eq!(selects(selector, object), expected, "{selector}");
    }
}

#[test]
fn what_is_no_label_selector_says_why() {
    let cases = [
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in x", "unable to parse requirement: found 'x' expected: '('"),
        ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a,", "found '', expected: identifier after ','"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ];
    for (selector, text) in cases {
        assert_eq!(labels::parse(selector), Err(text.to_owned()), "{selector}");
    }
    let error = labels::parse("a/b/c=d").unwrap_err();
    assert!(
        error.starts_with("unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key")
    );
}

#[test]
fn fields_are_selected_with_escapes() {
    let key = Key::object("", "services", "default", "web");
    let fields = [("spec.clusterIP", "None".into()), ("reason", "a,b=c\\".into())];
    let cases = [
        ("", true),
        ("metadata.name=web", true),
        ("metadata.name==web,metadata.namespace=default", true),
        ("metadata.name!=web", false),
        ("spec.clusterIP!=None", false),
        ("spec.clusterIP=", false),
        ("involvedObject.namespace=", true),
        (r"reason=a\,b\=c\\", true),
        (",metadata.name=web,", true),
    ];
    for (selector, expected) in cases {
        let terms = fields::parse(selector).unwrap();
        assert_eq!(terms.iter().all(|term| term.matches(&key, &fields)), expected, "{selector}");
    }
    let node = Key::object("", "nodes", "", "n1");
    assert!(
        fields::parse("metadata.name=n1,metadata.namespace=")
            .unwrap()
            .iter()
            .all(|term| term.matches(&node, &[]))
    );
}

#[test]
fn what_is_no_field_selector_says_why() {
    assert_eq!(fields::parse("foo"), Err("invalid selector: 'foo'; can't understand 'foo'".to_owned()));
    assert_eq!(fields::parse("a=1,b"), Err("invalid selector: 'a=1,b'; can't understand 'b'".to_owned()));
    for bad in [r"a=\x", r"a=b\", "a=b=c"] {
        assert!(fields::parse(bad).unwrap_err().starts_with("invalid field selector: "), "{bad}");
    }
}

#[test]
fn a_watch_of_one_object_is_recognised() {
    let name = |selector: &str| {
        Selectors { labels: Vec::new(), fields: fields::parse(selector).unwrap() }
            .only_name()
            .map(str::to_owned)
    };
    assert_eq!(name("spec.type=x,metadata.name=web"), Some("web".to_owned()));
    assert_eq!(name("metadata.name!=web"), None);
}

proptest::proptest! {
    #[test]
    fn nothing_from_outside_panics(text in ".*") {
        let _ = (labels::parse(&text), fields::parse(&text));
    }
}
