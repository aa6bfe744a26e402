use std::collections::BTreeMap;

use futures_util::StreamExt;
use proptest::prelude::*;
use tokio::time::{Duration, Instant};

use super::*;

/// A watch as a client reads it.
struct Reader(Pin<Box<dyn Stream<Item = Bytes> + Send>>, Vec<Value>);

impl Reader {
    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        while self.1.is_empty() {
            let chunk = self.0.next().await?;
            assert!(chunk.ends_with(b"\n"));
            let lines = chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            self.1 = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        }
        Some(self.1.remove(0))
    }

    /// Type and name of the next event.
    async fn told(&mut self) -> (String, String) {
        let event = self.next().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

impl Kit {
    async fn watch(&self, path: &str) -> Reader {
        self.watch_as(path, Form::Whole).await
    }

    async fn watch_as(&self, path: &str, form: Form) -> Reader {
        let mut request = self.request(Verb::Watch, path, &Value::Null);
        request.form = form;
        match self.handlers.handle(request).await.unwrap() {
            Reply::Events(events) => Reader(events, Vec::new()),
            Reply::Json { .. } => panic!("events were expected"),
        }
    }

    async fn label(&self, name: &str, tier: Value) -> Value {
        self.ok(Verb::Patch, &format!("{MAPS}/{name}"), json!({"metadata": {"labels": {"tier": tier}}})).await
    }
}

fn event(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_there_is() {
    let kit = Kit::new().await;
    for query in ["", "?resourceVersion=0"] {
        let created = kit.create(MAPS, "a").await;
        let mut watch = kit.watch(&format!("{MAPS}{query}")).await;
        assert_eq!(watch.next().await, Some(json!({"type": "ADDED", "object": created})));
        kit.label("a", "x".into()).await;
        assert_eq!(watch.told().await, event("MODIFIED", "a"));
        kit.ok(Verb::Delete, &format!("{MAPS}/a"), Value::Null).await;
        let deleted = watch.next().await.unwrap();
        assert_eq!((&deleted["type"], &deleted["object"]["kind"]), (&json!("DELETED"), &json!("ConfigMap")));
        assert_eq!(deleted["object"]["metadata"]["labels"]["tier"], "x", "the last state");
        assert_eq!(deleted["object"]["metadata"]["resourceVersion"], kit.revision().await.to_string());
    }
}

#[tokio::test]
async fn a_watch_goes_on_from_a_version() {
    let kit = Kit::new().await;
    kit.create(MAPS, "a").await;
    let from = kit.revision().await;
    kit.create(MAPS, "b").await;
    let mut watch = kit.watch(&format!("{MAPS}?resourceVersion={from}")).await;
    assert_eq!(watch.told().await, event("ADDED", "b"));
    let mut quiet =
        kit.watch(&format!("{MAPS}?sendInitialEvents=false&resourceVersionMatch=NotOlderThan")).await;
    let mut one = kit.watch(&format!("{MAPS}?fieldSelector=metadata.name=c&resourceVersion={from}")).await;
    let mut by_path = kit.watch(&format!("{MAPS}/c?resourceVersion={from}")).await;
    kit.create(MAPS, "cc").await;
    kit.create(MAPS, "c").await;
    assert_eq!(watch.told().await, event("ADDED", "cc"));
    assert_eq!(quiet.told().await, event("ADDED", "cc"));
    assert_eq!(one.told().await, event("ADDED", "c"));
    assert_eq!(by_path.told().await, event("ADDED", "c"));
}

#[tokio::test]
async fn a_version_that_is_forgotten_is_told_in_the_stream() {
    let kit = Kit::new().await;
    for i in 0..HISTORY + 5 {
        kit.create(MAPS, &format!("x{i}")).await;
    }
    let mut watch = kit.watch(&format!("{MAPS}?resourceVersion=1")).await;
    let error = watch.next().await.unwrap();
    assert_eq!(error["type"], "ERROR");
    assert_eq!(
        (&error["object"]["kind"], &error["object"]["code"], &error["object"]["reason"]),
        (&json!("Status"), &json!(410), &json!("Expired"))
    );
    let message = error["object"]["message"].as_str().unwrap();
    assert!(message.starts_with("too old resource version: 1 ("), "{message}");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn what_begins_to_match_is_added_and_what_ceases_to_is_deleted() {
    let kit = Kit::new().await;
    kit.create(MAPS, "a").await;
    let mut watch = kit.watch(&format!("{MAPS}?labelSelector=tier=x")).await;
    kit.label("a", "y".into()).await;
    let matching = kit.label("a", "x".into()).await;
    assert_eq!(watch.next().await, Some(json!({"type": "ADDED", "object": matching})));
    let changed = kit.ok(Verb::Patch, &format!("{MAPS}/a"), json!({"data": {"k": "v"}})).await;
    assert_eq!(watch.next().await, Some(json!({"type": "MODIFIED", "object": changed})));
    let gone = kit.label("a", "y".into()).await;
    let mut last = changed;
    last["metadata"]["resourceVersion"] = gone["metadata"]["resourceVersion"].clone();
    assert_eq!(watch.next().await, Some(json!({"type": "DELETED", "object": last})));
}

#[tokio::test(start_paused = true)]
async fn watch_lists_say_when_the_state_is_complete() {
    let kit = Kit::new().await;
    kit.create(MAPS, "a").await;
    let from = kit.revision().await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    for version in ["", "0", &from.to_string()] {
        let mut watch = kit.watch(&format!("{MAPS}?{query}&resourceVersion={version}")).await;
        assert_eq!(watch.told().await, event("ADDED", "a"));
        let metadata = json!({"resourceVersion": from.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}});
        let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata});
        assert_eq!(watch.next().await, Some(json!({"type": "BOOKMARK", "object": object})));
    }
    let mut empty = kit.watch(&format!("{SERVICES}?{query}")).await;
    assert_eq!(empty.told().await.0, "BOOKMARK");
    let error = kit.err(Verb::Watch, &format!("{MAPS}?{query}&resourceVersion=99999999"), Value::Null).await;
    assert_eq!(error.code.as_u16(), 504);
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_every_minute_and_at_the_end() {
    let kit = Kit::new().await;
    let from = kit.revision().await;
    let begin = Instant::now();
    let path = format!("{MAPS}?resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=90");
    let mut watch = kit.watch(&path).await;
    let mut plain = kit.watch(&format!("{MAPS}?resourceVersion={from}&timeoutSeconds=90")).await;
    kit.create(LEASES, "elsewhere").await;
    let now = kit.revision().await.to_string();
    for seconds in [60, 90] {
        let bookmark = watch.next().await.unwrap();
        assert_eq!((&bookmark["type"], begin.elapsed()), (&json!("BOOKMARK"), Duration::from_secs(seconds)));
        let metadata = json!({"resourceVersion": now});
        assert_eq!(
            bookmark["object"],
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata})
        );
    }
    assert_eq!(watch.next().await, None);
    assert_eq!(plain.next().await, None);
    assert_eq!(begin.elapsed(), Duration::from_secs(90));
}

