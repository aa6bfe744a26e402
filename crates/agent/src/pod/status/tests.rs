use serde_json::{Value, json};

use super::*;
use crate::pod::testing::{Situation, at, bound, connected, one};
use crate::pod::view::{Busy, Failure, Verdicts};

fn json_status(situation: &Situation) -> Value {
    json!(situation.status())
}

#[track_caller]
fn condition(situation: &Situation, kind: &str) -> (String, String) {
    let conditions = situation.status().conditions.unwrap();
    let found = conditions.into_iter().find(|one| one.type_ == kind).unwrap();
    (found.status, found.reason.unwrap_or_default())
}

fn with_policy(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]})
}

#[test]
fn the_phase_follows_from_the_containers() {
    let both = |policy: &str| connected(with_policy(policy));
    for (what, situation, phase) in [
        ("nothing was started", both("Always"), "Pending"),
        ("one was started", both("Always").running("a"), "Pending"),
        ("both run", both("Always").running("a").running("b"), "Running"),
        ("one is to be started again", both("Always").running("a").ended("b", 1), "Running"),
        ("both are to be started again", both("Always").ended("a", 0).ended("b", 1), "Running"),
        ("one has done its work", both("OnFailure").running("a").ended("b", 0), "Running"),
        ("both have done their work", both("OnFailure").ended("a", 0).ended("b", 0), "Succeeded"),
        ("one has failed for good", both("Never").ended("a", 0).ended("b", 1), "Failed"),
        ("one still runs", both("Never").running("a").ended("b", 1), "Running"),
        (
            "both ended because they were asked to",
            both("Always").ended("a", 0).ended("b", 0).deleted(1),
            "Succeeded",
        ),
        ("one was killed", both("Always").ended("a", 0).ended("b", 137).deleted(1), "Failed"),
        ("both were lost and come back", both("Always").lost("a", 137).lost("b", 137), "Running"),
        ("both were lost for good", both("Never").lost("a", 137).lost("b", 137), "Failed"),
    ] {
        assert_eq!(situation.status().phase.as_deref(), Some(phase), "{what}");
    }
}

#[test]
fn a_phase_that_was_told_as_the_last_stays() {
    let mut situation = connected(with_policy("Always")).running("a").running("b");
    situation.pod.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
    assert_eq!(situation.status().phase.as_deref(), Some("Succeeded"));
}

#[test]
fn an_init_container_that_fails_for_good_fails_the_pod() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    assert_eq!(connected(spec("Never")).ended("i", 1).status().phase.as_deref(), Some("Failed"));
    assert_eq!(connected(spec("Always")).ended("i", 1).status().phase.as_deref(), Some("Pending"));
    let waiting = connected(spec("Always")).running("i");
    assert_eq!(
        condition(&waiting, "Initialized"),
        ("False".to_owned(), "ContainersNotInitialized".to_owned())
    );
    let status = json_status(&waiting);
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    assert_eq!(condition(&waiting.ended("i", 0), "Initialized").0, "True");
}

#[test]
fn a_pod_is_ready_when_its_containers_are() {
    let probed = one(json!({"startupProbe": {}, "readinessProbe": {}}));
    let verdicts = |startup, readiness| Verdicts { startup, readiness, ..Verdicts::default() };
    let (yes, no) = (Some(true), Some(false));
    for (verdicts, started, ready) in [
        (verdicts(None, None), false, "False"),
        (verdicts(yes, None), true, "False"),
        (verdicts(None, yes), false, "False"),
        (verdicts(yes, no), true, "False"),
        (verdicts(yes, yes), true, "True"),
    ] {
        let situation = connected(probed.clone()).running("a").with_verdicts("a", verdicts);
        assert_eq!(condition(&situation, "Ready").0, ready, "{verdicts:?}");
        assert_eq!(json_status(&situation)["containerStatuses"][0]["started"], started, "{verdicts:?}");
    }
    let plain = connected(one(json!({}))).running("a");
    assert_eq!(condition(&plain, "Ready").0, "True");
    // A hook after the start still runs.
    assert_eq!(condition(&plain.clone().busy("a", Busy::Making), "Ready").0, "False");
    // While it ends it serves on, and says so: that it gets nothing new is for others to see to.
    assert_eq!(condition(&plain.deleted(30), "Ready").0, "True");
}

