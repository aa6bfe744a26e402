//! One sync of one family: commit what changed, let the mode write it, and tell everybody who waits for that.

use std::collections::BTreeSet;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use switchyard_kernel::conntrack::Conntrack;
use switchyard_kernel::memory;
use switchyard_model::{Commit, Forwarding, IpFamily, ObjectKey, PortChange, ServicePortName, ServiceTable};

use crate::events::EventRecorder;
use crate::health::ProxyHealth;
use crate::metrics::Metrics;
use crate::mode::Mode;
use crate::service_health::ServiceHealth;
use crate::{conntrack_cleanup, klog_error, klog_info, logging, reports};

/// Even where nothing seems wrong, everything is written anew this often.
pub const FULL_SYNC_PERIOD: Duration = Duration::from_secs(3600);

/// The table is shared with the control task, which must never wait for a sync: it is locked for a commit only.
pub type SharedTable = Arc<Mutex<ServiceTable>>;

pub fn lock(table: &SharedTable) -> MutexGuard<'_, ServiceTable> {
    // A panic while the lock was held leaves the table usable: every change is complete in itself.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What other threads tell a family's syncs.
#[derive(Debug, Clone, Default)]
pub struct Signals(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    initialized: AtomicBool,
    full: AtomicBool,
    check: AtomicBool,
}

impl Signals {
    /// All Services and EndpointSlices that existed at the start have been delivered. Nothing is written before that:
    /// half a cluster's state would take the other half's rules away.
    pub fn initialize(&self) {
        self.0.initialized.store(true, Ordering::Release);
    }

    pub fn is_initialized(&self) -> bool {
        self.0.initialized.load(Ordering::Acquire)
    }

    /// The next sync trusts nothing that was written before.
    pub fn ask_for_full_sync(&self) {
        self.0.full.store(true, Ordering::Release);
    }

    /// The next sync looks first whether the way into our rules is still there.
    pub fn ask_for_check(&self) {
        self.0.check.store(true, Ordering::Release);
    }

    fn take_full(&self) -> bool {
        self.0.full.swap(false, Ordering::AcqRel)
    }

    fn take_check(&self) -> bool {
        self.0.check.swap(false, Ordering::AcqRel)
    }
}

/// Everything that a family's syncs need. Lives on its runner's thread.
#[derive(Debug)]
pub struct FamilySync {
    pub family: IpFamily,
    pub table: SharedTable,
    pub mode: Box<dyn Mode>,
    pub signals: Signals,
    /// `None` where connection tracking cannot be reached: stale UDP flows then end by their time-out.
    pub conntrack: Option<Box<dyn Conntrack>>,
    pub health: Arc<ProxyHealth>,
    pub service_health: ServiceHealth,
    pub metrics: Arc<Metrics>,
    pub events: EventRecorder,
    /// When the runner tries again after a failure; for the log line.
    pub retry_after: Duration,
    /// Changes from before this process say nothing about how fast it is.
    pub since: Timestamp,
    pub progress: Progress,
}

/// What one sync leaves for the next.
#[derive(Debug, Default)]
pub struct Progress {
    last_full: Option<Instant>,
    /// Of syncs that failed, for the one that will succeed.
    unfinished: Unfinished,
    /// Services whose health check port could not be opened.
    closed_health_checks: BTreeSet<ObjectKey>,
}

#[derive(Debug, Default)]
struct Unfinished {
    changed: BTreeSet<ServicePortName>,
    udp_endpoints_changed: bool,
    trigger_times: Vec<(ObjectKey, Timestamp)>,
}

impl Unfinished {
    fn add(&mut self, commit: &mut Commit) {
        self.changed.append(&mut commit.changed);
        self.udp_endpoints_changed |= commit.udp_endpoints_changed;
        self.trigger_times.append(&mut commit.trigger_times);
    }
}

/// What a full sync took and no partial one needs. It is rare enough for the code to be mapped again afterwards.
fn give_back_memory() {
    if let Err(error) = memory::give_back_program_pages() {
        klog_info!(v = 2, "Could not give back the program's pages", err = logging::error(&error));
    }
}

