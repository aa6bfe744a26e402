//! An agent that starts again, whatever ended the one before.

use serde_json::json;

use crate::world::{World, condition, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_adopted_and_what_is_gone_is_taken_down() {
    let mut world = World::start().await;
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 1});
    let spec = json!({"containers": [{"name": "a", "image": "web", "readinessProbe": probe}]});
    let uid = world.create("stays", spec).await;
    world.create("goes", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    let before = world.ready("stays").await;
    world.ready("goes").await;
    world.kill_agent().await;
    world.delete("goes", 0).await;
    world.start_agent().await;
    eventually("what is left of the other is removed", async || {
        (world.runtime.calls().last().map(String::as_str) == Some("remove goes")).then_some(())
    })
    .await;
    let after = world.ready("stays").await;
    // It never was anything but ready, and nothing was started again.
    let times = |pod: &serde_json::Value| pod["status"]["conditions"].clone();
    assert_eq!(times(&before), times(&after));
    assert_eq!(after["status"]["podIP"], before["status"]["podIP"]);
    let starts = world.runtime.calls().iter().filter(|call| call.starts_with("start")).count();
    assert_eq!(starts, 2);
    assert!(world.runtime.spec(&uid, "a").is_some());
    assert_eq!(world.cni_calls().iter().filter(|call| *call == "DEL").count(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_deleted_meanwhile_ends_with_all_its_time() {
    let mut world = World::start().await;
    world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    world.ready("web").await;
    world.kill_agent().await;
    world.delete("web", 30).await;
    world.start_agent().await;
    world.gone("web").await;
    assert_eq!(world.runtime.calls(), ["create web", "start a 0", "stop a", "remove web"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_meanwhile_is_started_again_and_counted() {
    let mut world = World::start().await;
    let uid = world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    world.ready("web").await;
    world.kill_agent().await;
    world.runtime.end(&uid, "a", 1);
    world.start_agent().await;
    let pod = world
        .pod("started again", "web", |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"] == 1 && condition(pod, "Ready") == "True"
        })
        .await;
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    world.end().await;
}
