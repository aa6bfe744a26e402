use serde_json::json;

use super::super::{Expectation, Write};
use super::testing::Server;
use super::*;

fn key(name: &str) -> Key {
    Key::object("", "services", "n", name)
}

fn put(name: &str) -> Batch {
    Batch { expectations: Vec::new(), writes: vec![Write { key: key(name), value: Some("1".into()) }] }
}

#[tokio::test]
async fn a_restart_of_etcd_loses_nothing_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path().join("etcd")).await;
    let store = server.store();
    let mut feed = store.follow().await.unwrap();
    let revision = store.commit(put("a")).await.unwrap();
    assert_eq!(feed.commits.recv().await.unwrap().unwrap().revision, revision);
    server.restart().await;
    let error = feed.commits.recv().await.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("following etcd at http://127.0.0.1:"), "{error}");
    assert!(feed.commits.recv().await.is_none());
    let feed = store.follow().await.unwrap();
    assert_eq!((feed.revision, feed.entries.len()), (revision, 1));
}

#[tokio::test]
async fn two_servers_see_each_other_and_one_of_them_wins() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path().join("etcd")).await;
    let (one, other) = (server.store(), server.store());
    let mut feed = other.follow().await.unwrap();
    let absent = |name: &str| Batch {
        expectations: vec![Expectation { key: key(name), revision: None }],
        ..put(name)
    };
    let (first, second) = tokio::join!(one.commit(absent("a")), other.commit(absent("a")));
    let winners = [&first, &second].into_iter().filter(|result| result.is_ok()).count();
    assert_eq!(winners, 1, "{first:?} {second:?}");
    assert!([first, second].contains(&Err(CommitError::Unexpected { key: key("a") })));
    let committed = feed.commits.recv().await.unwrap().unwrap();
    assert_eq!(committed.writes, put("a").writes);
    assert_eq!(one.latest().await, Ok(committed.revision));
}

#[tokio::test]
async fn commits_of_others_under_other_keys_are_empty_commits() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path().join("etcd")).await;
    let store = server.store();
    let mut feed = store.follow().await.unwrap();
    let foreign = json!({"key": encode(b"/elsewhere"), "value": encode(b"1")});
    store.client.call("writing", "/v3/kv/put", &foreign).await.unwrap();
    let told = feed.commits.recv().await.unwrap().unwrap();
    assert_eq!((told.revision, told.writes), (feed.revision + 1, Vec::new()));
    assert_eq!(store.follow().await.unwrap().entries, []);
}

#[tokio::test]
async fn history_that_is_gone_ends_a_feed_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path().join("etcd")).await;
    let store = server.store();
    store.commit(put("a")).await.unwrap();
    let latest = store.commit(put("b")).await.unwrap();
    store.compact(latest).await.unwrap();
    // Two servers compact alike.
    store.compact(latest).await.unwrap();
    let lost = match feed::start(store.client.clone(), store.keys.clone(), 1).await {
        Err(error) => error,
        Ok(mut commits) => commits.recv().await.unwrap().unwrap_err(),
    };
    assert!(lost.cause.contains("its history begins at revision"), "{lost}");
    assert_eq!(store.follow().await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_named() {
    let settings = EtcdSettings {
        urls: vec!["http://127.0.0.1:1".to_owned()],
        authority: None,
        client: None,
        prefix: "/registry".to_owned(),
    };
    let error = Etcd::new(&settings).unwrap().latest().await.unwrap_err().to_string();
    assert!(error.starts_with("asking etcd for its revision at http://127.0.0.1:1/: "), "{error}");
    assert!(error.ends_with("is etcd running there?"), "{error}");
    let missing = EtcdSettings { authority: Some("/nonexistent".into()), ..settings };
    let error = Etcd::new(&missing).unwrap_err().to_string();
    assert_eq!(error, "reading /nonexistent: No such file or directory (os error 2)");
}
