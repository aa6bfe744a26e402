//! A pod's life, from its binding to its end.

use serde_json::json;

use crate::world::{World, condition};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_and_ends() {
    let world = World::start().await;
    let uid = world.create("web", json!({"containers": [{"name": "a", "image": "web"}]})).await;
    let pod = world.ready("web").await;
    let status = &pod["status"];
    assert_eq!((status["phase"].as_str(), status["podIP"].as_str()), (Some("Running"), Some("10.244.1.2")));
    assert_eq!(status["hostIP"], "127.0.0.1");
    assert_eq!(status["qosClass"], "BestEffort");
    assert!(status["containerStatuses"][0]["state"]["running"]["startedAt"].is_string());
    let spec = world.runtime.spec(&uid, "a").unwrap();
    assert!(spec.env.contains(&("POD_IP".to_owned(), "10.244.1.2".to_owned())), "{:?}", spec.env);
    for reason in ["Pulled", "Created", "Started"] {
        world.event("web", reason).await;
    }

    world.delete("web", 5).await;
    world.gone("web").await;
    assert_eq!(world.runtime.calls(), ["create web", "start a 0", "stop a", "remove web"]);
    assert_eq!(world.cni_calls(), ["ADD", "DEL"]);
    world.event("web", "Killing").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_has_done_its_work_gives_its_address_back() {
    let world = World::start().await;
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]});
    let uid = world.create("job", spec).await;
    world.ready("job").await;
    world.runtime.end(&uid, "a", 0);
    let pod = world.pod("done", "job", |pod| pod["status"]["phase"] == "Succeeded").await;
    assert_eq!(condition(&pod, "Ready"), "False");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    crate::world::eventually("DEL", async || (world.cni_calls() == ["ADD", "DEL"]).then_some(())).await;
    world.end().await;
}
