//! Every metric of the proxy, named once, under the names that dashboards for kube-proxy use.
//!
//! The loop calls one method for each thing that happened; [`Metrics::text`] is what a scraper reads.

mod client;
mod component;
mod process;
mod registrar;
mod scrape;
mod sync;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{Registry, TextEncoder};
use switchyard_api::IpFamily;

pub use client::ClientMetrics;
pub use component::BuildInfo;
use component::ComponentMetrics;
use registrar::Registrar;
use scrape::CounterOnScrape;
use sync::{IptablesMetrics, StateMetrics, SyncMetrics};

/// A metric could not be made or written: always a mistake in this module, never in its input.
#[derive(Debug, thiserror::Error)]
#[error("metrics are not available; please report this")]
pub struct MetricsError(#[from] prometheus::Error);

/// Reads a packet counter; `None` where the kernel does not have it.
pub type ReadCounter = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The packet counters that the iptables mode keeps in nfacct objects, read at each scrape.
pub struct PacketCounters {
    pub ct_state_invalid_dropped: ReadCounter,
    pub localhost_node_ports_accepted: ReadCounter,
}

impl fmt::Debug for PacketCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketCounters").finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sync: SyncMetrics,
    state: StateMetrics,
    iptables: IptablesMetrics,
    component: ComponentMetrics,
    /// Requests to the API server.
    pub client: ClientMetrics,
}

impl Metrics {
    pub fn new(packets: PacketCounters) -> Result<Metrics, MetricsError> {
        let registry = Registry::new();
        let mut registrar = Registrar::new(&registry);
        let sync = SyncMetrics::register(&mut registrar)?;
        let state = StateMetrics::register(&mut registrar)?;
        let iptables = IptablesMetrics::register(&mut registrar)?;
        register_packet_counters(&mut registrar, packets)?;
        let client = ClientMetrics::register(&mut registrar)?;
        let component = ComponentMetrics::register(&mut registrar)?;
        component.set_registered(registrar.counts());
        scrape::register_process(&registry)?;
        Ok(Metrics { registry, sync, state, iptables, component, client })
    }

    /// The Prometheus text format 0.0.4.
    pub fn text(&self) -> Result<String, MetricsError> {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather())?;
        // The encoder writes Rust's `inf`; the format's own word is `+Inf`.
        Ok(text.replace(" inf\n", " +Inf\n"))
    }

    /// When this process started, in seconds since the epoch.
    pub fn process_start_seconds(&self) -> Option<f64> {
        process::start_time()
    }

    pub fn set_build_info(&self, build: &BuildInfo<'_>) {
        self.component.set_build_info(build);
    }

    /// `stage` is `ALPHA`, `BETA`, `DEPRECATED`, or empty for a feature that is there to stay.
    pub fn set_feature(&self, name: &str, stage: &str, enabled: bool) {
        self.component.set_feature(name, stage, enabled);
    }

    /// A sync ended, whether it succeeded or not.
    pub fn sync_finished(&self, family: IpFamily, full: bool, elapsed: Duration) {
        let by_kind = if full { &self.sync.full_duration } else { &self.sync.partial_duration };
        for histogram in [&self.sync.duration, by_kind] {
            histogram.with_label_values(&[family.as_str()]).observe(elapsed.as_secs_f64());
        }
    }

    pub fn sync_succeeded(&self, family: IpFamily, at: Timestamp) {
        self.sync.last_timestamp.with_label_values(&[family.as_str()]).set(unix_seconds(at));
    }

    /// A sync was asked for.
    pub fn sync_queued(&self, family: IpFamily, at: Timestamp) {
        self.sync.last_queued_timestamp.with_label_values(&[family.as_str()]).set(unix_seconds(at));
    }

    /// An endpoint change took `elapsed` from its cause to the kernel.
    pub fn network_programmed(&self, family: IpFamily, elapsed: Duration) {
        self.sync.network_programming.with_label_values(&[family.as_str()]).observe(elapsed.as_secs_f64());
    }

    pub fn endpoint_changed(&self) {
        self.state.endpoint_changes_total.inc();
    }

    pub fn set_endpoint_changes_pending(&self, count: usize) {
        self.state.endpoint_changes_pending.set(whole(count));
    }

    pub fn service_changed(&self) {
        self.state.service_changes_total.inc();
    }

    pub fn set_service_changes_pending(&self, count: usize) {
        self.state.service_changes_pending.set(whole(count));
    }

    /// Service ports whose internal or external policy is Local and that have endpoints, but none on this node.
    pub fn set_no_local_endpoints(&self, family: IpFamily, internal: usize, external: usize) {
        for (policy, count) in [("internal", internal), ("external", external)] {
            self.state.no_local_endpoints.with_label_values(&[family.as_str(), policy]).set(whole(count));
        }
    }

    pub fn healthz_answered(&self, code: u16) {
        self.state.healthz.with_label_values(&[&code.to_string()]).inc();
    }

    pub fn livez_answered(&self, code: u16) {
        self.state.livez.with_label_values(&[&code.to_string()]).inc();
    }

    pub fn conntrack_cleaned(&self, family: IpFamily, deleted: u64, elapsed: Duration) {
        let family = &[family.as_str()];
        self.state.conntrack_duration.with_label_values(family).observe(elapsed.as_secs_f64());
        self.state.conntrack_deleted.with_label_values(family).inc_by(deleted);
    }

    /// `table` is `filter` or `nat`; `total` rules are the proxy's, `last` of them were written in the last sync.
    pub fn set_iptables_rules(&self, family: IpFamily, table: &str, total: usize, last: usize) {
        let labels = &[family.as_str(), table];
        self.iptables.rules_total.with_label_values(labels).set(whole(total));
        self.iptables.rules_last.with_label_values(labels).set(whole(last));
    }

    pub fn restore_failed(&self, family: IpFamily) {
        self.iptables.restore_failures.with_label_values(&[family.as_str()]).inc();
    }

    pub fn partial_sync_failed(&self, family: IpFamily) {
        self.iptables.partial_restore_failures.with_label_values(&[family.as_str()]).inc();
    }
}

fn register_packet_counters(
    to: &mut Registrar<'_>,
    packets: PacketCounters,
) -> Result<(), prometheus::Error> {
    to.add(CounterOnScrape::new(
        "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
        to.help("Packets dropped because conntrack found their state invalid"),
        packets.ct_state_invalid_dropped,
    )?)?;
    to.add(CounterOnScrape::new(
        "kubeproxy_iptables_localhost_nodeports_accepted_packets_total",
        to.help("Packets to node ports that came in through localhost"),
        packets.localhost_node_ports_accepted,
    )?)?;
    Ok(())
}

fn unix_seconds(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
