use super::*;

fn path(name: &str) -> String {
    format!("{MAPS}/{name}")
}

#[tokio::test]
async fn a_conditional_update_loses_against_a_newer_state() {
    let kit = Kit::new().await;
    let old = kit.create(MAPS, "a").await;
    let mut first = old.clone();
    first["data"] = json!({"k": "1"});
    let updated = kit.ok(Verb::Update, &path("a"), first).await;
    assert_eq!(updated["metadata"]["resourceVersion"], kit.revision().await.to_string());

    let mut second = old;
    second["data"] = json!({"k": "2"});
    let error = kit.err(Verb::Update, &path("a"), second.clone()).await;
    let text = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
        changes to the latest version and try again";
    assert_eq!(told(&error), (409, "Conflict", text));
    assert_eq!(Value::from(error.details.unwrap()), json!({"name": "a", "kind": "configmaps"}));

    second["metadata"]["resourceVersion"] = "".into();
    assert_eq!(kit.ok(Verb::Update, &path("a"), second).await["data"]["k"], "2", "the last write wins");
}

#[tokio::test]
async fn somebody_faster_makes_a_conditional_update_fail_and_another_one_succeed() {
    let kit = Kit::new().await;
    let old = kit.create(MAPS, "a").await;
    let key = Key::object("", "configmaps", "default", "a");
    let mut new = old.clone();
    new["data"] = json!({"k": "mine"});
    kit.store.interfere(vec![touch(key.clone(), &old)]);
    let error = kit.err(Verb::Update, &path("a"), new.clone()).await;
    assert_eq!((error.code.as_u16(), error.reason), (409, "Conflict"));

    new["metadata"]["resourceVersion"] = Value::Null;
    kit.store.interfere(vec![touch(key.clone(), &old); 3]);
    assert_eq!(kit.ok(Verb::Update, &path("a"), new.clone()).await["data"]["k"], "mine");
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_version() {
    let kit = Kit::new().await;
    let old = kit.create(MAPS, "a").await;
    let before = kit.revision().await;
    assert_eq!(kit.ok(Verb::Update, &path("a"), old.clone()).await, old);
    assert_eq!(kit.ok(Verb::Update, &path("a"), json!({"metadata": {"name": "a"}})).await, old);
    assert_eq!(kit.ok(Verb::Patch, &path("a"), json!({"metadata": {"labels": {}}})).await, old);
    assert_eq!(kit.revision().await, before);
}

#[tokio::test]
async fn a_write_is_about_the_object_of_the_path() {
    let kit = Kit::new().await;
    kit.create(MAPS, "a1").await;
    let cases = [
        (
            json!({"metadata": {"name": "zzz"}}),
            "the name of the object (zzz) does not match the name on the URL (a1)",
        ),
        (
            json!({"metadata": {}}),
            "the name of the object (a1 based on URL) was undeterminable: name must be provided",
        ),
        (
            json!({"metadata": {"name": "a1", "namespace": "x"}}),
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ];
    for (body, text) in cases {
        let error = kit.err(Verb::Update, &path("a1"), body).await;
        assert_eq!(told(&error), (400, "BadRequest", text));
    }
    let error = kit
        .err(Verb::Update, &path("a1"), json!({"metadata": {"name": "a1", "resourceVersion": "abc"}}))
        .await;
    assert_eq!(told(&error), (500, "", "strconv.ParseUint: parsing \"abc\": invalid syntax"));
    let error = kit.err(Verb::Update, &path("a1"), json!({"metadata": {"name": "a1", "uid": "abc"}})).await;
    assert_eq!((error.code.as_u16(), error.reason), (409, "Conflict"));
    assert!(error.message.contains("Precondition failed: UID in precondition: abc, UID in object meta: "));
    let error = kit.err(Verb::Patch, &path("a1"), json!({"metadata": {"uid": "abc"}})).await;
    assert_eq!(
        told(&error),
        (
            422,
            "Invalid",
            "ConfigMap \"a1\" is invalid: metadata.uid: Invalid value: \"abc\": field is immutable"
        )
    );
    let error = kit.err(Verb::Patch, &path("a1"), json!({"metadata": {"name": "b"}})).await;
    assert_eq!(error.message, "the name of the object (b) does not match the name on the URL (a1)");
}

#[tokio::test]
async fn verbs_go_with_objects_or_with_collections() {
    let kit = Kit::new().await;
    kit.create(MAPS, "a").await;
    let name = path("a");
    let wrong =
        [(Verb::Create, name.as_str()), (Verb::Update, MAPS), (Verb::Patch, MAPS), (Verb::List, &name)];
    for (verb, path) in wrong {
        let error = kit.err(verb, path, json!({"metadata": {"name": "a"}})).await;
        let text = "the server does not allow this method on the requested resource";
        assert_eq!(told(&error), (405, "MethodNotAllowed", text), "{verb:?} {path}");
    }
    let mut request = kit.request(Verb::Get, "/api/v1/namespaces/default", &Value::Null);
    request.namespace = "default".to_owned();
    assert!(kit.handlers.handle(request).await.is_ok());
    let mut request = kit.request(Verb::List, "/api/v1/namespaces", &Value::Null);
    request.namespace = "default".to_owned();
    assert_eq!(kit.handlers.handle(request).await.unwrap_err().code.as_u16(), 404);
}

#[tokio::test]
async fn what_the_system_set_stays() {
    let kit = Kit::new().await;
    let old = kit.create(MAPS, "a").await;
    let mut new = old.clone();
    new["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    new["metadata"]["generation"] = 9.into();
    assert_eq!(kit.ok(Verb::Update, &path("a"), new).await, old);
}

#[tokio::test]
async fn put_creates_where_it_may() {
    let kit = Kit::new().await;
    let error = kit.err(Verb::Update, &path("new"), json!({"metadata": {"name": "new"}})).await;
    assert_eq!(told(&error), (404, "NotFound", "configmaps \"new\" not found"));
    let (code, created) = kit.call(Verb::Update, &format!("{SERVICES}/web"), &service("web")).await.unwrap();
    assert_eq!((code, &created["spec"]["type"]), (201, &json!("ClusterIP")));
    let (code, _) = kit.call(Verb::Update, &format!("{SERVICES}/web"), &service("web")).await.unwrap();
    assert_eq!(code, 200);
    let mut other = service("other");
    other["metadata"]["uid"] = "abc".into();
    let error = kit.err(Verb::Update, &format!("{SERVICES}/other"), other).await;
    assert_eq!(error.code.as_u16(), 409);
}

#[tokio::test]
async fn leases_are_updated_from_a_state() {
    let kit = Kit::new().await;
    let lease = kit.create(LEASES, "l1").await;
    let error = kit.err(Verb::Update, &format!("{LEASES}/l1"), json!({"metadata": {"name": "l1"}})).await;
    let text = "Lease.coordination.k8s.io \"l1\" is invalid: metadata.resourceVersion: Invalid value: 0: must be \
        specified for an update";
    assert_eq!(told(&error), (422, "Invalid", text));
    kit.ok(Verb::Update, &format!("{LEASES}/l1"), lease).await;
    let patch = json!({"spec": {"holderIdentity": "me"}});
    assert_eq!(kit.ok(Verb::Patch, &format!("{LEASES}/l1"), patch).await["spec"]["holderIdentity"], "me");
}

#[tokio::test]
async fn status_is_written_by_its_subresource_only() {
    let kit = Kit::new().await;
    kit.ok(Verb::Create, SERVICES, service("web")).await;
    let (main, status) = (format!("{SERVICES}/web"), format!("{SERVICES}/web/status"));
    let change =
        json!({"spec": {"type": "NodePort"}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    let patched = kit.ok(Verb::Patch, &main, change.clone()).await;
    assert_eq!((&patched["spec"]["type"], &patched["status"]), (&json!("NodePort"), &Value::Null));
    let mut change = change;
    change["spec"]["type"] = "ClusterIP".into();
    let patched = kit.ok(Verb::Patch, &status, change).await;
    assert_eq!(patched["spec"]["type"], "NodePort");
    assert_eq!(patched["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
    assert_eq!(kit.get(&status).await, patched);
    assert_eq!(kit.err(Verb::Delete, &status, Value::Null).await.code.as_u16(), 405);
    assert_eq!(kit.err(Verb::Get, &format!("{SERVICES}/web/nope"), Value::Null).await.code.as_u16(), 404);
}

#[tokio::test]
async fn patches_are_retried_unless_they_name_a_version() {
    let kit = Kit::new().await;
    let old = kit.create(MAPS, "a").await;
    let key = Key::object("", "configmaps", "default", "a");
    let patch = json!({"data": {"k": "1"}});
    kit.store.interfere(vec![touch(key.clone(), &old); 5]);
    assert_eq!(kit.ok(Verb::Patch, &path("a"), patch).await["data"]["k"], "1");

    let patch = json!({"data": {"k": "2"}});
    kit.store.interfere(vec![touch(key.clone(), &old); 6]);
    let error = kit.err(Verb::Patch, &path("a"), patch.clone()).await;
    assert_eq!((error.code.as_u16(), error.reason), (409, "Conflict"));

    let mut versioned = patch;
    versioned["metadata"] = json!({"resourceVersion": "1"});
    let error = kit.err(Verb::Patch, &path("a"), versioned).await;
    assert_eq!((error.code.as_u16(), error.reason), (409, "Conflict"));
    let error = kit.err(Verb::Patch, &path("none"), json!({})).await;
    assert_eq!(error.message, "configmaps \"none\" not found");
}

#[tokio::test]
async fn server_side_apply_is_refused_in_words() {
    let kit = Kit::new().await;
    kit.create(MAPS, "a").await;
    let mut request = kit.request(Verb::Patch, &path("a"), &json!({}));
    request.content_type = "application/apply-patch+yaml".to_owned();
    let error = kit.handlers.handle(request).await.unwrap_err();
    assert_eq!((error.code.as_u16(), error.reason), (415, "UnsupportedMediaType"));
    assert!(error.message.contains("server-side apply"), "{}", error.message);
}

#[tokio::test]
async fn warnings_are_handed_on() {
    let kit = Kit::new().await;
    let mut body = service("web");
    body["spec"]["externalIPs"] = json!(["192.0.2.1"]);
    let reply = kit.handlers.handle(kit.request(Verb::Create, SERVICES, &body)).await.unwrap();
    let Reply::Json { warnings, .. } = reply else { panic!("no events here") };
    assert_eq!(warnings, ["spec.externalIPs is unwise"]);
}

#[tokio::test]
async fn a_dry_run_of_an_update_stores_nothing() {
    let kit = Kit::new().await;
    let old = kit.create(MAPS, "a").await;
    let patched = kit.ok(Verb::Patch, &format!("{MAPS}/a?dryRun=All"), json!({"data": {"k": "1"}})).await;
    assert_eq!(patched["data"]["k"], "1");
    assert_eq!(patched["metadata"]["resourceVersion"], old["metadata"]["resourceVersion"]);
    assert_eq!(kit.get(&path("a")).await, old);
}

#[tokio::test]
async fn unknown_fields_are_dropped_told_or_refused() {
    let kit = Kit::new().await;
    let body = |name: &str| json!({"metadata": {"name": name}, "foo": 1});
    for (validation, expected) in [("Ignore", Vec::new()), ("Warn", vec!["unknown field \"foo\""])] {
        let path = format!("{MAPS}?fieldValidation={validation}");
        let request = kit.request(Verb::Create, &path, &body(&validation.to_lowercase()));
        let Reply::Json { warnings, json, .. } = kit.handlers.handle(request).await.unwrap() else {
            panic!("no events here")
        };
        assert_eq!(warnings, expected);
        assert_eq!(serde_json::from_slice::<Value>(&json).unwrap().get("foo"), None);
    }
    let error = kit.err(Verb::Create, &format!("{MAPS}?fieldValidation=Strict"), body("strict")).await;
    let text = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\"";
    assert_eq!(told(&error), (400, "BadRequest", text));
    let strict = format!("{MAPS}/warn?fieldValidation=Strict");
    assert_eq!(kit.err(Verb::Patch, &strict, json!({"foo": 1})).await.code.as_u16(), 422);
    let kind = kit.ok(Verb::Patch, &format!("{MAPS}/warn"), json!({"kind": "Pod", "apiVersion": null})).await;
    assert_eq!((&kind["kind"], &kind["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
}