#[test]
fn a_gate_of_somebody_elses_keeps_a_pod_from_being_ready() {
    let mut spec = one(json!({}));
    spec["readinessGates"] = json!([{"conditionType": "example.com/gate"}]);
    let mut situation = connected(spec).running("a");
    assert_eq!(condition(&situation, "Ready"), ("False".to_owned(), "ReadinessGatesNotReady".to_owned()));
    assert_eq!(condition(&situation, "ContainersReady").0, "True");
    let gate = json!({"conditions": [{"type": "example.com/gate", "status": "True"}]});
    situation.pod.status = serde_json::from_value(gate).unwrap();
    assert_eq!(condition(&situation, "Ready").0, "True");
}

#[test]
fn states_of_a_container_are_told_as_kubelet_tells_them() {
    let state = |situation: &Situation| json_status(situation)["containerStatuses"][0].clone();
    assert_eq!(state(&bound(one(json!({}))))["state"]["waiting"]["reason"], "ContainerCreating");

    let running = state(&connected(one(json!({}))).running("a"));
    assert_eq!(running["state"]["running"]["startedAt"], "1970-01-01T00:15:50Z");
    assert_eq!(running["containerID"], "switchyard://uid-1/a/0");

    let mut crashing = connected(one(json!({}))).ended("a", 2).at(995);
    crashing.memory("a").backoff.tried(at(980));
    let crashing = state(&crashing);
    assert_eq!(crashing["state"]["waiting"]["reason"], "CrashLoopBackOff");
    let message = crashing["state"]["waiting"]["message"].as_str().unwrap();
    assert_eq!(message, "back-off 10s restarting failed container=a pod=web_default(uid-1)");
    let last = &crashing["lastState"]["terminated"];
    assert_eq!((last["exitCode"].as_i64(), last["reason"].as_str()), (Some(2), Some("Error")));
    assert_eq!(last["finishedAt"], "1970-01-01T00:16:30Z");

    let mut unknown = connected(one(json!({})));
    let failure = Failure { at: at(1000), reason: "ErrImagePull", message: "no such image".to_owned() };
    unknown.memory("a").failure = Some(failure);
    unknown.memory("a").backoff.tried(at(1000));
    let waiting = state(&unknown)["state"]["waiting"].clone();
    assert_eq!(
        (waiting["reason"].as_str(), waiting["message"].as_str()),
        (Some("ImagePullBackOff"), Some("no such image"))
    );
}

#[test]
fn a_run_of_before_is_the_last_state_of_the_next() {
    let mut situation = connected(one(json!({}))).lost("a", 3).running("a");
    situation.containers.get_mut("a").unwrap().restarts = 4;
    let status = &json_status(&situation)["containerStatuses"][0];
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(status["restartCount"], 4);
}

#[test]
fn addresses_are_told_and_stay_known_after_they_were_given_back() {
    let connected = connected(one(json!({}))).running("a");
    let status = json_status(&connected);
    assert_eq!(
        (status["podIP"].as_str(), status["hostIP"].as_str()),
        (Some("10.244.1.2"), Some("192.0.2.1"))
    );
    assert_eq!(status["podIPs"], json!([{"ip": "10.244.1.2"}]));
    let mut ended = Situation { network: Network::None, ..connected };
    assert_eq!(json_status(&ended)["podIP"], Value::Null);
    ended.pod.status = serde_json::from_value(status).unwrap();
    assert_eq!(json_status(&ended)["podIP"], "10.244.1.2");
}

#[test]
fn a_condition_keeps_its_time_as_long_as_it_holds() {
    let mut situation = connected(one(json!({}))).running("a");
    situation.pod.status = Some(situation.status());
    let later = situation.at(2000);
    let ready = |situation: &Situation| {
        let conditions = situation.status().conditions.unwrap();
        let ready = conditions.into_iter().find(|one| one.type_ == "Ready").unwrap();
        ready.last_transition_time.unwrap().0.as_second()
    };
    assert_eq!(ready(&later), 1000);
    assert_eq!(ready(&later.ended("a", 1)), 2000);
}

#[test]
fn a_pod_past_its_deadline_has_failed_and_says_why() {
    let mut spec = one(json!({}));
    spec["activeDeadlineSeconds"] = json!(10);
    let mut situation = connected(spec).running("a");
    situation.pod.status = serde_json::from_value(json!({"startTime": "1970-01-01T00:16:00Z"})).unwrap();
    let status = situation.status();
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
}