#[tokio::test]
async fn parameters_of_watches_are_checked() {
    let kit = Kit::new().await;
    let cases = [
        (
            "sendInitialEvents=true",
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "resourceVersionMatch=NotOlderThan",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is \
             provided",
        ),
        (
            "sendInitialEvents=true&resourceVersionMatch=Exact",
            "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"",
        ),
        (
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=x",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
        ),
    ];
    for (query, text) in cases {
        let error = kit.err(Verb::Watch, &format!("{MAPS}?{query}"), Value::Null).await;
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {text}");
        assert_eq!(told(&error), (422, "Invalid", message.as_str()));
    }
    let error = kit.err(Verb::Watch, &format!("{MAPS}?resourceVersion=abc"), Value::Null).await;
    assert_eq!(error.code.as_u16(), 500);
}

#[tokio::test]
async fn tables_name_their_columns_once() {
    let kit = Kit::new().await;
    kit.ok(Verb::Create, SERVICES, service("a")).await;
    let mut watch = kit.watch_as(SERVICES, Form::Table { version: "v1", include: Include::Metadata }).await;
    let first = watch.next().await.unwrap();
    assert_eq!((&first["type"], &first["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(first["object"]["columnDefinitions"].as_array().map(Vec::len), Some(3));
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    kit.ok(Verb::Create, SERVICES, service("b")).await;
    let second = watch.next().await.unwrap();
    assert_eq!(
        (&second["object"]["columnDefinitions"], &second["object"]["rows"][0]["cells"][0]),
        (&Value::Null, &json!("b"))
    );
}

#[tokio::test]
async fn a_large_state_comes_whole_and_once() {
    let kit = Kit::new().await;
    for i in 0..50 {
        let body = json!({"metadata": {"name": format!("m{i:03}")}, "data": {"k": "x".repeat(5000)}});
        kit.ok(Verb::Create, MAPS, body).await;
    }
    let mut watch = kit.watch(MAPS).await;
    for i in 0..50 {
        assert_eq!(watch.told().await, event("ADDED", &format!("m{i:03}")));
    }
    kit.create(MAPS, "more").await;
    assert_eq!(watch.told().await, event("ADDED", "more"));
}

/// What a client does to the objects of a few names.
#[derive(Debug, Clone)]
enum Step {
    Write { name: usize, tier: Option<bool> },
    Delete { name: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..4_usize, any::<Option<bool>>()).prop_map(|(name, tier)| Step::Write { name, tier });
    let delete = (0..4_usize).prop_map(|name| Step::Delete { name });
    // No longer than what is remembered.
    proptest::collection::vec(prop_oneof![3 => write, 1 => delete], 1..HISTORY - 2)
}

type State = BTreeMap<String, Value>;

fn apply(state: &mut State, event: &Value) {
    let object = event["object"].clone();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    match event["type"].as_str().unwrap() {
        "ADDED" => assert!(state.insert(name, object).is_none(), "added twice"),
        "MODIFIED" => assert!(state.insert(name, object).is_some(), "modified before it was added"),
        "DELETED" => assert!(state.remove(&name).is_some(), "deleted before it was added"),
        other => panic!("{other} was not expected"),
    }
}

async fn listed(kit: &Kit, query: &str) -> (State, u64) {
    let list = kit.ok(Verb::List, &format!("{MAPS}?{query}"), Value::Null).await;
    let items = list["items"].as_array().unwrap().iter().map(|item| {
        let mut item = item.clone();
        item["kind"] = "ConfigMap".into();
        item["apiVersion"] = "v1".into();
        (item["metadata"]["name"].as_str().unwrap().to_owned(), item)
    });
    (items.collect(), list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap())
}

/// Whoever lists at any revision and follows from there comes to the same state as whoever lists at the end.
async fn follows(steps: Vec<Step>, selector: &str) {
    let kit = Kit::new().await;
    let mut begun = vec![listed(&kit, selector).await];
    for step in steps {
        match step {
            Step::Write { name, tier } => {
                let path = format!("{MAPS}/n{name}");
                let labels = json!({"labels": {"tier": tier.map(|tier| tier.to_string())}});
                if kit.call(Verb::Patch, &path, &json!({"metadata": labels})).await.is_err() {
                    kit.create(MAPS, &format!("n{name}")).await;
                }
            }
            Step::Delete { name } => {
                drop(kit.call(Verb::Delete, &format!("{MAPS}/n{name}"), &Value::Null).await);
            }
        }
        begun.push(listed(&kit, selector).await);
    }
    let (end, last) = listed(&kit, selector).await;
    for (mut state, from) in begun {
        let path =
            format!("{MAPS}?{selector}&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=1");
        let mut watch = kit.watch(&path).await;
        let mut come_to = from;
        while let Some(event) = watch.next().await {
            let revision = event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            assert!(revision >= come_to, "events are in order");
            come_to = revision;
            if event["type"] != "BOOKMARK" {
                apply(&mut state, &event);
            }
        }
        assert_eq!((state, come_to), (end.clone(), last));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn list_and_watch_rebuild_the_state(steps in steps(), selector in prop_oneof![Just(""), Just("labelSelector=tier=true")]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(follows(steps, selector));
    }
}
