use super::*;

#[tokio::test]
async fn the_system_fills_in_metadata() {
    let kit = Kit::new().await;
    let body = json!({
        "metadata": {
            "name": "a", "uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7,
            "deletionTimestamp": "2001-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5, "selfLink": "/x",
            "managedFields": [{"manager": "me"}], "labels": {}, "finalizers": [],
        },
        "data": {"key": "value"},
    });
    let (code, created) = kit.call(Verb::Create, MAPS, &body).await.unwrap();
    assert_eq!(code, 201);
    let metadata = created["metadata"].as_object().unwrap();
    let fields: Vec<&str> = metadata.keys().map(String::as_str).collect();
    assert_eq!(fields, ["creationTimestamp", "name", "namespace", "resourceVersion", "uid"]);
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["resourceVersion"], kit.revision().await.to_string());
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(metadata["creationTimestamp"].as_str().unwrap() > "2020");
    assert_eq!(kit.get(&format!("{MAPS}/a")).await, created);
}

#[tokio::test]
async fn names_are_unique_and_say_whether_the_old_one_is_going() {
    let kit = Kit::new().await;
    kit.create(MAPS, "a").await;
    let error = kit.err(Verb::Create, MAPS, json!({"metadata": {"name": "a"}})).await;
    assert_eq!(told(&error), (409, "AlreadyExists", "configmaps \"a\" already exists"));

    let held = json!({"metadata": {"name": "b", "finalizers": ["example.com/hold"]}});
    kit.ok(Verb::Create, MAPS, held.clone()).await;
    kit.ok(Verb::Delete, &format!("{MAPS}/b"), Value::Null).await;
    let error = kit.err(Verb::Create, MAPS, held).await;
    assert_eq!(error.message, "object is being deleted: configmaps \"b\" already exists");
}

