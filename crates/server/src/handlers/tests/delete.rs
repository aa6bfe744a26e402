use super::*;

fn path(name: &str) -> String {
    format!("{MAPS}/{name}")
}

async fn delete(kit: &Kit, path: &str) -> Value {
    kit.ok(Verb::Delete, path, Value::Null).await
}

#[tokio::test]
async fn a_deletion_says_what_is_gone() {
    let kit = Kit::new().await;
    let old = kit.create(MAPS, "z1").await;
    let (code, status) = kit.call(Verb::Delete, &path("z1"), &Value::Null).await.unwrap();
    assert_eq!(code, 200);
    let details = json!({"name": "z1", "kind": "configmaps", "uid": old["metadata"]["uid"]});
    let expected = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    assert_eq!(status, expected);
    let error = kit.err(Verb::Delete, &path("z1"), Value::Null).await;
    assert_eq!(told(&error), (404, "NotFound", "configmaps \"z1\" not found"));

    let lease = kit.create(LEASES, "l").await;
    let status = delete(&kit, &format!("{LEASES}/l")).await;
    let details = json!({"name": "l", "group": "coordination.k8s.io", "kind": "leases", "uid": lease["metadata"]["uid"]});
    assert_eq!(status["details"], details);
}

#[tokio::test]
async fn a_service_goes_with_what_it_held_and_is_returned() {
    let kit = Kit::new().await;
    let old = kit.ok(Verb::Create, SERVICES, service("web")).await;
    assert_eq!(delete(&kit, &format!("{SERVICES}/web")).await, old);
    let again = kit.ok(Verb::Create, SERVICES, service("next")).await;
    assert_eq!(again["spec"]["clusterIP"], old["spec"]["clusterIP"], "its address is free again");
}

#[tokio::test]
async fn preconditions_are_checked() {
    let kit = Kit::new().await;
    let old = kit.create(MAPS, "z1").await;
    let uid = old["metadata"]["uid"].as_str().unwrap();
    let version = old["metadata"]["resourceVersion"].as_str().unwrap();
    let error = kit.err(Verb::Delete, &path("z1"), json!({"preconditions": {"uid": "x"}})).await;
    let text = format!(
        "Operation cannot be fulfilled on ConfigMap \"z1\": the UID in the precondition (x) does not match the UID in \
         record ({uid}). The object might have been deleted and then recreated"
    );
    assert_eq!(told(&error), (409, "Conflict", text.as_str()));
    let error = kit.err(Verb::Delete, &path("z1"), json!({"preconditions": {"resourceVersion": "1"}})).await;
    let text = format!(
        "Operation cannot be fulfilled on ConfigMap \"z1\": the ResourceVersion in the precondition (1) does not match \
         the ResourceVersion in record ({version}). The object might have been modified"
    );
    assert_eq!(told(&error), (409, "Conflict", text.as_str()));
    kit.ok(Verb::Delete, &path("z1"), json!({"preconditions": {"uid": uid, "resourceVersion": version}}))
        .await;
}

#[tokio::test]
async fn finalizers_keep_an_object_until_the_last_is_gone() {
    let kit = Kit::new().await;
    let held = json!({"metadata": {"name": "a", "finalizers": ["example.com/hold"]}});
    kit.ok(Verb::Create, MAPS, held).await;
    let marked = delete(&kit, &path("a")).await;
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(delete(&kit, &path("a")).await, marked, "a second deletion changes nothing");

    let more = json!({"metadata": {"finalizers": ["example.com/hold", "a.b/d"]}});
    let error = kit.err(Verb::Patch, &path("a"), more).await;
    let text = "ConfigMap \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the \
        object is being deleted, found new finalizers []string{\"a.b/d\"}";
    assert_eq!(error.message, text);
    let error = kit
        .err(Verb::Patch, &path("a"), json!({"metadata": {"deletionTimestamp": "2001-01-01T00:00:00Z"}}))
        .await;
    let text = "ConfigMap \"a\" is invalid: metadata.deletionTimestamp: Invalid value: \"2001-01-01T00:00:00Z\": \
        field is immutable";
    assert_eq!(error.message, text);

    let (code, last) =
        kit.call(Verb::Patch, &path("a"), &json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert_eq!((code, &last["metadata"]["name"]), (200, &json!("a")));
    assert_eq!(kit.err(Verb::Get, &path("a"), Value::Null).await.code.as_u16(), 404);
}

#[tokio::test]
async fn propagation_is_told_by_finalizers() {
    let kit = Kit::new().await;
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        kit.create(MAPS, "a").await;
        let marked = kit.ok(Verb::Delete, &path("a"), json!({"propagationPolicy": policy})).await;
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        let status = kit.ok(Verb::Delete, &path("a"), json!({"propagationPolicy": "Background"})).await;
        assert_eq!(status["status"], "Success", "the garbage collector need not care any longer");
    }
    kit.create(MAPS, "a").await;
    let error = kit.err(Verb::Delete, &path("a"), json!({"propagationPolicy": "Foo"})).await;
    let text = "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Foo\": supported \
        values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"";
    assert_eq!(told(&error), (422, "Invalid", text));
    let both = json!({"propagationPolicy": "Orphan", "orphanDependents": true});
    let error = kit.err(Verb::Delete, &path("a"), both).await;
    assert!(error.message.contains("orphanDependents and deletionPropagation cannot be both set"));
    let marked = kit.ok(Verb::Delete, &format!("{MAPS}/a?propagationPolicy=Orphan"), Value::Null).await;
    assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]), "parameters count without a body");
}

