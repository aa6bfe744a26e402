//! The task that looks after one pod.

mod probers;
mod record;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::decide::{Decision, Step, decide};
use super::perform::{Done, Outcome, Subject};
use super::view::{Busy, Desire, Failure, Memory, Network, Part, View};
use super::{spec, status, told};
use crate::core::{Core, blocking};
use crate::probe::Verdict;
use crate::runtime::{Container, Sandbox};
use probers::Probers;

/// Between two tries to tell the API something.
const API_RETRY: Duration = Duration::from_secs(1);
/// A look without any reason, should one have been missed.
const ANYWAY: Duration = Duration::from_secs(60);
/// What the containers of a pod get that the API does not have any more: its place may be taken already.
const FORCED_GRACE: Duration = Duration::from_secs(2);
/// Verdicts that may wait to be read.
const VERDICTS: usize = 16;

/// What the API says of a pod.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    pub(super) pod: Arc<Pod>,
    pub(super) is_in_api: bool,
}

/// Everything about one pod.
pub(super) struct Worker {
    core: Arc<Core>,
    desired: watch::Receiver<Desired>,
    ends: watch::Receiver<u64>,
    pod: Arc<Pod>,
    desire: Desire,
    sandbox: Option<Sandbox>,
    network: Network,
    /// The newest run of each container, also those of a sandbox that is gone.
    containers: BTreeMap<String, Container>,
    memories: BTreeMap<String, Memory>,
    busy: BTreeMap<Part, Busy>,
    failure: Option<Failure>,
    backoff: Backoff,
    /// What was told last; times of conditions are taken from there.
    before: PodStatus,
    /// When the API may be asked again, after it could not be.
    api_pause: Option<Instant>,
    steps: JoinSet<Done>,
    verdicts: mpsc::Receiver<Verdict>,
    probers: Probers,
}

impl Worker {
    /// For a pod of the API, or for a sandbox that an agent before left over, or for both.
    pub(super) fn new(
        core: Arc<Core>,
        desired: watch::Receiver<Desired>,
        sandbox: Option<Sandbox>,
    ) -> Worker {
        let pod = desired.borrow().pod.clone();
        let (sender, verdicts) = mpsc::channel(VERDICTS);
        let before = pod.status.clone().unwrap_or_default();
        Worker {
            ends: core.ends.subscribe(),
            probers: Probers::new(core.clone(), sender),
            memories: record::memories(&pod),
            desire: Desire::Run,
            network: Network::None,
            containers: BTreeMap::new(),
            busy: BTreeMap::new(),
            failure: None,
            backoff: Backoff::SHORT,
            api_pause: None,
            steps: JoinSet::new(),
            core,
            desired,
            pod,
            sandbox,
            before,
            verdicts,
        }
    }

    /// Until nothing is left of the pod here.
    pub(super) async fn run(mut self) {
        self.adopt().await;
        loop {
            self.take_desired();
            self.observe().await;
            let now = Timestamp::now();
            let status = status::status(&self.view(now, false), &self.before);
            let is_told = told::covers(&self.pod.status.clone().unwrap_or_default(), &status);
            let decision = decide(&self.view(now, is_told));
            if decision.is_over {
                return;
            }
            record::notice(&self.core.events, &self.pod, &self.before, &status);
            self.before = status;
            for step in decision.steps.clone() {
                self.begin(step);
            }
            if !is_told {
                self.tell();
            }
            self.probers.keep(
                &self.pod,
                self.desire,
                &self.containers,
                &self.memories,
                &self.busy,
                &self.network,
            );
            self.wait(&decision).await;
        }
    }

    /// What a sandbox that is there already is connected with.
    async fn adopt(&mut self) {
        let Some(sandbox) = self.sandbox.clone() else { return };
        let (core, is_done) = (self.core.clone(), spec::is_done(&self.pod));
        if sandbox.network.is_none() {
            if !is_done {
                self.network = Network::Attached(self.core.node_ips.clone());
            }
        } else if let Some(addresses) = blocking(move || core.cni.addresses(&sandbox)).await {
            self.network = Network::Attached(addresses);
        }
        self.observe().await;
        record::keep_verdicts(&mut self.memories, &self.containers);
    }

