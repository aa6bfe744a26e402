//! What is remembered of containers, and what is told of them in events.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::events::{Kind, Recorder};
use crate::pod::view::{Memory, Verdicts};
use crate::probe::{ProbeKind, Verdict};
use crate::runtime::{Container, End, State};

/// What an agent that ran before had told the API.
pub(super) fn memories(pod: &Pod) -> BTreeMap<String, Memory> {
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(statuses);
    all.map(|status| (status.name.clone(), memory(status))).collect()
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
}

fn memory(status: &ContainerStatus) -> Memory {
    let terminated = status.state.as_ref().and_then(|state| state.terminated.clone());
    let last = status.last_state.as_ref().and_then(|state| state.terminated.clone());
    let running = status.state.as_ref().and_then(|state| state.running.clone());
    let has_run = terminated.is_some() || last.is_some() || running.is_some();
    Memory {
        restarts: has_run.then(|| u32::try_from(status.restart_count).unwrap_or_default()),
        // If the runtime still knows the run that ended, that counts; this is what is left if it does not.
        before: last.or(terminated),
        verdicts: Verdicts {
            run: running.and_then(|running| running.started_at).map(|time| time.0).unwrap_or_default(),
            startup: status.started.filter(|started| *started),
            readiness: Some(status.ready),
            liveness: None,
        },
        ..Memory::default()
    }
}

/// What was told of a run that still goes on holds. The API has its start in whole seconds.
pub(super) fn keep_verdicts(
    memories: &mut BTreeMap<String, Memory>,
    containers: &BTreeMap<String, Container>,
) {
    for (name, memory) in memories {
        if let Some(run) = containers.get(name)
            && run.started.as_second() == memory.verdicts.run.as_second()
        {
            memory.verdicts.run = run.started;
        }
    }
}

/// The processes of the sandbox are gone, whatever was last heard of them.
pub(super) fn end_all(containers: &mut BTreeMap<String, Container>) {
    for container in containers.values_mut().filter(|container| container.state == State::Running) {
        container.state = State::Ended(End { exit_code: 137, signal: Some(9), at: Timestamp::now() });
    }
}

/// Whether what is told of a pod is older than what is known. Revisions of one object can be compared as numbers.
pub(super) fn is_older(told: &Pod, known: &Pod) -> bool {
    let revision = |pod: &Pod| pod.metadata.resource_version.as_deref()?.parse::<u64>().ok();
    match (revision(told), revision(known)) {
        (Some(told), Some(known)) => told < known,
        _ => false,
    }
}

pub(super) fn verdict(memories: &mut BTreeMap<String, Memory>, verdict: &Verdict) {
    let memory = memories.entry(verdict.container.clone()).or_default();
    if memory.verdicts.run != verdict.run {
        memory.verdicts = Verdicts { run: verdict.run, ..Verdicts::default() };
    }
    let succeeded = Some(verdict.succeeded);
    match verdict.kind {
        ProbeKind::Startup => memory.verdicts.startup = succeeded,
        ProbeKind::Liveness => memory.verdicts.liveness = succeeded,
        ProbeKind::Readiness => memory.verdicts.readiness = succeeded,
    }
}

/// Tells of containers that are left alone for a while.
pub(super) fn notice(events: &Recorder, pod: &Pod, before: &PodStatus, now: &PodStatus) {
    let reason = |status: &PodStatus, name: &str| {
        let status = statuses(status).find(|status| status.name == name)?;
        let waiting = status.state.as_ref()?.waiting.clone()?;
        Some((waiting.reason.unwrap_or_default(), status.restart_count))
    };
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    for status in statuses(now) {
        let name = status.name.as_str();
        let (new, old) = (reason(now, name), reason(before, name));
        if new == old {
            continue;
        }
        match new.as_ref().map(|(reason, _)| reason.as_str()) {
            Some("CrashLoopBackOff") => {
                let message = format!("Back-off restarting failed container {name} in pod {pod_name}");
                events.container(pod, name, Kind::Warning, "BackOff", message);
            }
            Some("ImagePullBackOff") => {
                let message = format!("Back-off pulling image {:?}", status.image);
                events.container(pod, name, Kind::Normal, "BackOff", message);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn an_agent_that_starts_again_knows_what_was_told() {
        let mut pod = testing::pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
        pod.status = serde_json::from_value(json!({"containerStatuses": [
            {"name": "a", "image": "", "imageID": "", "ready": true, "started": true, "restartCount": 3,
             "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
             "lastState": {"terminated": {"exitCode": 7}}},
            {"name": "b", "image": "", "imageID": "", "ready": false, "started": false, "restartCount": 0,
             "state": {"waiting": {"reason": "ContainerCreating"}}},
        ]}))
        .unwrap();
        let memories = memories(&pod);
        assert_eq!((memories["a"].restarts, memories["b"].restarts), (Some(3), None));
        assert_eq!(memories["a"].before.as_ref().map(|before| before.exit_code), Some(7));
        assert_eq!(memories["a"].verdicts.readiness, Some(true));
    }

    #[test]
    fn a_verdict_on_another_run_takes_the_place_of_the_old_ones() {
        let mut memories = BTreeMap::new();
        let run = |second| jiff::Timestamp::from_second(second).unwrap();
        let mut tell = |second, kind| {
            verdict(
                &mut memories,
                &Verdict { container: "a".to_owned(), run: run(second), kind, succeeded: true },
            );
            memories["a"].verdicts
        };
        tell(1, ProbeKind::Startup);
        assert_eq!(tell(1, ProbeKind::Readiness).startup, Some(true));
        assert_eq!(tell(2, ProbeKind::Liveness).startup, None);
    }
}
