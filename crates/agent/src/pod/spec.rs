//! What a pod's spec says, with the defaults that the API has filled in.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt;

use crate::runtime::PodName;

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next one.
    Init,
    /// An init container that stays: the next one follows as soon as it has started.
    Sidecar,
    Main,
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    pub(crate) fn restarts(self, exit_code: i32) -> bool {
        match self {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
    }
}

pub(crate) fn name(pod: &Pod) -> PodName {
    PodName {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
    }
}

pub(crate) fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// In the order in which they are started.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = (Role, &Container)> {
    let spec = spec(pod);
    let init = spec.init_containers.iter().flatten().map(|container| (init_role(container), container));
    init.chain(spec.containers.iter().map(|container| (Role::Main, container)))
}

fn init_role(container: &Container) -> Role {
    match container.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    }
}

pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<(Role, &'a Container)> {
    containers(pod).find(|(_, container)| container.name == name)
}

pub(crate) fn pod_restart_policy(pod: &Pod) -> RestartPolicy {
    match spec(pod).restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

pub(crate) fn restart_policy(pod: &Pod, role: Role) -> RestartPolicy {
    match (role, pod_restart_policy(pod)) {
        (Role::Sidecar, _) => RestartPolicy::Always,
        // One that succeeded has done its work.
        (Role::Init, RestartPolicy::Always) => RestartPolicy::OnFailure,
        (_, policy) => policy,
    }
}

pub(crate) fn is_on_host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

/// The host name inside.
pub(crate) fn hostname(pod: &Pod) -> String {
    spec(pod).hostname.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| {
        // The kernel's longest; and no name may end like this.
        let name: String = pod.name_any().chars().take(63).collect();
        name.trim_end_matches(['-', '.']).to_owned()
    })
}

/// How long its containers are given to end.
pub(crate) fn grace(pod: &Pod) -> Duration {
    let of_deletion = pod.metadata.deletion_grace_period_seconds;
    let seconds = of_deletion.or(spec(pod).termination_grace_period_seconds).unwrap_or(30);
    // Nothing is killed without a word.
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default().max(1))
}

/// By the API, its containers have ended for good.
pub(crate) fn is_done(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
