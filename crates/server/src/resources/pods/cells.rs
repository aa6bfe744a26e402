//! The row of a pod in `kubectl get`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::Object;
use crate::registry::Column;
use crate::resources::table::{AGE, NAME, NONE, age, column, or_none, since};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "How many containers are ready, and how many there are", 0),
    column("Status", "string", "What the pod is doing", 0),
    column("Restarts", "string", "How often containers were started anew, and when last", 0),
    AGE,
    column("IP", "string", "The address of the pod", 1),
    column("Node", "string", "The node it runs on", 1),
    column("Nominated Node", "string", "The node that is being cleared for it", 1),
    column("Readiness Gates", "string", "How many further conditions are met, and how many there are", 1),
];

pub(super) fn row(pod: &Object, now: Timestamp) -> Vec<Value> {
    let state = State::of(pod);
    let address = match pod.list(&["status", "podIPs"]).first().map(|first| text(first, "ip")) {
        Some(address) => address,
        None => pod.text(&["status", "podIP"]),
    };
    vec![
        pod.name().into(),
        format!("{}/{}", state.ready, state.total).into(),
        state.reason.into(),
        restarts(state.restarts, state.last_restart.as_deref(), now).into(),
        age(pod, now).into(),
        or_none(address).into(),
        or_none(pod.text(&["spec", "nodeName"])).into(),
        or_none(pod.text(&["status", "nominatedNodeName"])).into(),
        readiness_gates(pod).into(),
    ]
}

/// `Completed` for pods that are done, so that tools can leave them out.
pub(super) fn conditions(pod: &Object) -> Vec<Value> {
    let (reason, message) = match pod.text(&["status", "phase"]) {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return Vec::new(),
    };
    vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
}

/// What the cells say of a pod's containers.
struct State {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    /// When a container that was started anew had ended.
    last_restart: Option<String>,
}

impl State {
    fn of(pod: &Object) -> State {
        let init_containers = pod.list(&["spec", "initContainers"]);
        let total = pod.list(&["spec", "containers"]).len()
            + init_containers.iter().filter(|container| stays(container)).count();
        let mut state = State { reason: first_reason(pod), ready: 0, total, restarts: 0, last_restart: None };
        let is_initializing = state.see_init_containers(pod);
        if !is_initializing || condition(pod, "Initialized").is_some_and(|one| text(one, "status") == "True")
        {
            state.see_containers(pod);
        }
        let phase = pod.text(&["status", "phase"]);
        if pod.is_being_deleted() && pod.text(&["status", "reason"]) == "NodeLost" {
            state.reason = "Unknown".to_owned();
        } else if pod.is_being_deleted() && !matches!(phase, "Succeeded" | "Failed") {
            state.reason = "Terminating".to_owned();
        }
        state
    }

