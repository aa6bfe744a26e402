//! What the API is told of a pod: a function of what is known of it.

mod containers;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::{deadline, wants_to_run};
use super::spec::{self, Role};
use super::view::{Desire, Network, Stage, View};

pub(super) use containers::terminated;

/// Whole seconds, as the API keeps them.
pub(super) fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// `before` is the status that was told before, whose times stay where nothing has changed.
pub(super) fn status(view: &View<'_>, before: &PodStatus) -> PodStatus {
    let phase = phase(view);
    let is_late = phase == "Failed" && deadline(view).is_some_and(|deadline| deadline <= view.now);
    let addresses = match view.network {
        Network::Attached(addresses) => addresses.clone(),
        // It keeps showing what it had.
        Network::None => known_addresses(before),
    };
    let (init, main): (Vec<_>, Vec<_>) =
        spec::containers(view.pod).partition(|(role, _)| *role != Role::Main);
    let statuses = |containers: Vec<_>| -> Option<Vec<_>> {
        let all: Vec<_> =
            containers.into_iter().map(|(role, one)| containers::status(view, role, one)).collect();
        (!all.is_empty()).then_some(all)
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        reason: is_late.then(|| "DeadlineExceeded".to_owned()),
        message: is_late.then(|| "Pod was active on the node longer than the specified deadline".to_owned()),
        conditions: Some(conditions(view, phase, before)),
        host_ip: view.host_ips.first().map(ToString::to_string),
        host_ips: Some(view.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: addresses.first().map(ToString::to_string),
        pod_ips: (!addresses.is_empty())
            .then(|| addresses.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        start_time: before.start_time.clone().or_else(|| Some(time(view.now))),
        init_container_statuses: statuses(init),
        container_statuses: statuses(main),
        observed_generation: view.pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn known_addresses(status: &PodStatus) -> Vec<std::net::IpAddr> {
    status.pod_ips.iter().flatten().filter_map(|address| address.ip.parse().ok()).collect()
}

/// Kubelet's rules. A pod that has reached its end stays there.
pub(super) fn phase(view: &View<'_>) -> &'static str {
    let told = view.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match told {
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    if deadline(view).is_some_and(|deadline| deadline <= view.now) {
        return "Failed";
    }
    let is_ending = matches!(view.desire, Desire::Stop { .. });
    let mut count = Count::default();
    for (role, container) in spec::containers(view.pod) {
        let memory = view.memory(&container.name);
        let is_final = is_ending || !wants_to_run(view, role, &container.name);
        match (role, view.stage(&container.name)) {
            (_, Stage::Running(_)) => count.running += usize::from(role == Role::Main),
            (Role::Init, Stage::Ended(_, 0)) => {}
            (Role::Init, Stage::Ended(..)) if is_final && !view.is_initialized() => count.init_failed = true,
            (Role::Init | Role::Sidecar, _) => {}
            (Role::Main, Stage::Ended(_, code)) if is_final => count.end(code),
            (Role::Main, Stage::Ended(..)) => count.restarting += 1,
            (Role::Main, Stage::Absent) => match memory.and_then(|memory| memory.before.as_ref()) {
                Some(before) if is_final => count.end(before.exit_code),
                Some(_) => count.restarting += 1,
                None => count.waiting += 1,
            },
        }
    }
    match count {
        Count { init_failed: true, .. } => "Failed",
        Count { waiting: 1.., .. } => "Pending",
        Count { running: 1.., .. } | Count { restarting: 1.., .. } => "Running",
        Count { failed: 1.., .. } => "Failed",
        Count { succeeded: 1.., .. } => "Succeeded",
        Count { .. } => "Pending",
    }
}

/// The main containers, by where they are.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    init_failed: bool,
    waiting: usize,
    running: usize,
    restarting: usize,
    succeeded: usize,
    failed: usize,
}

impl Count {
    fn end(&mut self, exit_code: i32) {
        match exit_code {
            0 => self.succeeded += 1,
            _ => self.failed += 1,
        }
    }
}

fn conditions(view: &View<'_>, phase: &str, before: &PodStatus) -> Vec<PodCondition> {
    let is_done = matches!(phase, "Succeeded" | "Failed");
    let done_reason = match phase {
        "Succeeded" => "PodCompleted",
        _ => "PodFailed",
    };
    let unready: Vec<&str> = spec::containers(view.pod)
        .filter(|(role, one)| *role != Role::Init && !view.is_ready(one))
        .map(|(_, one)| one.name.as_str())
        .collect();
    let containers_ready = if is_done {
        Truth::no(done_reason, "")
    } else if unready.is_empty() {
        Truth::yes()
    } else {
        Truth::no("ContainersNotReady", &format!("containers with unready status: [{}]", unready.join(" ")))
    };
    let ready = match missing_gate(view) {
        Some(gate) if containers_ready.value => Truth::no(
            "ReadinessGatesNotReady",
            &format!("the status of pod readiness gate {gate:?} is not \"True\""),
        ),
        _ => containers_ready.clone(),
    };
    let has_network = view.sandbox.is_some() && *view.network != Network::None;
    [
        ("PodReadyToStartContainers", if has_network { Truth::yes() } else { Truth::no("", "") }),
        ("Initialized", initialized(view, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
    ]
    .into_iter()
    .map(|(kind, truth)| condition(kind, truth, view.now, before))
    .collect()
}

fn initialized(view: &View<'_>, phase: &str) -> Truth {
    if phase == "Succeeded" {
        return Truth { reason: "PodCompleted".to_owned(), ..Truth::yes() };
    }
    if view.is_initialized() {
        return Truth::yes();
    }
    let is_waiting = |(role, name): (Role, &str)| match role {
        Role::Init => !matches!(view.stage(name), Stage::Ended(_, 0)),
        Role::Sidecar => !matches!(view.stage(name), Stage::Running(_)),
        Role::Main => false,
    };
    let waiting: Vec<&str> = spec::containers(view.pod)
        .filter(|(role, one)| is_waiting((*role, &one.name)))
        .map(|(_, one)| one.name.as_str())
        .collect();
    let message = format!("containers with incomplete status: [{}]", waiting.join(" "));
    Truth::no("ContainersNotInitialized", &message)
}

/// A condition of somebody else's that the pod waits for before it is ready.
fn missing_gate<'a>(view: &View<'a>) -> Option<&'a str> {
    let conditions =
        view.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_true =
        |kind: &str| conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True");
    let gates = spec::spec(view.pod).readiness_gates.iter().flatten();
    gates.map(|gate| gate.condition_type.as_str()).find(|gate| !is_true(gate))
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Truth {
    value: bool,
    reason: String,
    message: String,
}

impl Truth {
    fn yes() -> Truth {
        Truth { value: true, reason: String::new(), message: String::new() }
    }

    fn no(reason: &str, message: &str) -> Truth {
        Truth { value: false, reason: reason.to_owned(), message: message.to_owned() }
    }
}

fn condition(kind: &str, truth: Truth, now: Timestamp, before: &PodStatus) -> PodCondition {
    let status = if truth.value { "True" } else { "False" };
    let old = before.conditions.iter().flatten().find(|old| old.type_ == kind && old.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(truth.reason).filter(|reason| !reason.is_empty()),
        message: Some(truth.message).filter(|message| !message.is_empty()),
        last_transition_time: old
            .and_then(|old| old.last_transition_time.clone())
            .or_else(|| Some(time(now))),
        ..PodCondition::default()
    }
}

#[cfg(test)]
mod tests;
