//! Looks again and again, and tells of every new verdict.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerPort, Pod, Probe};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::threshold::Threshold;
use super::{ProbeKind, Target, exec, http_get, tcp_connect};
use crate::events::{Kind, Recorder};

/// What a probe found of one run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) container: String,
    /// When the run started.
    pub(crate) run: Timestamp,
    pub(crate) kind: ProbeKind,
    pub(crate) succeeded: bool,
}

/// What is to be probed.
#[derive(Debug, Clone)]
pub(crate) struct Probed {
    pub(crate) target: Target,
    pub(crate) pod: Arc<Pod>,
    pub(crate) run: Timestamp,
    pub(crate) kind: ProbeKind,
    pub(crate) probe: Probe,
    pub(crate) ports: Vec<ContainerPort>,
    /// The verdict so far.
    pub(crate) verdict: Option<bool>,
}

/// Probes until there is nothing more to find out: a container that has started, or that is to be started anew.
pub(crate) async fn run(probed: Probed, events: Recorder, verdicts: mpsc::Sender<Verdict>) {
    let probe = &probed.probe;
    let number = |value: Option<i32>, default: u32| {
        value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
    };
    let mut threshold =
        Threshold::new(number(probe.success_threshold, 1), number(probe.failure_threshold, 3))
            .with_verdict(probed.verdict);
    let limit = Duration::from_secs(number(probe.timeout_seconds, 1).into());
    let period = Duration::from_secs(number(probe.period_seconds, 10).into());
    let delay = Duration::from_secs(number(probe.initial_delay_seconds, 0).into());
    let age = Timestamp::now().duration_since(probed.run);
    let first = delay.saturating_sub(Duration::try_from(age).unwrap_or_default());
    let mut ticks = interval_at(Instant::now() + first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let look = look(&probed, limit).await;
        if let Err(cause) = &look {
            let message = format!("{} probe failed: {cause}", probed.kind.as_str());
            events.container(&probed.pod, &probed.target.container, Kind::Warning, "Unhealthy", message);
        }
        let Some(succeeded) = threshold.record(look.is_ok()) else { continue };
        let verdict = Verdict {
            container: probed.target.container.clone(),
            run: probed.run,
            kind: probed.kind,
            succeeded,
        };
        let is_final = match probed.kind {
            ProbeKind::Startup => true,
            ProbeKind::Liveness => !succeeded,
            ProbeKind::Readiness => false,
        };
        if verdicts.send(verdict).await.is_err() || is_final {
            return;
        }
    }
}

async fn look(probed: &Probed, limit: Duration) -> Result<String, String> {
    let Probed { target, probe, ports, .. } = probed;
    if let Some(action) = &probe.exec {
        exec(target, action.command.as_deref().unwrap_or_default(), limit).await
    } else if let Some(action) = &probe.http_get {
        http_get(target, action, ports, limit).await
    } else if let Some(action) = &probe.tcp_socket {
        tcp_connect(target, action, ports, limit).await
    } else {
        Err("gRPC probes are not supported; use httpGet, tcpSocket or exec".to_owned())
    }
}
