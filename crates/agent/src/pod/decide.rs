//! The next steps for a pod: a function of what is known of it, and of nothing else.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;

use super::spec::{self, RestartPolicy, Role};
use super::status::phase;
use super::view::{Busy, Desire, Network, Part, Stage, Unhealthy, View};
use crate::runtime::{Container as Run, State};

/// How long the API may take to know that a pod ends before its containers are asked to: without the API nobody can be
/// told, and they end all the same.
const ANNOUNCEMENT: SignedDuration = SignedDuration::from_secs(5);
/// What a container is given at least, even if all of its time was used up before.
const LEAST_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// A step to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The namespaces.
    MakeSandbox,
    RemoveSandbox,
    /// CNI ADD.
    Connect,
    /// CNI DEL.
    Disconnect,
    Start {
        container: String,
        /// How often it was started before.
        restarts: u32,
    },
    Stop {
        container: String,
        grace: Duration,
        why: Why,
    },
    /// From the API.
    DeletePod,
}

/// Why a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The pod was deleted.
    Deleted,
    /// The pod has done its work, or failed, and only helpers are left.
    Done,
    /// The pod may not run any longer.
    Deadline,
    Unhealthy(Unhealthy),
}

impl Step {
    /// What no other step may be taken for meanwhile.
    pub(super) fn part(&self) -> Part {
        match self {
            Step::MakeSandbox | Step::RemoveSandbox | Step::Connect | Step::Disconnect => Part::Sandbox,
            Step::Start { container, .. } | Step::Stop { container, .. } => {
                Part::Container(container.clone())
            }
            Step::DeletePod => Part::Object,
        }
    }
}

/// What follows from a view.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Decision {
    pub(super) steps: Vec<Step>,
    /// When to look again, whatever happens until then.
    pub(super) wake: Option<Timestamp>,
    /// Nothing is left of the pod here.
    pub(super) is_over: bool,
}

