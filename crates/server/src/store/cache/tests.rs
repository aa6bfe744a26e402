use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::Expectation;
use super::super::fake::Fake;
use super::*;

const SETTINGS: CacheSettings = CacheSettings { history: 100, watch_buffer: 10 };

fn index(_key: &Key, object: &Object) -> Indexed {
    let labels = object.labels().into_iter().map(|(key, value)| (key.into(), value.into()));
    Indexed { labels: labels.collect(), fields: Vec::new() }
}

async fn cache(settings: CacheSettings) -> Arc<Cache> {
    Cache::start(Arc::new(Fake::default()), index, settings).await.unwrap()
}

fn key(name: &str) -> Key {
    Key::object("", "services", "n", name)
}

fn write(name: &str, value: Option<&str>) -> Batch {
    let value = value
        .map(|value| format!("{{\"metadata\":{{\"name\":{name:?},\"labels\":{{\"v\":{value:?}}}}}}}").into());
    Batch { expectations: Vec::new(), writes: vec![Write { key: key(name), value }] }
}

fn contents(snapshot: &Snapshot) -> BTreeMap<String, Revision> {
    snapshot.range("/registry/", None).map(|object| (object.key.to_string(), object.revision)).collect()
}

#[tokio::test]
async fn a_commit_is_seen_by_the_next_read_with_its_revision() {
    let cache = cache(SETTINGS).await;
    let revision = cache.commit(write("a", Some("1"))).await.unwrap();
    let object = cache.snapshot().get(&key("a")).unwrap();
    assert_eq!(object.object().resource_version(), revision.to_string());
    assert_eq!(object.indexed.labels, [("v".into(), "1".into())]);
    assert_eq!(cache.fresh_snapshot().await.unwrap().revision(), revision);
}

#[tokio::test]
async fn what_is_not_as_expected_is_not_written() {
    let cache = cache(SETTINGS).await;
    cache.commit(write("a", Some("1"))).await.unwrap();
    let absent = Expectation { key: key("a"), revision: None };
    let batch = Batch { expectations: vec![absent], ..write("b", Some("1")) };
    assert_eq!(cache.commit(batch).await, Err(CommitError::Unexpected { key: key("a") }));
    assert!(cache.snapshot().get(&key("b")).is_none());
}

#[tokio::test]
async fn a_range_goes_on_after_a_key() {
    let cache = cache(SETTINGS).await;
    for name in ["a", "b", "c"] {
        cache.commit(write(name, Some("1"))).await.unwrap();
    }
    let names = |prefix: &str, after: Option<&Key>| -> Vec<String> {
        let snapshot = cache.snapshot();
        snapshot.range(prefix, after).map(|object| object.object().name().to_owned()).collect()
    };
    assert_eq!(names("/registry/core/services/n/", Some(&key("a"))), ["b", "c"]);
    assert_eq!(names("/registry/core/services/n/", Some(&key("aa"))), ["b", "c"]);
    assert_eq!(names("/registry/core/pods/", None), [""; 0]);
}

#[tokio::test]
async fn what_was_missed_is_told_at_the_revisions_of_its_last_changes() {
    let cache = cache(SETTINGS).await;
    let first = cache.commit(write("a", Some("1"))).await.unwrap();
    cache.commit(write("gone", Some("1"))).await.unwrap();
    let mut watch = cache.watch("/registry/".to_owned(), first + 1).unwrap();
    let entry = |name: &str, revision: Revision| {
        let value = write(name, Some("2")).writes.pop().unwrap().value.unwrap();
        Entry { key: key(name), value, revision }
    };
    let (_sender, commits) = tokio::sync::mpsc::channel(1);
    let entries = vec![entry("a", first + 5), entry("b", first + 3)];
    cache.catch_up(&Feed { revision: first + 9, entries, commits });
    let expected = [("b", first + 3), ("a", first + 5), ("gone", first + 9)];
    for (name, revision) in expected {
        let WatchItem::Event(event) = watch.next().await.unwrap() else { panic!("no event") };
        assert_eq!((&event.key, event.revision), (&key(name), revision));
        // What a later write of the object has to expect.
        assert!(event.after.as_ref().is_none_or(|object| object.revision == revision), "{event:?}");
    }
    let expected = BTreeMap::from([(key("a").to_string(), first + 5), (key("b").to_string(), first + 3)]);
    assert_eq!(contents(&cache.snapshot()), expected);
    assert_eq!(cache.snapshot().revision(), first + 9);
}

