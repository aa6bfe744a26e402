//! What goes wrong is told where people look for it, and is tried again.

use std::fs;

use serde_json::{Value, json};

use crate::world::{World, eventually};

fn waiting(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]["waiting"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ends_is_started_again_and_then_left_alone_for_a_while() {
    let world = World::start().await;
    let uid = world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    world.ready("web").await;
    world.runtime.end(&uid, "a", 7);
    // The first time at once.
    let again = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"] == 1;
    let pod = world.pod("started again", "web", again).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 7);
    world.ready("web").await;
    world.runtime.end(&uid, "a", 7);
    let pod = world.pod("left alone", "web", |pod| waiting(pod)["reason"] == "CrashLoopBackOff").await;
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(world.event("web", "BackOff").await, "Back-off restarting failed container a in pod web");
    assert_eq!(world.runtime.calls(), ["create web", "start a 0", "start a 1"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_is_told_with_the_way_out() {
    let world = World::start().await;
    world.create("web", json!({"containers": [{"name": "a", "image": "unknown"}]})).await;
    let pod = world.pod("waiting", "web", |pod| waiting(pod)["reason"] == "ImagePullBackOff").await;
    assert!(waiting(&pod)["message"].as_str().unwrap().contains("no built-in image"), "{}", waiting(&pod));
    assert!(world.event("web", "Failed").await.contains("give it one"));
    world.delete("web", 5).await;
    world.gone("web").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_that_is_missing_is_waited_for() {
    let world = World::start().await;
    let env = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "x"}}}]);
    world.create("web", json!({"containers": [{"name": "a", "image": "web", "env": env}]})).await;
    let pod = world.pod("waiting", "web", |pod| waiting(pod)["reason"] == "CreateContainerConfigError").await;
    assert_eq!(waiting(&pod)["message"], "configmap \"settings\" not found");
    assert!(world.event("web", "Failed").await.contains("settings"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_plugin_that_fails_is_named_and_tried_again() {
    let world = World::start().await;
    let broken = world.folder().join("bin/broken");
    fs::write(&broken, r#"{"cniVersion": "1.0.0", "code": 7, "msg": "no addresses left"}"#).unwrap();
    world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    let message = world.event("web", "FailedCreatePodSandBox").await;
    assert!(message.contains("plugin fake") && message.contains("no addresses left"), "{message}");
    fs::remove_file(broken).unwrap();
    world.ready("web").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_somebody_killed_is_made_anew() {
    let world = World::start().await;
    let uid = world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    world.ready("web").await;
    world.runtime.kill_sandbox(&uid);
    let again = |pod: &Value| pod["status"]["podIP"] == "10.244.1.3";
    let pod = world.pod("made anew", "web", again).await;
    assert_eq!(pod["status"]["podIPs"], json!([{"ip": "10.244.1.3"}]));
    let pod = world.ready("web").await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(
        (status["restartCount"].as_i64(), status["lastState"]["terminated"]["exitCode"].as_i64()),
        (Some(1), Some(137))
    );
    assert_eq!(world.cni_calls(), ["ADD", "DEL", "ADD"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_by_force_is_taken_down_after_it_is_gone() {
    let world = World::start().await;
    world.runtime.be_stubborn("a");
    world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    world.ready("web").await;
    world.delete("web", 0).await;
    world.gone("web").await;
    eventually("the sandbox is removed", async || {
        (world.runtime.calls().last().map(String::as_str) == Some("remove web")).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_repeated_with_less_time_counts() {
    let world = World::start().await;
    world.runtime.be_stubborn("a");
    world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    world.ready("web").await;
    // More than this test waits for.
    world.delete("web", 100).await;
    eventually("it is being stopped", async || {
        world.runtime.calls().contains(&"stop a".to_owned()).then_some(())
    })
    .await;
    world.delete("web", 1).await;
    world.gone("web").await;
    world.end().await;
}