    fn take_desired(&mut self) {
        let desired = self.desired.borrow_and_update().clone();
        // What a write was answered with may be newer than what the watch has told so far.
        if !record::is_older(&desired.pod, &self.pod) {
            self.pod = desired.pod;
        }
        let is_deleted = self.pod.metadata.deletion_timestamp.is_some();
        if desired.is_in_api && !is_deleted {
            return;
        }
        let now = Timestamp::now();
        // Deleted by force, it still gets a moment.
        let grace = if desired.is_in_api { spec::grace(&self.pod) } else { FORCED_GRACE };
        let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
        let (since, deadline) = match self.desire {
            // A later word may only shorten the time.
            Desire::Stop { since, deadline, .. } => {
                (since, deadline.min(now.saturating_add(grace).unwrap_or(deadline)))
            }
            Desire::Run => (now, now.saturating_add(grace).unwrap_or(now)),
        };
        self.desire = Desire::Stop { since, deadline, is_in_api: desired.is_in_api };
    }

    /// What the runtime says. A runtime that does not answer is asked again later.
    async fn observe(&mut self) {
        let Some(sandbox) = &self.sandbox else { return };
        let (core, uid) = (self.core.clone(), sandbox.pod.uid.clone());
        let (containers, is_alive) = blocking(move || {
            let containers = core.runtime.containers(&uid);
            let is_alive = match &containers {
                // Only looked for in case of doubt: the list is of all sandboxes.
                Ok(containers)
                    if containers.iter().any(|one| one.state == crate::runtime::State::Running) =>
                {
                    Some(true)
                }
                _ => core
                    .runtime
                    .sandboxes()
                    .ok()
                    .map(|all| all.iter().any(|one| one.pod.uid == uid && one.alive)),
            };
            (containers, is_alive)
        })
        .await;
        match containers {
            Ok(containers) => {
                for container in containers {
                    self.containers.insert(container.name.clone(), container);
                }
            }
            Err(error) => {
                tracing::warn!(pod = self.pod.metadata.name, %error, "cannot see the containers of a pod");
            }
        }
        if let (Some(sandbox), Some(is_alive)) = (&mut self.sandbox, is_alive) {
            sandbox.alive = is_alive;
        }
        if is_alive == Some(false) {
            record::end_all(&mut self.containers);
        }
    }