#[tokio::test]
async fn names_are_generated() {
    let kit = Kit::new().await;
    let body = json!({"metadata": {"generateName": "web-"}});
    let created = kit.ok(Verb::Create, MAPS, body).await;
    let name = created["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    assert_eq!(created["metadata"]["generateName"], "web-");

    let long = json!({"metadata": {"generateName": "x".repeat(80)}});
    let created = kit.ok(Verb::Create, MAPS, long).await;
    assert_eq!(created["metadata"]["name"].as_str().unwrap().len(), 63);

    let error = kit.err(Verb::Create, MAPS, json!({"metadata": {}})).await;
    assert_eq!(
        error.message,
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
}

#[tokio::test]
async fn a_bad_prefix_is_reported_with_the_name_made_of_it() {
    let kit = Kit::new().await;
    let body = json!({"metadata": {"generateName": "a.b"}, "spec": {"ports": [{"port": 80}]}});
    let error = kit.err(Verb::Create, SERVICES, body).await;
    let causes = error.details.unwrap();
    let fields: Vec<&Value> =
        causes["causes"].as_array().unwrap().iter().map(|cause| &cause["field"]).collect();
    assert_eq!(fields, ["metadata.generateName", "metadata.name"]);
}

#[tokio::test]
async fn what_a_create_may_not_say() {
    let kit = Kit::new().await;
    let versioned = json!({"metadata": {"name": "a", "resourceVersion": "5"}});
    let error = kit.err(Verb::Create, MAPS, versioned).await;
    assert_eq!(told(&error), (500, "", "resourceVersion should not be set on objects to be created"));

    let elsewhere = json!({"metadata": {"name": "a", "namespace": "other"}});
    let error = kit.err(Verb::Create, MAPS, elsewhere).await;
    let text = "the namespace of the provided object does not match the namespace sent on the request";
    assert_eq!(told(&error), (400, "BadRequest", text));

    let error = kit.err(Verb::Create, "/api/v1/configmaps", json!({"metadata": {"name": "a"}})).await;
    assert_eq!(error.code.as_u16(), 405);

    let error = kit.err(Verb::Create, SERVICES, json!({"metadata": {"name": "x"}})).await;
    assert_eq!(told(&error), (422, "Invalid", "Service \"x\" is invalid: spec.ports: Required value"));
    assert_eq!(error.details.unwrap()["kind"], "Service");
}

#[tokio::test]
async fn the_namespace_has_to_be_there_and_to_stay() {
    let kit = Kit::new().await;
    let nowhere = "/api/v1/namespaces/nope/configmaps";
    let error = kit.err(Verb::Create, nowhere, json!({"metadata": {"name": "a"}})).await;
    assert_eq!(told(&error), (404, "NotFound", "namespaces \"nope\" not found"));

    let held = json!({"metadata": {"name": "t1"}, "spec": {"finalizers": ["kubernetes"]}});
    kit.ok(Verb::Create, "/api/v1/namespaces", held).await;
    kit.ok(Verb::Delete, "/api/v1/namespaces/t1", Value::Null).await;
    let error =
        kit.err(Verb::Create, "/api/v1/namespaces/t1/configmaps", json!({"metadata": {"name": "b"}})).await;
    let text = "configmaps \"b\" is forbidden: unable to create new content in namespace t1 because it is being terminated";
    assert_eq!(told(&error), (403, "Forbidden", text));
    assert_eq!(
        error.details.unwrap()["causes"],
        json!([{"reason": "NamespaceTerminating", "message": "namespace t1 is being terminated",
            "field": "metadata.namespace"}])
    );
}

#[tokio::test]
async fn a_namespace_that_begins_to_go_meanwhile_takes_nothing_new() {
    let kit = Kit::new().await;
    let mut namespace = kit.get("/api/v1/namespaces/default").await;
    namespace["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    kit.store.interfere(vec![touch(Key::object("", "namespaces", "", "default"), &namespace)]);
    let error = kit.err(Verb::Create, MAPS, json!({"metadata": {"name": "a"}})).await;
    assert_eq!((error.code.as_u16(), error.reason), (403, "Forbidden"));
}

#[tokio::test]
async fn an_address_that_is_taken_meanwhile_is_chosen_anew() {
    let kit = Kit::new().await;
    let taken = ["10.0.0.1", "10.0.0.2"].map(|address| touch(resources::address_key(address), &json!({})));
    kit.store.interfere(taken.to_vec());
    let created = kit.ok(Verb::Create, SERVICES, service("web")).await;
    assert_eq!(created["spec"]["clusterIP"], "10.0.0.3");
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let kit = Kit::new().await;
    let before = kit.revision().await;
    let (code, created) = kit
        .call(Verb::Create, &format!("{MAPS}?dryRun=All"), &json!({"metadata": {"name": "a"}}))
        .await
        .unwrap();
    assert_eq!(code, 201);
    assert!(created["metadata"]["uid"].is_string() && created["metadata"]["resourceVersion"].is_null());
    assert_eq!(kit.revision().await, before);
    assert_eq!(
        kit.err(Verb::Get, &format!("{MAPS}/a"), Value::Null).await.message,
        "configmaps \"a\" not found"
    );
}

#[tokio::test]
async fn options_are_checked() {
    let kit = Kit::new().await;
    let cases = [
        ("dryRun=Foo", "dryRun: Unsupported value: [\"Foo\"]: supported values: \"All\""),
        (
            "fieldValidation=Foo",
            "fieldValidation: Unsupported value: \"Foo\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
        ),
        (
            "fieldManager=\u{1}",
            "fieldManager: Invalid value: \"\\x01\": invalid character U+0001 (at position 0)",
        ),
    ];
    for (query, text) in cases {
        let error =
            kit.err(Verb::Create, &format!("{MAPS}?{query}"), json!({"metadata": {"name": "a"}})).await;
        let message = format!("CreateOptions.meta.k8s.io \"\" is invalid: {text}");
        assert_eq!(told(&error), (422, "Invalid", message.as_str()));
    }
    let long = format!("{MAPS}?fieldManager={}", "m".repeat(129));
    let error = kit.err(Verb::Create, &long, json!({"metadata": {"name": "a"}})).await;
    assert!(
        error.message.ends_with("fieldManager: Too long: may not be more than 128 bytes"),
        "{}",
        error.message
    );
    let error = kit.err(Verb::Patch, &format!("{MAPS}/a?force=true"), json!({})).await;
    let text = "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch";
    assert_eq!(error.message, text);
}

#[tokio::test]
async fn events_are_one_store_with_two_views() {
    let kit = Kit::new().await;
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let core = "/api/v1/namespaces/default/events";
    let body = json!({"metadata": {"name": "e"}, "note": "hello", "regarding": {"kind": "Pod", "namespace": "default"}});
    let created = kit.ok(Verb::Create, new, body).await;
    assert_eq!((&created["apiVersion"], &created["note"]), (&json!("events.k8s.io/v1"), &json!("hello")));
    let seen = kit.get(&format!("{core}/e")).await;
    assert_eq!((&seen["apiVersion"], &seen["message"]), (&json!("v1"), &json!("hello")));
    assert_eq!(kit.get(&format!("{new}/e")).await, created);
    for (path, field) in [(new, "regarding.kind"), (core, "involvedObject.kind")] {
        let list = kit
            .ok(Verb::List, &format!("{path}?fieldSelector={field}%3DPod").replace("%3D", "="), Value::Null)
            .await;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{path}");
        assert!(list["items"][0].get("kind").is_none());
    }
}
