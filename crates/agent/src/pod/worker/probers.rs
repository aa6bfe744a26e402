//! The tasks that probe the containers of one pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerOfSpec, Pod, Probe};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::core::Core;
use crate::pod::spec;
use crate::pod::view::{Busy, Desire, Memory, Network, Part};
use crate::probe::{self, ProbeKind, Probed, Target, Verdict};
use crate::runtime::{Container, State};

/// One container, one probe.
type Key = (String, ProbeKind);

pub(super) struct Probers {
    core: Arc<Core>,
    verdicts: mpsc::Sender<Verdict>,
    /// Also those that have found out all there is, so that they are not started again for the same run.
    running: BTreeMap<Key, (Timestamp, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Probers {
    pub(super) fn new(core: Arc<Core>, verdicts: mpsc::Sender<Verdict>) -> Probers {
        Probers { core, verdicts, running: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Starts the probes that are missing and ends those that are not wanted any more.
    pub(super) fn keep(
        &mut self,
        pod: &Arc<Pod>,
        desire: Desire,
        containers: &BTreeMap<String, Container>,
        memories: &BTreeMap<String, Memory>,
        busy: &BTreeMap<Part, Busy>,
        network: &Network,
    ) {
        while self.tasks.try_join_next().is_some() {}
        let mut wanted: BTreeMap<Key, (Timestamp, Probed)> = BTreeMap::new();
        for (_, container) in spec::containers(pod) {
            let Some(run) = containers.get(&container.name).filter(|run| run.state == State::Running) else {
                continue;
            };
            if busy.get(&Part::Container(container.name.clone())) == Some(&Busy::Making) {
                continue;
            }
            let verdicts = memories.get(&container.name).map(|memory| memory.verdicts).unwrap_or_default();
            let verdicts = if verdicts.run == run.started { verdicts } else { Default::default() };
            for (kind, probe) in probes(container, verdicts.startup == Some(true), desire) {
                let address = match network {
                    Network::Attached(addresses) => addresses.first().copied(),
                    Network::None => None,
                };
                let target = Target {
                    runtime: self.core.runtime.clone(),
                    uid: spec::name(pod).uid,
                    container: container.name.clone(),
                    address,
                };
                let probed = Probed {
                    target,
                    pod: pod.clone(),
                    run: run.started,
                    kind,
                    probe: probe.clone(),
                    ports: container.ports.clone().unwrap_or_default(),
                    verdict: match kind {
                        ProbeKind::Startup => None,
                        ProbeKind::Liveness => verdicts.liveness,
                        ProbeKind::Readiness => verdicts.readiness,
                    },
                };
                wanted.insert((container.name.clone(), kind), (run.started, probed));
            }
        }
        self.running.retain(|key, (run, task)| {
            let stays = wanted.get(key).is_some_and(|(wanted, _)| wanted == run);
            if !stays {
                task.abort();
            }
            stays
        });
        for (key, (run, probed)) in wanted {
            if !self.running.contains_key(&key) {
                let task =
                    self.tasks.spawn(probe::run(probed, self.core.events.clone(), self.verdicts.clone()));
                self.running.insert(key, (run, task));
            }
        }
    }
}

/// The probes of a container that apply now. While a pod ends, only whether it can still serve is of interest.
fn probes(container: &ContainerOfSpec, has_started: bool, desire: Desire) -> Vec<(ProbeKind, &Probe)> {
    let is_ending = desire != Desire::Run;
    if let Some(probe) = container.startup_probe.as_ref().filter(|_| !has_started) {
        return if is_ending { Vec::new() } else { vec![(ProbeKind::Startup, probe)] };
    }
    let liveness = container.liveness_probe.as_ref().filter(|_| !is_ending);
    let readiness = container.readiness_probe.as_ref();
    let liveness = liveness.map(|probe| (ProbeKind::Liveness, probe));
    liveness.into_iter().chain(readiness.map(|probe| (ProbeKind::Readiness, probe))).collect()
}