#[tokio::test]
async fn pods_end_gracefully_and_sooner_but_not_later() {
    let kit = Kit::new().await;
    kit.create(PODS, "p").await;
    let pod = format!("{PODS}/p");
    let ending = |object: &Value| {
        let metadata = &object["metadata"];
        (metadata["deletionGracePeriodSeconds"].as_i64(), metadata["generation"].as_i64())
    };
    assert_eq!(ending(&delete(&kit, &pod).await), (Some(30), Some(2)));
    assert_eq!(
        ending(&kit.ok(Verb::Delete, &pod, json!({"gracePeriodSeconds": 60})).await),
        (Some(30), Some(2))
    );
    assert_eq!(
        ending(&kit.ok(Verb::Delete, &pod, json!({"gracePeriodSeconds": 5})).await),
        (Some(5), Some(3))
    );
    let patched = kit.ok(Verb::Patch, &pod, json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(ending(&patched).0, Some(5), "it stays until its node says that it has ended");
    assert_eq!(delete(&kit, &format!("{pod}?gracePeriodSeconds=0")).await["kind"], "Pod");
    assert_eq!(kit.err(Verb::Get, &pod, Value::Null).await.code.as_u16(), 404);
}

#[tokio::test]
async fn namespaces_go_when_they_are_finalized() {
    let kit = Kit::new().await;
    let held = json!({"metadata": {"name": "t1"}, "spec": {"finalizers": ["kubernetes"]}});
    kit.ok(Verb::Create, "/api/v1/namespaces", held).await;
    let marked = delete(&kit, "/api/v1/namespaces/t1").await;
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert_eq!(delete(&kit, "/api/v1/namespaces/t1").await, marked);
    kit.ok(Verb::Update, "/api/v1/namespaces/t1/finalize", json!({"metadata": {"name": "t1"}, "spec": {}}))
        .await;
    assert_eq!(kit.err(Verb::Get, "/api/v1/namespaces/t1", Value::Null).await.code.as_u16(), 404);

    kit.create("/api/v1/namespaces", "kube-system").await;
    let error = kit.err(Verb::Delete, "/api/v1/namespaces/kube-system", Value::Null).await;
    assert_eq!(error.message, "namespaces \"kube-system\" is forbidden: this namespace may not be deleted");
    assert_eq!(kit.err(Verb::DeleteCollection, "/api/v1/namespaces", Value::Null).await.code.as_u16(), 405);
}

#[tokio::test]
async fn a_dry_run_deletes_nothing() {
    let kit = Kit::new().await;
    let old = kit.create(MAPS, "a").await;
    let status = kit.ok(Verb::Delete, &path("a"), json!({"dryRun": ["All"]})).await;
    assert_eq!(status["status"], "Success");
    assert_eq!(kit.get(&path("a")).await, old);
}

#[tokio::test]
async fn collections_are_deleted_as_far_as_they_are_selected() {
    let kit = Kit::new().await;
    for (name, tier) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let labelled = json!({"metadata": {"name": name, "labels": {"tier": tier}}});
        kit.ok(Verb::Create, MAPS, labelled).await;
    }
    let deleted = kit.ok(Verb::DeleteCollection, &format!("{MAPS}?labelSelector=tier=x"), Value::Null).await;
    assert_eq!(deleted["kind"], "ConfigMapList");
    let names: Vec<&Value> =
        deleted["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    let left = kit.ok(Verb::List, MAPS, Value::Null).await;
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(kit.err(Verb::DeleteCollection, "/api/v1/configmaps", Value::Null).await.code.as_u16(), 405);
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn events_go_an_hour_after_their_last_change() {
    let kit = Kit::new().await;
    let events = "/api/v1/namespaces/default/events";
    let cache = kit.handlers.cache.clone();
    let old = kit.create(events, "before").await;
    let expiry = tokio::spawn(expiry::run(Arc::new(resources::registry()), cache.clone(), HOUR));
    tokio::time::sleep(std::time::Duration::from_secs(1800)).await;
    kit.ok(Verb::Patch, &format!("{events}/before"), json!({"count": 2})).await;
    kit.create(events, "kept").await;
    tokio::time::sleep(std::time::Duration::from_secs(2000)).await;
    let left = kit.ok(Verb::List, events, Value::Null).await;
    assert_eq!(left["items"].as_array().map(Vec::len), Some(2), "both were written half an hour ago");
    tokio::time::sleep(std::time::Duration::from_secs(1700)).await;
    assert_eq!(kit.ok(Verb::List, events, Value::Null).await["items"], json!([]), "{old}");
    expiry.abort();
}
