//! Takes the steps that were decided on. Each is tried once; what came of it is told to the worker.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};

use super::decide::{Step, Why};
use super::view::{Failure, Part, Unhealthy};
use super::{files, hooks, resolve, spec, told};
use crate::core::{Core, blocking, one_line};
use crate::events::Kind;
use crate::network::NETWORK_NOTE;
use crate::runtime::{RuntimeError, Sandbox, SandboxSpec};

/// What came of a step.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) part: Part,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Made(Result<Sandbox, Failure>),
    Removed(Result<(), Failure>),
    Connected(Result<Vec<IpAddr>, Failure>),
    Disconnected(Result<(), Failure>),
    Started {
        restarts: u32,
        result: Result<(), Failure>,
    },
    Stopped,
    /// The pod as the API has it now, `None` if it is gone.
    Told(Result<Option<Arc<Pod>>, kube::Error>),
    Deleted(Result<(), kube::Error>),
}

/// What a step needs to know of its pod.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) core: Arc<Core>,
    pub(super) pod: Arc<Pod>,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) pod_ips: Vec<IpAddr>,
}

impl Subject {
    pub(super) async fn perform(self, step: Step) -> Done {
        let part = step.part();
        let outcome = match step {
            Step::MakeSandbox => Outcome::Made(self.make_sandbox().await),
            Step::RemoveSandbox => Outcome::Removed(self.remove_sandbox().await),
            Step::Connect => Outcome::Connected(self.connect().await),
            Step::Disconnect => Outcome::Disconnected(self.disconnect().await),
            Step::Start { container, restarts } => {
                Outcome::Started { restarts, result: self.start(&container, restarts).await }
            }
            Step::Stop { container, grace, why } => {
                self.stop(&container, grace, why).await;
                Outcome::Stopped
            }
            Step::DeletePod => Outcome::Deleted(self.delete().await),
        };
        Done { part, outcome }
    }