impl FamilySync {
    /// True if the kernel now holds what the table says, or if it is too early to write anything.
    pub fn run(&mut self) -> bool {
        let family = self.family.as_str();
        let mode = self.mode.name();
        if !self.signals.is_initialized() {
            let message =
                format!("Not syncing {mode} until Services and Endpoints have been received from master");
            klog_info!(v = 2, message, ipFamily = family);
            return true;
        }
        let started = Instant::now();
        let mut commit = self.commit();
        let full = self.wants_full(commit.topology_changed, started) || !self.is_intact();
        let mut work = mem::take(&mut self.progress.unfinished);
        work.add(&mut commit);

        klog_info!(v = 2, format!("Syncing {mode} rules"), ipFamily = family, fullSync = full);
        let result = self.mode.sync(&commit.forwarding, &work.changed, full);
        let elapsed = started.elapsed();
        self.metrics.sync_finished(self.family, full, elapsed);
        if let Err(error) = result {
            self.signals.ask_for_full_sync();
            self.progress.unfinished = work;
            klog_error!(
                "Sync failed",
                err = logging::error(&error),
                ipFamily = family,
                retryingTime = self.retry_after
            );
            return false;
        }
        self.finish(&commit.forwarding, &work);
        klog_info!(v = 2, "SyncProxyRules complete", ipFamily = family, elapsed = elapsed);
        if full {
            self.progress.last_full = Some(started);
            give_back_memory();
        }
        true
    }

    fn commit(&self) -> Commit {
        let commit = {
            let mut table = lock(&self.table);
            let commit = table.commit(self.family);
            self.metrics.set_service_changes_pending(table.pending_services(self.family));
            self.metrics.set_endpoint_changes_pending(table.pending_endpoints(self.family));
            commit
        };
        for change in &commit.port_changes {
            let message = match change {
                PortChange::Added(..) => "Adding new service port",
                PortChange::Updated(..) => "Updating existing service port",
                PortChange::Removed(..) => "Removing service port",
            };
            klog_info!(
                v = 4,
                message,
                portName = change.name().to_string(),
                servicePort = change.service_port().to_string()
            );
        }
        for change in &commit.endpoint_changes {
            let endpoints: Vec<String> = change.endpoints.iter().map(ToString::to_string).collect();
            klog_info!(
                v = 3,
                "Setting endpoints for service port name",
                portName = change.name.to_string(),
                endpoints = logging::json(&endpoints)
            );
        }
        commit
    }

    /// Where a check was asked for: whether it found nothing that only a full sync mends.
    fn is_intact(&mut self) -> bool {
        if !self.signals.take_check() {
            return true;
        }
        self.mode.check().unwrap_or_else(|error| {
            klog_error!("Failed to check the rules", err = logging::error(&error), ipFamily = self.family);
            false
        })
    }

    fn wants_full(&self, topology_changed: bool, now: Instant) -> bool {
        let asked = self.signals.take_full();
        let due = match self.progress.last_full {
            None => true,
            Some(last) => {
                !self.mode.skips_periodic_full_sync() && now.duration_since(last) > FULL_SYNC_PERIOD
            }
        };
        asked || due || topology_changed
    }

    /// In upstream's order: whoever sees the health time stamp move may rely on the rules being there.
    fn finish(&mut self, forwarding: &Forwarding, done: &Unfinished) {
        let now = Timestamp::now();
        for (service, triggered) in
            done.trigger_times.iter().filter(|(_, triggered)| *triggered >= self.since)
        {
            let elapsed = now.duration_since(*triggered).unsigned_abs();
            self.metrics.network_programmed(self.family, elapsed);
            klog_info!(v = 4, "Network programming", endpoint = service, elapsed = elapsed);
        }
        let without_local = forwarding.ports_without_local_endpoints();
        self.metrics.set_no_local_endpoints(self.family, without_local.internal, without_local.external);
        self.health.updated(self.family);
        self.metrics.sync_succeeded(self.family, now);
        self.sync_service_health(forwarding);
        if done.udp_endpoints_changed
            && let Some(conntrack) = &mut self.conntrack
        {
            conntrack_cleanup::run(forwarding, conntrack.as_mut(), &self.metrics);
        }
    }

    /// A port that cannot be opened is tried at every sync, but told only once.
    fn sync_service_health(&mut self, forwarding: &Forwarding) {
        let counts = forwarding.local_ready_endpoint_counts();
        let failures = self.service_health.sync(&forwarding.health_check_ports(), &counts);
        for failure in
            failures.iter().filter(|failure| !self.progress.closed_health_checks.contains(&failure.service))
        {
            self.events.record(reports::health_check_failed(failure));
        }
        self.progress.closed_health_checks = failures.into_iter().map(|failure| failure.service).collect();
    }
}

#[cfg(test)]
mod tests;