impl Decision {
    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

pub(super) fn decide(view: &View<'_>) -> Decision {
    let mut decision = Decision::default();
    match view.desire {
        Desire::Run if is_done(view) => settle(view, &mut decision),
        Desire::Run => run(view, &mut decision),
        Desire::Stop { since, deadline, is_in_api } => {
            stop(view, Ending { since, deadline, is_in_api }, &mut decision);
        }
    }
    decision
}

/// Whether its containers are not to be started again.
fn is_done(view: &View<'_>) -> bool {
    spec::is_done(view.pod) || deadline(view).is_some_and(|deadline| deadline <= view.now) || {
        matches!(phase(view), "Succeeded" | "Failed")
    }
}

/// Until when the pod may run, if that is limited.
pub(super) fn deadline(view: &View<'_>) -> Option<Timestamp> {
    let seconds = spec::spec(view.pod).active_deadline_seconds?;
    let start = view.pod.status.as_ref()?.start_time.as_ref()?.0;
    start.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// A pod that has done its work keeps its sandbox, for its logs, but not its address.
fn settle(view: &View<'_>, decision: &mut Decision) {
    let is_late = deadline(view).is_some_and(|deadline| deadline <= view.now);
    let why = if is_late { Why::Deadline } else { Why::Done };
    let grace = spec::spec(view.pod).termination_grace_period_seconds.unwrap_or(30);
    let deadline = view.now + SignedDuration::from_secs(grace);
    if stop_containers(view, deadline, why, decision) {
        disconnect(view, decision);
    }
}

/// True once the network is given back.
fn disconnect(view: &View<'_>, decision: &mut Decision) -> bool {
    if view.busy.contains_key(&Part::Sandbox) {
        return false;
    }
    if *view.network == Network::None {
        return true;
    }
    if waits(view, decision) {
        return false;
    }
    decision.steps.push(Step::Disconnect);
    false
}

/// After a failure with the sandbox there is a pause.
fn waits(view: &View<'_>, decision: &mut Decision) -> bool {
    let until = view.failure.and_then(|failure| view.backoff.wait(failure.at, view.now));
    if let Some(until) = until {
        decision.wake_at(until);
    }
    until.is_some()
}

fn run(view: &View<'_>, decision: &mut Decision) {
    if let Some(deadline) = deadline(view) {
        decision.wake_at(deadline);
    }
    if view.busy.contains_key(&Part::Sandbox) {
        return;
    }
    let step = match view.sandbox {
        None => Step::MakeSandbox,
        // Its processes were killed from outside. What it was connected with has to be given back first.
        Some(sandbox) if !sandbox.alive => {
            if !no_container_is_busy(view) || !disconnect(view, decision) {
                return;
            }
            Step::RemoveSandbox
        }
        Some(_) if *view.network == Network::None => Step::Connect,
        Some(_) => return run_containers(view, decision),
    };
    if !waits(view, decision) {
        decision.steps.push(step);
    }
}

fn no_container_is_busy(view: &View<'_>) -> bool {
    !view.busy.keys().any(|part| matches!(part, Part::Container(_)))
}

fn run_containers(view: &View<'_>, decision: &mut Decision) {
    for (_, container) in spec::containers(view.pod) {
        stop_if_unhealthy(view, container, decision);
    }
    let is_initialized = view.is_initialized();
    for (role, container) in spec::containers(view.pod) {
        match role {
            Role::Init if is_initialized => {}
            Role::Init => {
                start_if_needed(view, role, container, decision);
                if !matches!(view.stage(&container.name), Stage::Ended(_, 0)) {
                    return;
                }
            }
            Role::Sidecar => {
                start_if_needed(view, role, container, decision);
                if !is_initialized && !view.is_started(container) {
                    return;
                }
            }
            Role::Main => start_if_needed(view, role, container, decision),
        }
    }
}

fn stop_if_unhealthy(view: &View<'_>, container: &Container, decision: &mut Decision) {
    let Some(unhealthy) = view.is_unhealthy(container) else { return };
    if view.busy(&container.name).is_some() {
        return;
    }
    let probe = match unhealthy {
        Unhealthy::Startup => &container.startup_probe,
        Unhealthy::Liveness => &container.liveness_probe,
    };
    let own = probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
    let seconds = own.or(spec::spec(view.pod).termination_grace_period_seconds).unwrap_or(30);
    decision.steps.push(Step::Stop {
        container: container.name.clone(),
        grace: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
        why: Why::Unhealthy(unhealthy),
    });
}

fn start_if_needed(view: &View<'_>, role: Role, container: &Container, decision: &mut Decision) {
    if view.busy(&container.name).is_some() || !wants_to_run(view, role, &container.name) {
        return;
    }
    match wait_before_start(view, &container.name) {
        Some(until) => decision.wake_at(until),
        None => decision.steps.push(Step::Start {
            container: container.name.clone(),
            restarts: next_restart_count(view, &container.name),
        }),
    }
}

/// Whether a container that does not run is to be started.
pub(super) fn wants_to_run(view: &View<'_>, role: Role, name: &str) -> bool {
    let policy = spec::restart_policy(view.pod, role);
    match view.stage(name) {
        Stage::Running(_) => false,
        Stage::Ended(_, exit_code) => policy.restarts(exit_code),
        // It ran in a sandbox that was lost.
        Stage::Absent => {
            let has_run = view.memory(name).is_some_and(|memory| memory.restarts.is_some());
            !has_run || policy != RestartPolicy::Never
        }
    }
}

/// Until when a container that failed is left alone.
pub(super) fn wait_before_start(view: &View<'_>, name: &str) -> Option<Timestamp> {
    let memory = view.memory(name)?;
    let failed = match (&memory.failure, view.stage(name)) {
        (Some(failure), _) => failure.at,
        (None, Stage::Ended(Run { state: State::Ended(end), .. }, _)) => end.at,
        _ => return None,
    };
    memory.backoff.wait(failed, view.now)
}

fn next_restart_count(view: &View<'_>, name: &str) -> u32 {
    let of_runtime = view.containers.get(name).map(|container| container.restarts);
    let remembered = view.memory(name).and_then(|memory| memory.restarts);
    of_runtime.max(remembered).map_or(0, |count| count.saturating_add(1))
}

/// How a pod is to end.
#[derive(Debug, Clone, Copy)]
struct Ending {
    since: Timestamp,
    deadline: Timestamp,
    is_in_api: bool,
}

fn stop(view: &View<'_>, ending: Ending, decision: &mut Decision) {
    if !is_announced(view, ending, decision) {
        return;
    }
    if !stop_containers(view, ending.deadline, Why::Deleted, decision) || !disconnect(view, decision) {
        return;
    }
    if view.sandbox.is_some() {
        if !waits(view, decision) {
            decision.steps.push(Step::RemoveSandbox);
        }
    } else if !ending.is_in_api {
        decision.is_over = true;
    } else if view.is_told && !view.busy.contains_key(&Part::Object) {
        decision.steps.push(Step::DeletePod);
    }
}

/// Whoever sends traffic to the pod has to know that it ends before it does. A first container that is being stopped
/// shows that this was waited for already.
fn is_announced(view: &View<'_>, ending: Ending, decision: &mut Decision) -> bool {
    let is_running =
        |(_, container): (Role, &Container)| matches!(view.stage(&container.name), Stage::Running(_));
    let runs_all = spec::containers(view.pod).any(is_running)
        && !view.busy.values().any(|busy| matches!(busy, Busy::Stopping(_)));
    let limit = ending.since + ANNOUNCEMENT;
    if view.is_told || !ending.is_in_api || !runs_all || limit <= view.now {
        return true;
    }
    decision.wake_at(limit);
    false
}

/// Stops what runs, helpers after the containers that they help. True once nothing runs.
fn stop_containers(view: &View<'_>, deadline: Timestamp, why: Why, decision: &mut Decision) -> bool {
    let role = |name: &str| spec::container(view.pod, name).map(|(role, _)| role);
    let still = |name: &str| {
        let is_running = matches!(view.stage(name), Stage::Running(_));
        is_running || view.busy(name).is_some()
    };
    let names =
        view.containers.keys().map(String::as_str).chain(view.busy.keys().filter_map(|part| match part {
            Part::Container(name) => Some(name.as_str()),
            _ => None,
        }));
    let left: std::collections::BTreeSet<&str> = names.filter(|name| still(name)).collect();
    let helpers_only = left.iter().all(|name| role(name) == Some(Role::Sidecar));
    for name in left.iter().filter(|name| helpers_only || role(name) != Some(Role::Sidecar)) {
        let is_being_stopped = match view.busy(name) {
            None => false,
            // Being started, it cannot be stopped yet.
            Some(Busy::Making) => true,
            // A later deletion may leave it less time.
            Some(Busy::Stopping(until)) => until <= deadline + LEAST_GRACE,
        };
        if !is_being_stopped {
            let grace = deadline.duration_since(view.now).max(LEAST_GRACE);
            decision.steps.push(Step::Stop {
                container: (*name).to_owned(),
                grace: Duration::try_from(grace).unwrap_or_default(),
                why,
            });
        }
    }
    left.is_empty()
}

#[cfg(test)]
mod tests;
