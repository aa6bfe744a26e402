use serde_json::json;

use super::*;
use crate::pod::testing::{Situation, at, bound, connected, one};
use crate::pod::view::{Failure, Verdicts};

fn start(container: &str, restarts: u32) -> Step {
    Step::Start { container: container.to_owned(), restarts }
}

/// Which containers are stopped, and how many seconds they get.
fn stopped(situation: &Situation) -> Vec<(String, u64)> {
    let stop = |step: Step| match step {
        Step::Stop { container, grace, .. } => Some((container, grace.as_secs())),
        _ => None,
    };
    situation.steps().into_iter().filter_map(stop).collect()
}

#[test]
fn first_the_sandbox_then_the_network_then_the_containers() {
    let mut situation = bound(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    assert_eq!(situation.steps(), [Step::MakeSandbox]);
    situation.busy.insert(Part::Sandbox, Busy::Making);
    assert_eq!(situation.steps(), []);
    let connected = connected(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let unconnected = Situation { network: Network::None, ..connected.clone() };
    assert_eq!(unconnected.steps(), [Step::Connect]);
    assert_eq!(connected.steps(), [start("a", 0), start("b", 0)]);
    assert_eq!(connected.clone().busy("a", Busy::Making).steps(), [start("b", 0)]);
    assert_eq!(connected.running("a").running("b").steps(), []);
}

#[test]
fn a_sandbox_that_cannot_be_made_is_tried_again_after_a_pause() {
    let mut situation = bound(one(json!({})));
    situation.failure =
        Some(Failure { at: at(1000), reason: "FailedCreatePodSandBox", message: String::new() });
    situation.backoff.tried(at(1000));
    assert_eq!((situation.steps(), situation.decision().wake), (vec![], Some(at(1001))));
    assert_eq!(situation.at(1001).steps(), [Step::MakeSandbox]);
}

#[test]
fn init_containers_run_one_after_the_other() {
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    let situation = connected(spec);
    assert_eq!(situation.steps(), [start("i", 0)]);
    assert_eq!(situation.clone().running("i").steps(), []);
    assert_eq!(situation.clone().ended("i", 0).steps(), [start("j", 0)]);
    // Also with a pod that always restarts: an init container that failed is tried again, one that succeeded is not.
    assert_eq!(situation.clone().ended("i", 1).steps(), [start("i", 1)]);
    assert_eq!(situation.clone().ended("i", 0).ended("j", 0).steps(), [start("a", 0)]);
    // Once the others run, their records may be lost.
    assert_eq!(situation.running("a").steps(), []);
}

#[test]
fn a_sidecar_is_waited_for_until_it_has_started_and_stays() {
    let spec = json!({
        "initContainers": [{"name": "s", "restartPolicy": "Always", "startupProbe": {}}, {"name": "i"}],
        "containers": [{"name": "a"}],
    });
    let situation = connected(spec);
    assert_eq!(situation.steps(), [start("s", 0)]);
    let running = situation.running("s");
    assert_eq!(running.steps(), []);
    let started = running.with_verdicts("s", Verdicts { startup: Some(true), ..Verdicts::default() });
    assert_eq!(started.steps(), [start("i", 0)]);
    // It ended while the others run.
    assert_eq!(started.ended("i", 0).running("a").ended("s", 0).steps(), [start("s", 1)]);
}

#[test]
fn what_ended_is_started_again_as_the_policy_says() {
    for (policy, exit_code, restarts) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ] {
        let mut spec = one(json!({}));
        spec["restartPolicy"] = json!(policy);
        let situation = connected(spec).ended("a", exit_code);
        let starts = situation.steps().contains(&start("a", 1));
        assert_eq!(starts, restarts, "{policy} after exit code {exit_code}: {:?}", situation.steps());
    }
}

#[test]
fn what_fails_again_and_again_waits_longer_and_longer() {
    let mut situation = connected(one(json!({}))).ended("a", 1);
    situation.memory("a").backoff.tried(at(980));
    // It ended at 990, and 10 s have not passed.
    let situation = situation.at(995);
    assert_eq!((situation.steps(), situation.decision().wake), (vec![], Some(at(1000))));
    assert_eq!(situation.at(1000).steps(), [start("a", 1)]);
}

#[test]
fn what_cannot_be_started_counts_no_restarts() {
    let mut situation = connected(one(json!({})));
    let failure = Failure { at: at(1000), reason: "ErrImagePull", message: String::new() };
    situation.memory("a").failure = Some(failure);
    situation.memory("a").backoff.tried(at(1000));
    assert_eq!(situation.decision().wake, Some(at(1010)));
    assert_eq!(situation.at(1010).steps(), [start("a", 0)]);
}

#[test]
fn an_unhealthy_container_is_stopped_with_the_time_that_its_probe_gives_it() {
    let spec = one(json!({"livenessProbe": {"terminationGracePeriodSeconds": 3}}));
    let sick = Verdicts { liveness: Some(false), ..Verdicts::default() };
    let situation = connected(spec).running("a").with_verdicts("a", sick);
    assert_eq!(stopped(&situation), [("a".to_owned(), 3)]);
    assert_eq!(situation.busy("a", Busy::Stopping(at(1003))).steps(), []);
    // The verdict was on a run of before.
    let mut restarted = connected(one(json!({"livenessProbe": {}}))).running("a").with_verdicts("a", sick);
    restarted.memory("a").verdicts.run = at(100);
    assert_eq!(restarted.steps(), []);
}

#[test]
fn a_sandbox_that_was_killed_is_made_anew_with_its_network() {
    let mut situation = connected(one(json!({}))).ended("a", 137);
    if let Some(sandbox) = &mut situation.sandbox {
        sandbox.alive = false;
    }
    assert_eq!(situation.steps(), [Step::Disconnect]);
    situation.network = Network::None;
    assert_eq!(situation.steps(), [Step::RemoveSandbox]);
    // After that only what is remembered is left.
    let lost = bound(one(json!({}))).lost("a", 137);
    assert_eq!(lost.steps(), [Step::MakeSandbox]);
    let again = connected(one(json!({}))).lost("a", 137);
    assert_eq!(again.steps(), [start("a", 1)]);
}

#[test]
fn a_pod_that_never_restarts_does_not_survive_its_sandbox() {
    let mut spec = one(json!({}));
    spec["restartPolicy"] = json!("Never");
    assert_eq!(bound(spec).lost("a", 137).steps(), []);
}

#[test]
fn a_pod_that_is_done_gives_its_network_back_and_keeps_its_sandbox() {
    let mut spec = one(json!({}));
    spec["restartPolicy"] = json!("Never");
    spec["initContainers"] = json!([{"name": "s", "restartPolicy": "Always"}]);
    let situation = connected(spec).running("s").ended("a", 0);
    // Helpers have nobody left to help.
    assert_eq!(stopped(&situation), [("s".to_owned(), 30)]);
    let situation = situation.ended("s", 143);
    assert_eq!(situation.steps(), [Step::Disconnect]);
    assert_eq!(Situation { network: Network::None, ..situation }.decision(), Decision::default());
}

#[test]
fn a_pod_that_the_api_has_as_done_is_not_started_again() {
    let mut situation = bound(one(json!({})));
    situation.pod.status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
    assert_eq!(situation.decision(), Decision::default());
}

#[test]
fn a_pod_may_not_run_longer_than_its_deadline() {
    let mut spec = one(json!({}));
    spec["activeDeadlineSeconds"] = json!(60);
    let mut situation = connected(spec).running("a");
    situation.pod.status = serde_json::from_value(json!({"startTime": "1970-01-01T00:16:00Z"})).unwrap();
    // Started at 960.
    assert_eq!((situation.steps(), situation.decision().wake), (vec![], Some(at(1020))));
    let late = situation.at(1020);
    assert!(matches!(&late.steps()[..], [Step::Stop { why: Why::Deadline, .. }]), "{:?}", late.steps());
}

#[test]
fn a_container_is_asked_to_end_once_the_api_knows() {
    let mut situation = connected(one(json!({}))).running("a").deleted(30);
    situation.is_told = false;
    assert_eq!((situation.steps(), situation.decision().wake), (vec![], Some(at(1005))));
    let told = Situation { is_told: true, ..situation.clone() };
    assert_eq!(stopped(&told), [("a".to_owned(), 30)]);
    // Without the API it ends all the same, and what it waited for is not given back.
    assert_eq!(stopped(&situation.clone().at(1005)), [("a".to_owned(), 25)]);
    // What the API does not have nobody has to be told of.
    let mut gone = situation.gone();
    gone.is_told = false;
    assert_eq!(stopped(&gone), [("a".to_owned(), 2)]);
}

#[test]
fn a_later_deletion_shortens_the_time() {
    let situation = connected(one(json!({}))).running("a").deleted(5);
    assert_eq!(stopped(&situation.clone().busy("a", Busy::Stopping(at(1030)))), [("a".to_owned(), 5)]);
    assert_eq!(situation.clone().busy("a", Busy::Stopping(at(1005))).steps(), []);
    assert_eq!(situation.busy("a", Busy::Making).steps(), []);
}

#[test]
fn helpers_end_after_those_they_help() {
    let spec = json!({
        "initContainers": [{"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}, {"name": "b"}],
    });
    let situation = connected(spec).running("s").running("a").running("b").deleted(10);
    assert_eq!(stopped(&situation), [("a".to_owned(), 10), ("b".to_owned(), 10)]);
    assert_eq!(stopped(&situation.ended("a", 0).ended("b", 0)), [("s".to_owned(), 10)]);
}

#[test]
fn network_sandbox_and_object_go_in_this_order() {
    let situation = connected(one(json!({}))).ended("a", 0).deleted(30);
    assert_eq!(situation.steps(), [Step::Disconnect]);
    let situation = Situation { network: Network::None, ..situation };
    assert_eq!(situation.steps(), [Step::RemoveSandbox]);
    let mut situation = Situation { sandbox: None, ..situation };
    assert_eq!(situation.steps(), [Step::DeletePod]);
    // Not before the API knows how it ended.
    situation.is_told = false;
    assert_eq!(situation.decision(), Decision::default());
    assert!(situation.gone().decision().is_over);
}

#[test]
fn what_is_left_of_an_unknown_pod_is_taken_down() {
    let mut situation = connected(one(json!({}))).running("a").gone();
    situation.pod.spec = None;
    assert_eq!(stopped(&situation), [("a".to_owned(), 2)]);
    assert_eq!(situation.ended("a", 143).steps(), [Step::Disconnect]);
}
