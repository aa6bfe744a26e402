//! Whether this proxy keeps up, and the server that says so on `/healthz` and `/livez`.
//!
//! A family is unhealthy once a sync that was asked for has been outstanding for too long. A proxy with nothing to do
//! is healthy, and so is one whose API server is away: the rules it wrote last keep working.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use jiff::Timestamp;
use switchyard_api::{IpFamily, Node};

use crate::http_server::{Handler, json, not_found};
use crate::metrics::Metrics;

/// The cluster autoscaler puts this taint on a node that it is about to remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// One moment on both clocks: spans are measured by the one that nobody sets, so that a stepped wall clock cannot
/// make a node unhealthy.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub instant: Instant,
    pub wall: Timestamp,
}

impl Moment {
    pub fn now() -> Moment {
        Moment { instant: Instant::now(), wall: Timestamp::now() }
    }
}

/// The state behind the health endpoints, without a clock of its own.
#[derive(Debug)]
pub struct HealthState {
    /// How long a sync may be outstanding.
    patience: Duration,
    families: BTreeMap<IpFamily, FamilyState>,
    /// `None` until a node object was seen. A node that vanished keeps its last answer.
    node_eligible: Option<bool>,
}

#[derive(Debug, Default)]
struct FamilyState {
    /// When the first sync was asked for that no update has answered yet.
    oldest_pending: Option<Instant>,
    last_updated: Option<Timestamp>,
}

/// The answer at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The sync health over all families that have reported.
    pub healthy: bool,
    pub node_eligible: bool,
    now: Timestamp,
    last_updated: Option<Timestamp>,
    families: BTreeMap<IpFamily, (Option<Timestamp>, bool)>,
}

impl HealthState {
    pub fn new(sync_period: Duration) -> HealthState {
        HealthState {
            patience: sync_period.saturating_mul(2),
            families: BTreeMap::new(),
            node_eligible: None,
        }
    }

    /// A sync of the family was asked for.
    pub fn queued(&mut self, family: IpFamily, now: Moment) {
        self.families.entry(family).or_default().oldest_pending.get_or_insert(now.instant);
    }

    /// The family's loop started, or a sync of it succeeded.
    pub fn updated(&mut self, family: IpFamily, now: Moment) {
        let state = self.families.entry(family).or_default();
        *state = FamilyState { oldest_pending: None, last_updated: Some(now.wall) };
    }

    /// The node object arrived or changed.
    pub fn node_seen(&mut self, node: &Node) {
        let leaving = node.spec.taints.iter().any(|taint| &*taint.key == TO_BE_DELETED);
        self.node_eligible = Some(!node.metadata.deletion_timestamp && !leaving);
    }

    pub fn report(&self, now: Moment) -> Report {
        let in_time = |state: &FamilyState| {
            state
                .oldest_pending
                .is_none_or(|since| now.instant.saturating_duration_since(since) < self.patience)
        };
        let families: BTreeMap<_, _> = self
            .families
            .iter()
            .map(|(family, state)| (*family, (state.last_updated, in_time(state))))
            .collect();
        Report {
            healthy: families.values().all(|(_, healthy)| *healthy),
            node_eligible: self.node_eligible.unwrap_or(false),
            now: now.wall,
            last_updated: families.values().filter_map(|(updated, _)| *updated).max(),
            families,
        }
    }
}

impl Report {
    /// Status and body of `/healthz`: load balancers stay away from a node that is about to go.
    pub fn healthz(&self) -> (StatusCode, String) {
        self.answer(self.healthy && self.node_eligible, Some(self.node_eligible))
    }

    /// Status and body of `/livez`: a restart would not help a node that is about to go, so only syncs count.
    pub fn livez(&self) -> (StatusCode, String) {
        self.answer(self.healthy, None)
    }

    fn answer(&self, good: bool, node_eligible: Option<bool>) -> (StatusCode, String) {
        let last_updated = if good { Some(self.now) } else { self.last_updated };
        let mut body = format!(
            "{{\"lastUpdated\":\"{}\",\"currentTime\":\"{}\"",
            go_time(last_updated),
            go_time(Some(self.now))
        );
        if let Some(eligible) = node_eligible {
            let _ = write!(body, ",\"nodeEligible\":{eligible}");
        }
        let _ = write!(body, ",\"healthy\":{}", self.healthy);
        if !self.families.is_empty() {
            let status: Vec<String> = self.families.iter().map(family_status).collect();
            let _ = write!(body, ",\"status\":{{{}}}", status.join(","));
        }
        body.push('}');
        (if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
    }
}

fn family_status((family, (updated, healthy)): (&IpFamily, &(Option<Timestamp>, bool))) -> String {
    let (family, updated) = (family.as_str(), go_time(*updated));
    format!("\"{family}\":{{\"lastUpdated\":\"{updated}\",\"healthy\":{healthy}}}")
}

/// RFC 3339 with as many decimals as needed; "never" is the zero of Go's clock.
fn go_time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}

/// [`HealthState`] shared between the loops, the node watch and the servers.
#[derive(Debug)]
pub struct ProxyHealth(Mutex<HealthState>);

impl ProxyHealth {
    pub fn new(sync_period: Duration) -> ProxyHealth {
        ProxyHealth(Mutex::new(HealthState::new(sync_period)))
    }

    pub fn queued(&self, family: IpFamily) {
        self.state().queued(family, Moment::now());
    }

    pub fn updated(&self, family: IpFamily) {
        self.state().updated(family, Moment::now());
    }

    pub fn node_seen(&self, node: &Node) {
        self.state().node_seen(node);
    }

    pub fn report(&self) -> Report {
        self.state().report(Moment::now())
    }

    fn state(&self) -> MutexGuard<'_, HealthState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the health server answers: exact paths, any method.
pub fn handler(health: Arc<ProxyHealth>, metrics: Arc<Metrics>) -> Handler {
    Arc::new(move |request| match request.uri().path() {
        "/healthz" => {
            let (status, body) = health.report().healthz();
            metrics.healthz_answered(status.as_u16());
            json(status, body)
        }
        "/livez" => {
            let (status, body) = health.report().livez();
            metrics.livez_answered(status.as_u16());
            json(status, body)
        }
        _ => not_found(),
    })
}

#[cfg(test)]
mod tests;
