//! The status of one container.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus,
};

use super::time;
use crate::pod::decide::{wait_before_start, wants_to_run};
use crate::pod::spec::{self, Role};
use crate::pod::view::{Busy, Desire, Network, Stage, View};
use crate::runtime::{Container as Run, End, State};

pub(super) fn status(view: &View<'_>, role: Role, container: &Container) -> ContainerStatus {
    let run = view.containers.get(&container.name);
    let memory = view.memory(&container.name);
    let (state, last) = states(view, role, container);
    let restarts = run.map(|run| run.restarts).max(memory.and_then(|memory| memory.restarts)).unwrap_or(0);
    let id = run.map(|run| container_id(view, run));
    let image = container.image.clone().unwrap_or_default();
    let is_ready = match role {
        Role::Init => matches!(view.stage(&container.name), Stage::Ended(_, 0)),
        _ => view.is_ready(container),
    };
    ContainerStatus {
        name: container.name.clone(),
        image_id: if run.is_some() { image.clone() } else { String::new() },
        image: run.map_or(image, |run| run.image.clone()),
        container_id: id,
        ready: is_ready,
        started: Some(view.is_started(container)),
        restart_count: i32::try_from(restarts).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(last),
        ..ContainerStatus::default()
    }
}

/// Names one run of a container on this node.
fn container_id(view: &View<'_>, run: &Run) -> String {
    let uid = view.pod.metadata.uid.as_deref().unwrap_or_default();
    format!("switchyard://{uid}/{}/{}", run.name, run.restarts)
}

/// `state` and `lastState`.
fn states(view: &View<'_>, role: Role, container: &Container) -> (ContainerState, ContainerState) {
    let name = container.name.as_str();
    let before =
        view.memory(name).and_then(|memory| memory.before.clone()).map(terminated_state).unwrap_or_default();
    match view.stage(name) {
        Stage::Running(run) => {
            let running = ContainerStateRunning { started_at: Some(time(run.started)) };
            (ContainerState { running: Some(running), ..ContainerState::default() }, before)
        }
        Stage::Ended(run, _) => {
            let ended = terminated_state(terminated(view, run));
            match waiting_to_restart(view, role, name) {
                Some(waiting) => (waiting_state(waiting), ended),
                None => (ended, before),
            }
        }
        Stage::Absent => (waiting_state(waiting(view, role, name)), before),
    }
}

fn terminated_state(terminated: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn waiting_state(waiting: ContainerStateWaiting) -> ContainerState {
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// How a run ended, as the API tells it.
pub(in crate::pod) fn terminated(view: &View<'_>, run: &Run) -> ContainerStateTerminated {
    let end = match &run.state {
        State::Ended(end) => end.clone(),
        // Lost together with its sandbox.
        State::Running => End { exit_code: 137, signal: None, at: view.now },
    };
    ContainerStateTerminated {
        container_id: Some(container_id(view, run)),
        exit_code: end.exit_code,
        // Kubernetes tells signals in the exit code only.
        signal: None,
        reason: Some(if end.exit_code == 0 { "Completed" } else { "Error" }.to_owned()),
        message: None,
        started_at: Some(time(run.started)),
        finished_at: Some(time(end.at)),
    }
}

fn waiting_to_restart(view: &View<'_>, role: Role, name: &str) -> Option<ContainerStateWaiting> {
    let is_running_pod = view.desire == Desire::Run && !spec::is_done(view.pod);
    if !is_running_pod || !wants_to_run(view, role, name) {
        return None;
    }
    let memory = view.memory(name)?;
    if let Some(failure) = &memory.failure {
        return Some(reason(backed_off_reason(view, name, failure.reason), &failure.message));
    }
    wait_before_start(view, name)?;
    let pod = spec::name(view.pod);
    let message = format!(
        "back-off {}s restarting failed container={name} pod={}_{}({})",
        memory.backoff.seconds(),
        pod.name,
        pod.namespace,
        pod.uid
    );
    Some(reason("CrashLoopBackOff", &message))
}

fn waiting(view: &View<'_>, role: Role, name: &str) -> ContainerStateWaiting {
    let failure = view.memory(name).and_then(|memory| memory.failure.as_ref());
    match failure {
        Some(failure) if view.busy(name) != Some(Busy::Making) => {
            reason(backed_off_reason(view, name, failure.reason), &failure.message)
        }
        _ if role != Role::Init && has_init(view) && *view.network != Network::None => {
            reason("PodInitializing", "")
        }
        _ => reason("ContainerCreating", ""),
    }
}

fn has_init(view: &View<'_>) -> bool {
    spec::containers(view.pod).any(|(role, _)| role == Role::Init)
}

/// An image that could not be had is looked for again later, which has a name of its own.
fn backed_off_reason(view: &View<'_>, name: &str, reason: &'static str) -> &'static str {
    match reason {
        "ErrImagePull" if wait_before_start(view, name).is_some() => "ImagePullBackOff",
        reason => reason,
    }
}

fn reason(reason: &str, message: &str) -> ContainerStateWaiting {
    ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()).filter(|message| !message.is_empty()),
    }
}