    fn view(&self, now: Timestamp, is_told: bool) -> View<'_> {
        View {
            pod: &self.pod,
            desire: self.desire,
            sandbox: self.sandbox.as_ref(),
            network: &self.network,
            containers: &self.containers,
            memories: &self.memories,
            busy: &self.busy,
            failure: self.failure.as_ref(),
            backoff: self.backoff,
            is_told,
            host_ips: &self.core.node_ips,
            now,
        }
    }

    fn begin(&mut self, step: Step) {
        let now = Timestamp::now();
        let part = step.part();
        let mut busy = Busy::Making;
        match &step {
            Step::Start { container, .. } => self.note_start(container, now),
            Step::Stop { grace, .. } => {
                let grace = SignedDuration::try_from(*grace).unwrap_or(SignedDuration::MAX);
                busy = Busy::Stopping(now.saturating_add(grace).unwrap_or(now));
            }
            Step::DeletePod if self.api_is_paused() => return,
            Step::DeletePod | Step::MakeSandbox | Step::RemoveSandbox | Step::Connect | Step::Disconnect => {}
        }
        tracing::debug!(pod = self.pod.metadata.name, ?step, "a step");
        self.busy.insert(part, busy);
        self.steps.spawn(self.subject().perform(step));
    }

    fn note_start(&mut self, container: &str, now: Timestamp) {
        let before =
            self.containers.get(container).map(|run| status::terminated(&self.view(now, false), run));
        let memory = self.memories.entry(container.to_owned()).or_default();
        if before.is_some() && memory.failure.is_none() {
            memory.before = before;
        }
        memory.backoff.tried(now);
    }

    fn subject(&self) -> Subject {
        let pod_ips: Vec<IpAddr> = match &self.network {
            Network::Attached(addresses) => addresses.clone(),
            Network::None => Vec::new(),
        };
        Subject { core: self.core.clone(), pod: self.pod.clone(), sandbox: self.sandbox.clone(), pod_ips }
    }

    fn api_is_paused(&self) -> bool {
        self.api_pause.is_some_and(|until| Instant::now() < until)
    }

    fn tell(&mut self) {
        let is_in_api = !matches!(self.desire, Desire::Stop { is_in_api: false, .. });
        if !is_in_api || self.busy.contains_key(&Part::Object) || self.api_is_paused() {
            return;
        }
        self.busy.insert(Part::Object, Busy::Making);
        self.steps.spawn(self.subject().tell(self.before.clone()));
    }

    async fn wait(&mut self, decision: &Decision) {
        let mut wake = Instant::now() + ANYWAY;
        if let Some(at) = decision.wake {
            let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
            wake = wake.min(Instant::now() + left);
        }
        wake = self.api_pause.filter(|pause| *pause > Instant::now()).map_or(wake, |pause| wake.min(pause));
        tokio::select! {
            changed = self.desired.changed() => {
                if changed.is_err() {
                    // The agent ends; containers go on without it.
                    std::future::pending::<()>().await;
                }
            }
            _ = self.ends.changed() => {}
            Some(done) = self.steps.join_next() => match done {
                Ok(done) => self.take(done),
                Err(error) => tracing::error!(%error, "a step was broken off"),
            },
            Some(verdict) = self.verdicts.recv() => record::verdict(&mut self.memories, &verdict),
            () = sleep_until(wake) => {}
        }
    }

    fn take(&mut self, done: Done) {
        self.busy.remove(&done.part);
        match done.outcome {
            Outcome::Made(Ok(sandbox)) => {
                self.sandbox = Some(sandbox);
                self.failure = None;
            }
            Outcome::Removed(Ok(())) => self.forget_sandbox(),
            Outcome::Connected(Ok(addresses)) => {
                self.network = Network::Attached(addresses);
                self.failure = None;
                self.backoff = Backoff::SHORT;
            }
            Outcome::Disconnected(Ok(())) => {
                self.network = Network::None;
                self.failure = None;
            }
            Outcome::Made(Err(failure))
            | Outcome::Connected(Err(failure))
            | Outcome::Removed(Err(failure))
            | Outcome::Disconnected(Err(failure)) => {
                self.backoff.tried(failure.at);
                self.failure = Some(failure);
            }
            Outcome::Started { restarts, result } => {
                if let Part::Container(name) = done.part {
                    let memory = self.memories.entry(name).or_default();
                    memory.restarts = result.is_ok().then_some(restarts).or(memory.restarts);
                    memory.failure = result.err();
                }
            }
            Outcome::Stopped => {}
            Outcome::Told(Ok(Some(pod))) => {
                self.api_pause = None;
                self.pod = pod;
            }
            Outcome::Told(Ok(None)) | Outcome::Deleted(Ok(())) => {
                self.api_pause = Some(Instant::now() + API_RETRY);
            }
            Outcome::Told(Err(error)) | Outcome::Deleted(Err(error)) => {
                tracing::warn!(pod = self.pod.metadata.name, %error, "cannot tell the API of a pod");
                self.api_pause = Some(Instant::now() + API_RETRY);
            }
        }
    }

    /// Its containers went with it; how they ended stays known.
    fn forget_sandbox(&mut self) {
        self.sandbox = None;
        self.failure = None;
        if self.desire != Desire::Run {
            return;
        }
        let now = Timestamp::now();
        for (name, run) in std::mem::take(&mut self.containers) {
            let terminated = status::terminated(&self.view(now, false), &run);
            let memory = self.memories.entry(name).or_default();
            memory.before = Some(terminated);
            memory.restarts = Some(run.restarts);
        }
    }
}