#[tokio::test]
async fn one_key_can_be_watched_alone() {
    let cache = cache(SETTINGS).await;
    let first = cache.commit(write("a", Some("1"))).await.unwrap();
    cache.commit(write("ab", Some("1"))).await.unwrap();
    let mut watch = cache.watch(key("a").to_string(), first - 1).unwrap();
    for name in ["ab", "a"] {
        cache.commit(write(name, None)).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..2 {
        let WatchItem::Event(event) = watch.next().await.unwrap() else { panic!("no event") };
        seen.push((event.key.clone(), event.after.is_some()));
    }
    assert_eq!(seen, [(key("a"), true), (key("a"), false)]);
}

#[tokio::test]
async fn a_slow_watcher_is_cut_off_and_others_are_not() {
    let cache = cache(SETTINGS).await;
    let mut slow = cache.watch("/registry/core/services/".to_owned(), 0).unwrap();
    let mut other = cache.watch("/registry/core/services/n/".to_owned(), 0).unwrap();
    for number in 0..20 {
        cache.commit(write("a", Some(&number.to_string()))).await.unwrap();
        assert!(matches!(other.next().await, Ok(WatchItem::Event(event)) if event.revision == number + 1));
    }
    let mut told = 0;
    let error = loop {
        match slow.next().await {
            Ok(_) => told += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((told, error), (10, WatchError::Slow));
}

#[tokio::test]
async fn what_is_forgotten_cannot_be_watched_from() {
    let cache = cache(CacheSettings { history: 2, watch_buffer: 10 }).await;
    for number in 0..5 {
        cache.commit(write("a", Some(&number.to_string()))).await.unwrap();
    }
    let prefix = || "/registry/core/services/".to_owned();
    assert_eq!(cache.watch(prefix(), 2).err(), Some(WatchError::TooOld { oldest: 3 }));
    assert!(cache.watch(prefix(), 3).is_ok());
    assert!(cache.snapshot_at(2).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_learns_how_far_it_has_come() {
    let cache = cache(SETTINGS).await;
    let mut pods = cache.watch("/registry/core/pods/".to_owned(), 0).unwrap();
    let revision = cache.commit(write("a", Some("1"))).await.unwrap();
    assert!(matches!(pods.next().await, Ok(WatchItem::Progress(come)) if come == revision));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_watch_from_any_revision_leads_from_the_state_there_to_the_last(
        history in prop::collection::vec((0..4u8, prop::option::of(0..9u8)), 1..40),
        from in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cache = cache(CacheSettings { history: 100, watch_buffer: 100 }).await;
            let mut states = vec![contents(&cache.snapshot())];
            for (name, value) in &history {
                let batch = write(&name.to_string(), value.map(|value| value.to_string()).as_deref());
                cache.commit(batch).await.unwrap();
                states.push(contents(&cache.snapshot()));
            }
            let from = from.index(states.len());
            let then = cache.snapshot_at(from as Revision).unwrap();
            assert_eq!(contents(&then), states[from]);
            let mut state = contents(&then);
            let mut watch = cache.watch("/registry/".to_owned(), from as Revision).unwrap();
            for _ in states[from..].windows(2).filter(|pair| pair[0] != pair[1]) {
                let Ok(WatchItem::Event(event)) = watch.next().await else { panic!("an event is missing") };
                match &event.after {
                    Some(after) => drop(state.insert(event.key.to_string(), after.revision)),
                    None => drop(state.remove(event.key.as_str())),
                }
            }
            assert_eq!(Some(&state), states.last());
        });
    }
}
