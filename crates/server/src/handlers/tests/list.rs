use super::*;

async fn three(kit: &Kit) {
    for (name, tier) in [("b", "x"), ("a", "x"), ("c", "y")] {
        let labelled = json!({"metadata": {"name": name, "labels": {"tier": tier}}});
        kit.ok(Verb::Create, MAPS, labelled).await;
    }
}

async fn list(kit: &Kit, query: &str) -> Value {
    kit.ok(Verb::List, &format!("{MAPS}{query}"), Value::Null).await
}

async fn refused(kit: &Kit, query: &str) -> ApiError {
    kit.err(Verb::List, &format!("{MAPS}?{query}"), Value::Null).await
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_list_is_sorted_and_its_items_have_no_kind() {
    let kit = Kit::new().await;
    three(&kit).await;
    let all = list(&kit, "").await;
    assert_eq!((&all["kind"], &all["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(all["metadata"], json!({"resourceVersion": kit.revision().await.to_string()}));
    assert_eq!(names(&all), ["a", "b", "c"]);
    let mut whole = kit.get(&format!("{MAPS}/a")).await;
    whole.as_object_mut().unwrap().retain(|field, _| field != "kind" && field != "apiVersion");
    assert_eq!(all["items"][0], whole);
    let none = kit.ok(Verb::List, "/api/v1/namespaces/nowhere/configmaps", Value::Null).await;
    assert_eq!(none["items"], json!([]));
    assert_eq!(names(&kit.ok(Verb::List, "/api/v1/configmaps", Value::Null).await), ["a", "b", "c"]);
}

#[tokio::test]
async fn selectors_select() {
    let kit = Kit::new().await;
    three(&kit).await;
    let cases: [(&str, &[&str]); 8] = [
        ("labelSelector=tier=x", &["a", "b"]),
        ("labelSelector=tier!=x", &["c"]),
        ("labelSelector=tier in (y,z)", &["c"]),
        ("labelSelector=!tier", &[]),
        ("labelSelector=tier,tier notin (y)", &["a", "b"]),
        ("fieldSelector=metadata.name=b", &["b"]),
        ("fieldSelector=metadata.name!=b,metadata.namespace=default", &["a", "c"]),
        ("fieldSelector=metadata.namespace=other", &[]),
    ];
    for (query, expected) in cases {
        assert_eq!(names(&list(&kit, &format!("?{query}")).await), expected, "{query}");
    }
    let error = refused(&kit, "fieldSelector=spec.x=1").await;
    let text = "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    assert_eq!(told(&error), (400, "BadRequest", text));
    let error = kit.err(Verb::List, &format!("{SERVICES}?fieldSelector=foo=1"), Value::Null).await;
    assert_eq!(error.message, "field label not supported: foo");
}

#[tokio::test]
async fn pages_are_of_one_revision() {
    let kit = Kit::new().await;
    three(&kit).await;
    let first = list(&kit, "?limit=2").await;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let token = first["metadata"]["continue"].as_str().unwrap();
    kit.create(MAPS, "d").await;
    kit.ok(Verb::Delete, &format!("{MAPS}/c"), Value::Null).await;
    let second = list(&kit, &format!("?limit=2&continue={token}")).await;
    assert_eq!(names(&second), ["c"], "what has changed since is not seen");
    assert_eq!(second["metadata"], json!({"resourceVersion": first["metadata"]["resourceVersion"]}));

    let selected = list(&kit, "?limit=1&labelSelector=tier=x").await;
    assert!(
        selected["metadata"]["continue"].is_string() && selected["metadata"]["remainingItemCount"].is_null()
    );
    assert_eq!(list(&kit, "?limit=2&labelSelector=tier=x").await["metadata"].get("continue"), None);
    assert_eq!(names(&list(&kit, "?limit=-1").await), ["a", "b", "d"]);
}

#[tokio::test]
async fn a_page_that_comes_too_late_can_go_on_at_the_latest_state() {
    let kit = Kit::new().await;
    three(&kit).await;
    let token = list(&kit, "?limit=1").await["metadata"]["continue"].as_str().unwrap().to_owned();
    for i in 0..HISTORY + 1 {
        kit.create(SERVICES_OTHER, &format!("x{i}")).await;
    }
    let error = refused(&kit, &format!("limit=1&continue={token}")).await;
    assert_eq!((error.code.as_u16(), error.reason), (410, "Expired"));
    assert!(
        error
            .message
            .starts_with("The provided continue parameter is too old to display a consistent list result.")
    );
    let body = error.to_json();
    let token = body["metadata"]["continue"].as_str().unwrap();
    let rest = list(&kit, &format!("?continue={token}")).await;
    assert_eq!(names(&rest), ["b", "c"]);
    assert_eq!(rest["metadata"]["resourceVersion"], kit.revision().await.to_string());
}

const SERVICES_OTHER: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

#[tokio::test(start_paused = true)]
async fn versions_say_which_state_is_meant() {
    let kit = Kit::new().await;
    three(&kit).await;
    let now = kit.revision().await;
    kit.ok(Verb::Delete, &format!("{MAPS}/a"), Value::Null).await;
    assert_eq!(
        names(&list(&kit, &format!("?resourceVersion={now}&resourceVersionMatch=Exact")).await),
        ["a", "b", "c"]
    );
    assert_eq!(names(&list(&kit, &format!("?resourceVersion={now}&limit=5")).await), ["a", "b", "c"]);
    assert_eq!(names(&list(&kit, &format!("?resourceVersion={now}")).await), ["b", "c"]);
    assert_eq!(
        names(
            &list(&kit, &format!("?resourceVersion={now}&resourceVersionMatch=NotOlderThan&limit=5")).await
        ),
        ["b", "c"]
    );
    assert_eq!(names(&list(&kit, "?resourceVersion=0&limit=1").await), ["b", "c"], "the limit is ignored");

    let error = refused(&kit, "resourceVersion=99999999").await;
    let text = format!("Timeout: Too large resource version: 99999999, current: {}", kit.revision().await);
    assert_eq!(told(&error), (504, "Timeout", text.as_str()));
    let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
    assert_eq!(Value::from(error.details.unwrap()), json!({"causes": causes, "retryAfterSeconds": 1}));
    let error = kit.err(Verb::Get, &format!("{MAPS}/b?resourceVersion=99999999"), Value::Null).await;
    assert_eq!(error.code.as_u16(), 504);

    for i in 0..HISTORY + 1 {
        kit.create(SERVICES_OTHER, &format!("x{i}")).await;
    }
    let error = refused(&kit, &format!("resourceVersion={now}&resourceVersionMatch=Exact")).await;
    assert_eq!(told(&error), (410, "Expired", "The resourceVersion for the provided list is too old."));
}

#[tokio::test]
async fn parameters_of_lists_are_checked() {
    let kit = Kit::new().await;
    three(&kit).await;
    let token = list(&kit, "?limit=1").await["metadata"]["continue"].as_str().unwrap().to_owned();
    let forbidden = [
        (
            "resourceVersionMatch=Exact".to_owned(),
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersion=0&resourceVersionMatch=Exact".to_owned(),
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        (
            "resourceVersion=1&resourceVersionMatch=Foo".to_owned(),
            "resourceVersionMatch: Unsupported value: \"Foo\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
        (
            format!("resourceVersion=1&resourceVersionMatch=Exact&continue={token}"),
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
        ),
        (
            "sendInitialEvents=true".to_owned(),
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
    ];
    for (query, text) in forbidden {
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {text}");
        assert_eq!(told(&refused(&kit, &query).await), (422, "Invalid", message.as_str()));
    }
    let bad = [
        (
            "resourceVersion=abc".to_owned(),
            "invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": \
             invalid syntax",
        ),
        (
            format!("resourceVersion=1&continue={token}"),
            "specifying resource version is not allowed when using continue",
        ),
        ("limit=x".to_owned(), "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("fieldSelector=foo".to_owned(), "invalid selector: 'foo'; can't understand 'foo'"),
    ];
    for (query, text) in bad {
        assert_eq!(told(&refused(&kit, &query).await), (400, "BadRequest", text));
    }
}

#[tokio::test]
async fn tables_have_columns_and_rows() {
    let kit = Kit::new().await;
    kit.ok(Verb::Create, SERVICES, service("web")).await;
    let table = async |path: &str, verb, include| {
        let mut request = kit.request(verb, path, &Value::Null);
        request.form = Form::Table { version: "v1", include };
        taken_apart(kit.handlers.handle(request).await.unwrap()).1
    };
    let all = table(SERVICES, Verb::List, Include::Metadata).await;
    assert_eq!((&all["kind"], &all["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(
        all["columnDefinitions"][0],
        json!({"name": "Name", "type": "string", "format": "name", "description": "The name of the object.", "priority": 0})
    );
    let cells = all["rows"][0]["cells"].as_array().unwrap();
    assert_eq!((&cells[0], &cells[1]), (&json!("web"), &json!("ClusterIP")));
    let object = &all["rows"][0]["object"];
    assert_eq!(
        (&object["kind"], &object["apiVersion"]),
        (&json!("PartialObjectMetadata"), &json!("meta.k8s.io/v1"))
    );
    assert_eq!((&object["metadata"]["name"], object.get("spec")), (&json!("web"), None));
    let one = table(&format!("{SERVICES}/web"), Verb::Get, Include::Object).await;
    assert_eq!(
        (&one["rows"][0]["object"]["kind"], one["rows"].as_array().map(Vec::len)),
        (&json!("Service"), Some(1))
    );
    assert_eq!(table(SERVICES, Verb::List, Include::Nothing).await["rows"][0]["object"], Value::Null);
    assert_eq!(table(MAPS, Verb::List, Include::Metadata).await["rows"], json!([]));
    assert_eq!(
        Include::parse("Foo").unwrap_err().message,
        "Unable to convert to Table as requested: includeObject: Invalid value: \"Foo\": must be 'Metadata', 'Object', 'None', or empty"
    );
}

#[tokio::test]
async fn metadata_alone_can_be_had() {
    let kit = Kit::new().await;
    three(&kit).await;
    let mut request = kit.request(Verb::List, MAPS, &Value::Null);
    request.form = Form::Metadata { version: "v1" };
    let all = taken_apart(kit.handlers.handle(request).await.unwrap()).1;
    assert_eq!(all["kind"], "PartialObjectMetadataList");
    let item = all["items"][0].as_object().unwrap();
    assert_eq!((&item["kind"], item.len()), (&json!("PartialObjectMetadata"), 3));
}
