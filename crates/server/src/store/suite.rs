//! What every store must do, whichever it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;

use super::etcd::testing::Server;
use super::{Batch, CommitError, Committed, Embedded, Entry, Expectation, Key, Revision, Store, Write};

/// Runs a test on each store, empty.
async fn on_each<F>(test: impl Fn(std::sync::Arc<dyn Store>) -> F)
where
    F: Future<Output = ()>,
{
    let folder = tempfile::tempdir().unwrap();
    test(std::sync::Arc::new(Embedded::open(&folder.path().join("embedded")).unwrap())).await;
    let server = Server::start(folder.path().join("etcd")).await;
    test(std::sync::Arc::new(server.store())).await;
}

fn key(name: &str) -> Key {
    Key::object("", "services", "n", name)
}

/// A write, with what is expected of its key.
fn batch(name: &str, expected: Option<Option<Revision>>, value: Option<&str>) -> Batch {
    let expectations = expected.map(|revision| Expectation { key: key(name), revision });
    let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    Batch { expectations: expectations.into_iter().collect(), writes: vec![Write { key: key(name), value }] }
}

#[tokio::test]
async fn what_is_committed_is_read_and_told() {
    on_each(async |store| {
        let mut feed = store.follow().await.unwrap();
        let first = store.commit(batch("a", Some(None), Some("1"))).await.unwrap();
        let second = store.commit(batch("b", None, Some("2"))).await.unwrap();
        let third = store.commit(batch("a", Some(Some(first)), None)).await.unwrap();
        assert_eq!((second, third), (first + 1, first + 2));
        assert_eq!(store.latest().await, Ok(third));
        for (revision, expected) in
            [(first, ("a", Some("1"))), (second, ("b", Some("2"))), (third, ("a", None))]
        {
            let (name, value) = expected;
            let told = Committed { revision, writes: batch(name, None, value).writes };
            assert_eq!(feed.commits.recv().await.unwrap().unwrap(), told);
        }
        let feed = store.follow().await.unwrap();
        let entry = Entry { key: key("b"), value: "2".into(), revision: second };
        assert_eq!((feed.revision, feed.entries), (third, vec![entry]));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_as_expected_is_named_and_changes_nothing() {
    on_each(async |store| {
        let first = store.commit(batch("a", None, Some("1"))).await.unwrap();
        for wrong in [None, Some(first + 1)] {
            let mut both = batch("b", Some(None), Some("2"));
            both.expectations.push(Expectation { key: key("a"), revision: wrong });
            assert_eq!(store.commit(both).await, Err(CommitError::Unexpected { key: key("a") }));
        }
        let gone = batch("c", Some(Some(first)), None);
        assert_eq!(store.commit(gone).await, Err(CommitError::Unexpected { key: key("c") }));
        assert_eq!(store.latest().await, Ok(first));
        assert_eq!(store.follow().await.unwrap().entries.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_one_commit_in_which_the_last_write_of_a_key_counts() {
    on_each(async |store| {
        let mut feed = store.follow().await.unwrap();
        let writes = ["a", "b"].map(|name| Write { key: key(name), value: Some("1".into()) });
        let mut writes = writes.to_vec();
        writes.push(Write { key: key("a"), value: Some("2".into()) });
        let revision = store.commit(Batch { expectations: Vec::new(), writes }).await.unwrap();
        let told = feed.commits.recv().await.unwrap().unwrap();
        let last: BTreeMap<Key, Option<Bytes>> =
            told.writes.into_iter().map(|write| (write.key, write.value)).collect();
        assert_eq!(told.revision, revision);
        assert_eq!(last, BTreeMap::from([(key("a"), Some("2".into())), (key("b"), Some("1".into()))]));
        let entries = store.follow().await.unwrap().entries;
        assert!(entries.iter().all(|entry| entry.revision == revision) && entries.len() == 2, "{entries:?}");
    })
    .await;
}

#[tokio::test]
async fn of_many_who_expect_the_same_one_wins() {
    on_each(async |store| {
        let commits = join_all((0..50).map(|_| store.commit(batch("a", Some(None), Some("1"))))).await;
        assert_eq!(commits.iter().filter(|result| result.is_ok()).count(), 1, "{commits:?}");
        let lost = Err(CommitError::Unexpected { key: key("a") });
        assert_eq!(commits.iter().filter(|result| **result == lost).count(), 49, "{commits:?}");
    })
    .await;
}

#[tokio::test]
async fn every_follower_hears_of_every_commit_once_and_in_order() {
    on_each(async |store| {
        let mut early = store.follow().await.unwrap();
        let writing = join_all((0..300).map(|n| {
            let store = store.clone();
            async move { store.commit(batch(&format!("k{n}"), None, Some("1"))).await.unwrap() }
        }));
        // One that begins in the middle sees the rest in the state.
        let (revisions, late) = tokio::join!(writing, store.follow());
        let (last, mut late) = (revisions.iter().copied().max().unwrap(), late.unwrap());
        for feed in [&mut early, &mut late] {
            let mut come_to = feed.revision;
            while come_to < last {
                let Some(told) = feed.commits.recv().await else {
                    *feed = store.follow().await.unwrap();
                    come_to = feed.revision;
                    continue;
                };
                let told = told.unwrap();
                assert_eq!(told.revision, come_to + 1);
                come_to = told.revision;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_state_of_many_pages_is_read_whole() {
    on_each(async |store| {
        for part in 0..25 {
            let writes = (0..100)
                .map(|n| Write { key: key(&format!("k{part}-{n}")), value: Some(vec![b'x'; 300].into()) });
            store.commit(Batch { expectations: Vec::new(), writes: writes.collect() }).await.unwrap();
        }
        let entries = store.follow().await.unwrap().entries;
        assert_eq!(entries.len(), 2500);
        assert!(
            entries.is_sorted_by(|a, b| a.key < b.key)
                && entries.iter().all(|entry| entry.value.len() == 300)
        );
    })
    .await;
}
