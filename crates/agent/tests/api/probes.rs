//! Probes and hooks, with commands and connections on this machine.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::world::{World, condition, eventually};

/// Answers every request with this status until the test ends.
fn http_server(status: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_ready_while_its_probe_succeeds() {
    let world = World::start().await;
    let file = world.folder().join("up");
    let command = json!(["test", "-e", file]);
    let probe = json!({"exec": {"command": command}, "periodSeconds": 1, "failureThreshold": 1});
    world
        .create("web", json!({"containers": [{"name": "a", "image": "web", "readinessProbe": probe}]}))
        .await;
    let message = world.event("web", "Unhealthy").await;
    assert_eq!(message, "Readiness probe failed: command ended with exit code 1");
    world.pod("not ready", "web", |pod| condition(pod, "Ready") == "False").await;
    fs::write(&file, "").unwrap();
    world.ready("web").await;
    fs::remove_file(&file).unwrap();
    world.pod("not ready again", "web", |pod| condition(pod, "Ready") == "False").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_over_the_network_use_names_of_ports() {
    let world = World::start().await;
    let (good, bad) = (http_server("200 OK"), http_server("500 Oops"));
    let container = |name: &str, port: u16, probe: Value| {
        let probe = json!({"periodSeconds": 1, "timeoutSeconds": 5, "httpGet": probe});
        json!({"name": name, "image": "web", "readinessProbe": probe, "ports": [{"name": name, "containerPort": port}]})
    };
    // The node answers in the pod's place.
    let spec = json!({"hostNetwork": true, "containers": [
        container("good", good, json!({"port": "good", "path": "/healthz"})),
        container("bad", bad, json!({"port": "bad"})),
    ]});
    world.create("web", spec).await;
    let pod = world
        .pod("half ready", "web", |pod| {
            let statuses = pod["status"]["containerStatuses"].as_array();
            statuses.into_iter().flatten().any(|one| one["ready"] == true)
        })
        .await;
    let ready: Vec<bool> = [0, 1].map(|i| pod["status"]["containerStatuses"][i]["ready"] == true).into();
    assert_eq!(ready, [true, false]);
    assert_eq!(
        world.event("web", "Unhealthy").await,
        "Readiness probe failed: HTTP probe failed with statuscode: 500"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_not_alive_is_started_anew() {
    let world = World::start().await;
    let file = world.folder().join("alive");
    fs::write(&file, "").unwrap();
    let probe = json!({"exec": {"command": ["cat", file]}, "periodSeconds": 1, "failureThreshold": 1});
    world.create("web", json!({"containers": [{"name": "a", "image": "web", "livenessProbe": probe}]})).await;
    world.ready("web").await;
    fs::remove_file(&file).unwrap();
    let killing = world.event("web", "Killing").await;
    assert_eq!(killing, "Container a failed liveness probe, will be restarted");
    fs::write(&file, "").unwrap();
    let restarted = |pod: &Value| {
        pod["status"]["containerStatuses"][0]["restartCount"] == 1 && condition(pod, "Ready") == "True"
    };
    world.pod("started anew", "web", restarted).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_run_before_the_container_is_asked_to_end() {
    let world = World::start().await;
    let file = world.folder().join("hook");
    let hook = json!({"preStop": {"exec": {"command": ["touch", file]}}});
    world.create("web", json!({"containers": [{"name": "a", "image": "web", "lifecycle": hook}]})).await;
    world.ready("web").await;
    world.delete("web", 30).await;
    eventually("the hook has run", async || file.exists().then_some(())).await;
    world.gone("web").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_first_hook_fails_is_ended_and_tried_again() {
    let world = World::start().await;
    let hook = json!({"postStart": {"exec": {"command": ["false"]}}});
    world.create("web", json!({"containers": [{"name": "a", "image": "web", "lifecycle": hook}]})).await;
    let message = world.event("web", "FailedPostStartHook").await;
    assert!(message.contains("exit code 1"), "{message}");
    world
        .pod("waiting", "web", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "PostStartHookError"
        })
        .await;
    world.end().await;
}