    pub(super) async fn tell(self, status: PodStatus) -> Done {
        let patch = Patch::Strategic(told::patch(&self.pod, &status));
        let result =
            match self.api().patch_status(&self.pod.name_any(), &PatchParams::default(), &patch).await {
                Ok(pod) => Ok(Some(Arc::new(pod))),
                // It is gone, or another one of its name is there; the watch will tell.
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(None),
                Err(error) => Err(error),
            };
        Done { part: Part::Object, outcome: Outcome::Told(result) }
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.core.client.clone(), &self.pod.namespace().unwrap_or_default())
    }

    async fn make_sandbox(&self) -> Result<Sandbox, Failure> {
        let network = self.core.cni.network_name().ok();
        let annotations: BTreeMap<String, String> =
            network.into_iter().map(|name| (NETWORK_NOTE.to_owned(), name)).collect();
        let sandbox = SandboxSpec {
            pod: spec::name(&self.pod),
            hostname: spec::hostname(&self.pod),
            host_network: spec::is_on_host_network(&self.pod),
            annotations,
        };
        let core = self.core.clone();
        let result = blocking(move || core.runtime.create_sandbox(&sandbox)).await;
        result.map_err(|error| self.sandbox_failure("Failed to create pod sandbox", &error))
    }

    async fn remove_sandbox(&self) -> Result<(), Failure> {
        let (core, uid) = (self.core.clone(), self.pod.uid().unwrap_or_default());
        let remove = move || {
            let result = core.runtime.remove_sandbox(&uid);
            // What cannot be removed now is in nobody's way.
            if let Err(error) = files::remove(&core.root_dir, &uid) {
                tracing::warn!(%error, uid, "files of a pod stay behind");
            }
            result
        };
        let result = blocking(remove).await;
        result.map_err(|error| self.kill_failure(&error))
    }

    async fn connect(&self) -> Result<Vec<IpAddr>, Failure> {
        if spec::is_on_host_network(&self.pod) {
            return Ok(self.core.node_ips.clone());
        }
        let Some(sandbox) = self.sandbox.clone() else { return Ok(Vec::new()) };
        let (core, pod) = (self.core.clone(), self.pod.clone());
        let result = blocking(move || core.cni.connect(&pod, &sandbox)).await;
        result.map_err(|error| {
            self.sandbox_failure("Failed to create pod sandbox: connecting it to the network", &error)
        })
    }

    async fn disconnect(&self) -> Result<(), Failure> {
        let Some(sandbox) = self.sandbox.clone() else { return Ok(()) };
        if sandbox.network.is_none() {
            return Ok(());
        }
        let core = self.core.clone();
        let result = blocking(move || core.cni.disconnect(&sandbox)).await;
        result.map_err(|error| self.kill_failure(&error))
    }

    fn sandbox_failure(&self, doing: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
        let message = format!("{doing}: {}", one_line(error));
        self.core.events.pod(&self.pod, Kind::Warning, "FailedCreatePodSandBox", &message);
        Failure { at: Timestamp::now(), reason: "FailedCreatePodSandBox", message }
    }

    fn kill_failure(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        let message = format!("error killing pod: {}", one_line(error));
        self.core.events.pod(&self.pod, Kind::Warning, "FailedKillPod", &message);
        Failure { at: Timestamp::now(), reason: "FailedKillPod", message }
    }

    async fn start(&self, name: &str, restarts: u32) -> Result<(), Failure> {
        let Some((_, container)) = spec::container(&self.pod, name) else { return Ok(()) };
        let events = &self.core.events;
        let failure = |reason: &'static str, message: String| {
            events.container(&self.pod, name, Kind::Warning, "Failed", format!("Error: {message}"));
            Failure { at: Timestamp::now(), reason, message }
        };
        let resolved =
            resolve::container_spec(&self.core, &self.pod, container, &self.pod_ips, restarts).await;
        let resolved = resolved.map_err(|error| failure("CreateContainerConfigError", one_line(&error)))?;
        let image = resolved.image.clone();
        let (core, uid) = (self.core.clone(), self.pod.uid().unwrap_or_default());
        let result = blocking(move || core.runtime.start_container(&uid, &resolved)).await;
        result.map_err(|error| failure(start_reason(&error), one_line(&error)))?;
        for (reason, message) in [
            ("Pulled", format!("Container image {image:?} already present on machine")),
            ("Created", format!("Container created: {name}")),
            ("Started", format!("Container started: {name}")),
        ] {
            events.container(&self.pod, name, Kind::Normal, reason, message);
        }
        self.after_start(name).await
    }

    /// A container whose hook fails is of no use.
    async fn after_start(&self, name: &str) -> Result<(), Failure> {
        let hook = spec::container(&self.pod, name)
            .and_then(|(_, container)| container.lifecycle.as_ref()?.post_start.clone());
        let Some(hook) = hook else { return Ok(()) };
        let Err(error) = hooks::run(self, name, &hook).await else { return Ok(()) };
        let message = format!("PostStartHook failed: {error}");
        self.core.events.container(&self.pod, name, Kind::Warning, "FailedPostStartHook", &message);
        let grace = spec::spec(&self.pod).termination_grace_period_seconds.unwrap_or(30);
        self.end(name, Duration::from_secs(u64::try_from(grace).unwrap_or_default())).await;
        Err(Failure { at: Timestamp::now(), reason: "PostStartHookError", message })
    }

    async fn stop(&self, name: &str, grace: Duration, why: Why) {
        let message = match why {
            Why::Deleted | Why::Done => format!("Stopping container {name}"),
            Why::Deadline => format!("Stopping container {name}: the pod's active deadline is over"),
            Why::Unhealthy(Unhealthy::Startup) => {
                format!("Container {name} failed startup probe, will be restarted")
            }
            Why::Unhealthy(Unhealthy::Liveness) => {
                format!("Container {name} failed liveness probe, will be restarted")
            }
        };
        self.core.events.container(&self.pod, name, Kind::Normal, "Killing", message);
        let begun = tokio::time::Instant::now();
        let hook = spec::container(&self.pod, name)
            .and_then(|(_, container)| container.lifecycle.as_ref()?.pre_stop.clone());
        if let Some(hook) = hook {
            let result = tokio::time::timeout(grace, hooks::run(self, name, &hook)).await;
            let error = match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some(format!(
                    "it took longer than the {} s that the container has to end",
                    grace.as_secs()
                )),
            };
            if let Some(error) = error {
                let message = format!("PreStopHook failed: {error}");
                self.core.events.container(&self.pod, name, Kind::Warning, "FailedPreStopHook", message);
            }
        }
        // Whatever the hook took, the container gets a moment to end by itself.
        self.end(name, grace.saturating_sub(begun.elapsed()).max(Duration::from_secs(2).min(grace))).await;
    }

    async fn end(&self, name: &str, grace: Duration) {
        let (core, uid, name) = (self.core.clone(), self.pod.uid().unwrap_or_default(), name.to_owned());
        let result = blocking(move || core.runtime.stop_container(&uid, &name, grace)).await;
        if let Err(error) = result {
            self.kill_failure(&error);
            // If it still runs, it is tried again, but not at once.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn delete(&self) -> Result<(), kube::Error> {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: self.pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.api().delete(&self.pod.name_any(), &params).await {
            // It is gone, or another one of its name is there.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            result => result.map(drop),
        }
    }
}

/// The words that the API has for it.
fn start_reason(error: &RuntimeError) -> &'static str {
    match error {
        RuntimeError::UnknownImage { .. } => "ErrImagePull",
        RuntimeError::Command { .. } => "RunContainerError",
        _ => "CreateContainerError",
    }
}
