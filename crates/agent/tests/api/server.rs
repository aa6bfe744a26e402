//! What the agent answers itself: logs and commands.

use std::fs::{self, File};
use std::io::Write;

use futures_util::{SinkExt, StreamExt};
use http::Request;
use kube::Client;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::world::World;

async fn get(client: &Client, path: &str) -> String {
    client.request_text(Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
}

async fn refused(client: &Client, path: &str) -> kube::core::Status {
    match client.request_text(Request::get(path).body(Vec::new()).unwrap()).await {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("{path}: {other:?}"),
    }
}

/// Everything that comes out of a WebSocket, by channel, after some messages went in.
async fn talk(client: &Client, path: &str, messages: &[&[u8]]) -> Vec<(u8, String)> {
    let connection = client.connect(Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
    let mut socket = connection.into_stream();
    for message in messages {
        socket.send(Message::binary(message.to_vec())).await.unwrap();
    }
    let mut heard: Vec<(u8, String)> = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(bytes) = message else { continue };
        let (channel, text) = (bytes[0], String::from_utf8_lossy(&bytes[1..]).into_owned());
        match heard.last_mut() {
            Some((last, known)) if *last == channel => known.push_str(&text),
            _ => heard.push((channel, text)),
        }
    }
    heard
}

/// As a part of a query.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn status(heard: &[(u8, String)]) -> Value {
    let (channel, text) = heard.last().unwrap();
    assert_eq!(*channel, 3, "{heard:?}");
    serde_json::from_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_and_followed_to_the_containers_end() {
    let world = World::start().await;
    let uid = world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    world.ready("web").await;
    let folder = world.folder().join("logs").join(&uid);
    fs::create_dir_all(&folder).unwrap();
    let mut log = File::create(folder.join("a.log")).unwrap();
    log.write_all(b"2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr F two\n").unwrap();
    let client = world.agent_client().await;
    assert_eq!(get(&client, "/containerLogs/default/web/a").await, "one\ntwo\n");
    assert_eq!(
        get(&client, "/containerLogs/default/web/a?tailLines=1&timestamps=true").await,
        "2026-01-01T00:00:02Z two\n"
    );
    assert_eq!(get(&client, "/containerLogs/default/web/a?limitBytes=2").await, "on");

    let request =
        Request::get("/containerLogs/default/web/a?follow=true&tailLines=0").body(Vec::new()).unwrap();
    let followed = client.request_stream(request).await.unwrap();
    log.write_all(b"2026-01-01T00:00:03Z stdout F three\n").unwrap();
    let mut lines = futures_util::AsyncBufReadExt::lines(followed);
    assert_eq!(lines.next().await.unwrap().unwrap(), "three");
    log.write_all(b"2026-01-01T00:00:04Z stdout F last\n").unwrap();
    world.runtime.end(&uid, "a", 0);
    assert_eq!(lines.next().await.unwrap().unwrap(), "last");
    assert!(lines.next().await.is_none());

    let message = refused(&client, "/containerLogs/default/web/a?previous=true").await.message;
    assert_eq!(message, "previous terminated container \"a\" in pod \"web\" not found");
    assert_eq!(refused(&client, "/containerLogs/default/web/b").await.code, 400);
    assert_eq!(refused(&client, "/containerLogs/default/nope/a").await.code, 404);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_container_that_waits_says_what_for() {
    let world = World::start().await;
    world.create("web", json!({"containers": [{"name": "a", "image": "unknown"}]})).await;
    world.event("web", "Failed").await;
    let client = world.agent_client().await;
    let message = refused(&client, "/containerLogs/default/web/a").await.message;
    assert!(message.starts_with("container \"a\" in pod \"web\" is waiting to start: "), "{message}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_run_with_their_streams_and_exit_code() {
    let world = World::start().await;
    world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    world.ready("web").await;
    let client = world.agent_client().await;
    let script = escaped("echo out; echo err >&2; exit 7");
    let shell = format!("/exec/default/web/a?command=sh&command=-c&command={script}&output=1&error=1");
    let heard = talk(&client, &shell, &[]).await;
    assert!(
        heard.contains(&(1, "out\n".to_owned())) && heard.contains(&(2, "err\n".to_owned())),
        "{heard:?}"
    );
    assert_eq!(status(&heard)["details"]["causes"][0]["message"], "7");

    // The end of the input ends the command.
    let heard = talk(
        &client,
        "/exec/default/web/a?command=cat&input=1&output=1",
        &[b"\0hello ", b"\0you", b"\xff\0"],
    )
    .await;
    assert_eq!(heard[0], (1, "hello you".to_owned()));
    assert_eq!(status(&heard)["status"], "Success");

    let heard = talk(&client, "/exec/default/web/a?command=/no/such&output=1", &[]).await;
    assert!(status(&heard)["message"].as_str().unwrap().contains("/no/such"), "{heard:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_its_client() {
    let world = World::start().await;
    world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    world.ready("web").await;
    let client = world.agent_client().await;
    let begun = world.folder().join("begun");
    let script = escaped(&format!("echo $$ > {}; exec sleep 1000", begun.display()));
    let path = format!("/exec/default/web/a?command=sh&command=-c&command={script}&output=1");
    let connection = client.connect(Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
    let pid = crate::world::eventually("it has begun", async || {
        fs::read_to_string(&begun).ok().and_then(|text| text.trim().parse::<i32>().ok())
    })
    .await;
    drop(connection);
    crate::world::eventually("it has ended", async || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_api_server_is_answered() {
    let world = World::start().await;
    world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    world.ready("web").await;
    let mut config = world.agent_config().await;
    config.auth_info = kube::config::AuthInfo::default();
    let stranger = Client::try_from(config).unwrap();
    assert_eq!(get(&stranger, "/healthz").await, "ok");
    for path in ["/pods", "/containerLogs/default/web/a", "/exec/default/web/a?command=id"] {
        assert_eq!(refused(&stranger, path).await.code, 401, "{path}");
    }
    let pods: Value = serde_json::from_str(&get(&world.agent_client().await, "/pods").await).unwrap();
    assert_eq!(pods["items"][0]["metadata"]["name"], "web");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_is_told_what_it_takes() {
    let world = World::start().await;
    world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    world.ready("web").await;
    let client = world.agent_client().await;
    let request = Request::post("/exec/default/web/a?command=id&output=1")
        .header("Connection", "Upgrade")
        .header("Upgrade", "SPDY/3.1")
        .body(Vec::new())
        .unwrap();
    let Err(kube::Error::Api(status)) = client.request_text(request).await else { panic!("it was answered") };
    assert!(status.message.contains("kubectl 1.31"), "{}", status.message);
    world.end().await;
}
