//! What a Deployment tells of its rollout: `kubectl rollout status` reads nothing else.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::rollout::{Bounds, available, replicas};

/// `new` is the ReplicaSet of the current template, which is among `sets`.
pub(super) fn status(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    sets: &[&ReplicaSet],
    now: Timestamp,
) -> DeploymentStatus {
    let bounds = Bounds::of(deployment);
    let running = |set: &ReplicaSet| set.status.as_ref().map_or(0, |status| status.replicas);
    let ready =
        |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
    let total: i32 = sets.iter().map(|set| running(set)).sum();
    let total_available: i32 = sets.iter().map(|set| available(set)).sum();
    let wanted: i32 = sets.iter().map(|set| replicas(set)).sum();
    let present = |count: i32| Some(count).filter(|count| *count > 0);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: present(total),
        updated_replicas: present(new.map_or(0, running)),
        ready_replicas: present(sets.iter().map(|set| ready(set)).sum()),
        available_replicas: present(total_available),
        unavailable_replicas: present((wanted - total_available).max(0)),
        collision_count: deployment.status.as_ref().and_then(|status| status.collision_count),
        conditions: deployment.status.as_ref().and_then(|status| status.conditions.clone()),
        terminating_replicas: None,
    };
    let enough = total_available >= bounds.desired - bounds.unavailable;
    let availability = match enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned()),
        false => (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.".to_owned(),
        ),
    };
    set_condition(&mut status, "Available", availability, now);
    let before = deployment.status.clone().unwrap_or_default();
    let progress = progress(deployment, new, &before, &status, now);
    if let Some(progress) = progress {
        set_condition(&mut status, "Progressing", progress, now);
    }
    status
}

type Verdict = (&'static str, &'static str, String);

fn progress(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    before: &DeploymentStatus,
    now_is: &DeploymentStatus,
    now: Timestamp,
) -> Option<Verdict> {
    let spec = deployment.spec.as_ref()?;
    if spec.paused == Some(true) {
        return Some(("Unknown", "DeploymentPaused", "Deployment is paused".to_owned()));
    }
    let name = new.map(ResourceExt::name_any).unwrap_or_default();
    let desired = spec.replicas.unwrap_or(1);
    let is = |count: Option<i32>| count.unwrap_or_default();
    let is_complete = is(now_is.updated_replicas) == desired
        && is(now_is.replicas) == desired
        && is(now_is.available_replicas) == desired;
    if is_complete {
        return Some((
            "True",
            "NewReplicaSetAvailable",
            format!("ReplicaSet {name:?} has successfully progressed."),
        ));
    }
    let moved = is(now_is.updated_replicas) > is(before.updated_replicas)
        || is(now_is.ready_replicas) > is(before.ready_replicas)
        || is(now_is.available_replicas) > is(before.available_replicas)
        || is(now_is.replicas) - is(now_is.updated_replicas)
            < is(before.replicas) - is(before.updated_replicas);
    let condition = before.conditions.iter().flatten().find(|condition| condition.type_ == "Progressing");
    let Some(condition) = condition else {
        return Some(("True", "NewReplicaSetCreated", format!("Created new replica set {name:?}")));
    };
    if moved || condition.reason.as_deref() == Some("NewReplicaSetAvailable") {
        return Some(("True", "ReplicaSetUpdated", format!("ReplicaSet {name:?} is progressing.")));
    }
    let since = condition.last_update_time.as_ref().map_or(now, |time| time.0);
    let deadline = i64::from(spec.progress_deadline_seconds.unwrap_or(600));
    let is_late = now.as_second() - since.as_second() > deadline;
    is_late.then(|| {
        ("False", "ProgressDeadlineExceeded", format!("ReplicaSet {name:?} has timed out progressing."))
    })
}

/// A condition that says the same as before keeps its times, but for progress, whose last update is what the deadline
/// counts from.
fn set_condition(
    status: &mut DeploymentStatus,
    kind: &str,
    (value, reason, message): Verdict,
    now: Timestamp,
) {
    let now = Some(Time(now));
    let conditions = status.conditions.get_or_insert_with(Vec::new);
    let existing = conditions.iter_mut().find(|condition| condition.type_ == kind);
    let (value, reason, message) = (value.to_owned(), Some(reason.to_owned()), Some(message));
    match existing {
        Some(old) if old.status == value && old.reason == reason && old.message == message => {}
        Some(old) => {
            if old.status != value {
                old.last_transition_time.clone_from(&now);
            }
            (old.status, old.reason, old.message, old.last_update_time) = (value, reason, message, now);
        }
        None => conditions.push(DeploymentCondition {
            type_: kind.to_owned(),
            status: value,
            reason,
            message,
            last_update_time: now.clone(),
            last_transition_time: now,
        }),
    }
}