    /// Whether one of them is not done yet.
    fn see_init_containers(&mut self, pod: &Object) -> bool {
        let specs = pod.list(&["spec", "initContainers"]);
        let statuses = pod.list(&["status", "initContainerStatuses"]);
        for (i, status) in statuses.iter().enumerate() {
            let spec = specs.iter().find(|spec| text(spec, "name") == text(status, "name"));
            let is_sidecar = spec.is_some_and(stays);
            self.see_restarts(status);
            let terminated = status.pointer("/state/terminated");
            if terminated.is_some_and(|end| number(end, "exitCode") == 0) {
                continue;
            }
            if is_sidecar && flag(status, "started") {
                self.ready += usize::from(flag(status, "ready"));
                continue;
            }
            let waiting = status.pointer("/state/waiting").map(|waiting| text(waiting, "reason"));
            self.reason = match (terminated, waiting) {
                (Some(end), _) => format!("Init:{}", end_reason(end)),
                (None, Some(reason)) if !reason.is_empty() && reason != "PodInitializing" => {
                    format!("Init:{reason}")
                }
                _ => format!("Init:{i}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    fn see_containers(&mut self, pod: &Object) {
        let mut is_any_running = false;
        let mut error_reason = None;
        for status in pod.list(&["status", "containerStatuses"]).iter().rev() {
            self.see_restarts(status);
            let waiting = status.pointer("/state/waiting").map(|waiting| text(waiting, "reason"));
            let terminated = status.pointer("/state/terminated");
            if let Some(reason) = waiting.filter(|reason| !reason.is_empty()) {
                reason.clone_into(&mut self.reason);
            } else if let Some(end) = terminated {
                self.reason = end_reason(end);
                if number(end, "exitCode") != 0 {
                    error_reason = Some(self.reason.clone());
                }
            } else if flag(status, "ready") && status.pointer("/state/running").is_some() {
                is_any_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            let is_ready = condition(pod, "Ready").is_some_and(|one| text(one, "status") == "True");
            if is_any_running && is_ready {
                "Running".clone_into(&mut self.reason);
            } else if let Some(error) = error_reason {
                self.reason = error;
            } else if is_any_running {
                "NotReady".clone_into(&mut self.reason);
            }
        }
    }

    fn see_restarts(&mut self, status: &Value) {
        self.restarts = self.restarts.saturating_add(number(status, "restartCount"));
        if let Some(end) = status.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str)
            && self.last_restart.as_deref().is_none_or(|latest| latest < end)
        {
            self.last_restart = Some(end.to_owned());
        }
    }
}

/// Before any container says more.
fn first_reason(pod: &Object) -> String {
    let gated = condition(pod, "PodScheduled").is_some_and(|one| text(one, "reason") == "SchedulingGated");
    let reason = match pod.text(&["status", "reason"]) {
        _ if gated => "SchedulingGated",
        "" => pod.text(&["status", "phase"]),
        reason => reason,
    };
    reason.to_owned()
}

fn end_reason(end: &Value) -> String {
    match (text(end, "reason"), number(end, "signal"), number(end, "exitCode")) {
        ("", 0, code) => format!("ExitCode:{code}"),
        ("", signal, _) => format!("Signal:{signal}"),
        (reason, ..) => reason.to_owned(),
    }
}

fn restarts(count: i64, last: Option<&str>, now: Timestamp) -> String {
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", since(last, now)),
        _ => count.to_string(),
    }
}

fn readiness_gates(pod: &Object) -> String {
    let gates = pod.list(&["spec", "readinessGates"]);
    let is_met = |gate: &&Value| {
        condition(pod, text(gate, "conditionType"))
            .is_some_and(|condition| text(condition, "status") == "True")
    };
    match gates.len() {
        0 => NONE.to_owned(),
        total => format!("{}/{total}", gates.iter().filter(is_met).count()),
    }
}

/// An init container that goes on running beside the others.
fn stays(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

fn condition<'a>(pod: &'a Object, kind: &str) -> Option<&'a Value> {
    pod.list(&["status", "conditions"]).iter().find(|condition| text(condition, "type") == kind)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, field: &str) -> i64 {
    value.get(field).and_then(Value::as_i64).unwrap_or_default()
}

fn flag(value: &Value, field: &str) -> bool {
    value.get(field) == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::object;

    fn cells(spec: Value, status: Value) -> Vec<String> {
        let pod = object(json!({"metadata": {"name": "p"}, "spec": spec, "status": status}));
        let now = Timestamp::from_second(3900).unwrap();
        row(&pod, now).iter().map(|cell| cell.as_str().unwrap().to_owned()).collect()
    }

    /// Ready, status and restarts.
    fn shown(spec: Value, status: Value) -> Vec<String> {
        cells(spec, status).drain(1..4).collect()
    }

    #[test]
    fn a_running_pod() {
        let gates = json!([{"conditionType": "x/y"}]);
        let spec = json!({"containers": [{"name": "c"}], "nodeName": "n1", "readinessGates": gates});
        let status = json!({
            "phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "x/y", "status": "True"}],
            "containerStatuses": [{
                "ready": true, "restartCount": 2, "state": {"running": {}},
                "lastState": {"terminated": {"finishedAt": "1970-01-01T00:00:00Z"}},
            }],
        });
        let expected = ["p", "1/1", "Running", "2 (65m ago)", "<unknown>", "10.0.0.1", "n1", "<none>", "1/1"];
        assert_eq!(cells(spec, status), expected);
    }

    #[test]
    fn the_status_says_what_keeps_a_pod_from_running() {
        let containers = json!({"containers": [{"name": "c"}, {"name": "d"}]});
        let both = |one: Value, other: Value| {
            let statuses = json!([{"state": one}, {"state": other, "ready": true}]);
            json!({"phase": "Running", "containerStatuses": statuses})
        };
        let end = |code: i64| {
            let reason = if code == 0 { "Completed" } else { "Error" };
            json!({"terminated": {"exitCode": code, "reason": reason}})
        };
        let running = json!({"running": {}});
        let cases = [
            (json!({"phase": "Pending"}), ["0/2", "Pending", "0"]),
            (
                both(json!({"waiting": {"reason": "CrashLoopBackOff"}}), running.clone()),
                ["1/2", "CrashLoopBackOff", "0"],
            ),
            (both(end(0), running.clone()), ["1/2", "NotReady", "0"]),
            (both(end(0), end(1)), ["0/2", "Error", "0"]),
            (both(end(0), end(0)), ["0/2", "Completed", "0"]),
            (both(json!({"terminated": {"signal": 9}}), running), ["1/2", "Signal:9", "0"]),
            (json!({"phase": "Failed", "reason": "Evicted"}), ["0/2", "Evicted", "0"]),
        ];
        for (status, expected) in cases {
            assert_eq!(shown(containers.clone(), status.clone()), expected, "{status}");
        }
    }

    #[test]
    fn init_containers_come_first() {
        let spec = json!({
            "containers": [{"name": "c"}],
            "initContainers": [{"name": "a"}, {"name": "s", "restartPolicy": "Always"}, {"name": "b"}],
        });
        let status = |last: Value| {
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "a", "state": {"terminated": {"exitCode": 0}}},
                {"name": "s", "state": {"running": {}}, "started": true, "ready": true},
                {"name": "b", "state": last},
            ]})
        };
        let cases = [
            (json!({"running": {}}), "Init:2/3"),
            (json!({"waiting": {"reason": "PodInitializing"}}), "Init:2/3"),
            (json!({"waiting": {"reason": "ErrImagePull"}}), "Init:ErrImagePull"),
            (json!({"terminated": {"exitCode": 3}}), "Init:ExitCode:3"),
        ];
        for (last, expected) in cases {
            assert_eq!(shown(spec.clone(), status(last)), ["1/2", expected, "0"]);
        }
    }

    #[test]
    fn a_pod_that_is_being_deleted_terminates() {
        let mut pod = object(json!({"spec": {}, "status": {"phase": "Running"}}));
        pod.set(&["metadata", "deletionTimestamp"], "1970-01-01T00:00:00Z");
        assert_eq!(State::of(&pod).reason, "Terminating");
        pod.set(&["status", "reason"], "NodeLost");
        assert_eq!(State::of(&pod).reason, "Unknown");
        pod.set(&["status"], json!({"phase": "Succeeded"}));
        assert_eq!(State::of(&pod).reason, "Succeeded");
        assert_eq!(conditions(&pod)[0]["message"], json!("The pod has completed successfully."));
    }
}
