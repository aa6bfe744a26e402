//! What the proxy says about its own work: the `kubeproxy_*` metrics that every mode has.

use prometheus::{Error, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::registrar::Registrar;

const FAMILY: &[&str] = &["ip_family"];

/// How long syncs took and when they happened.
#[derive(Debug)]
pub(super) struct SyncMetrics {
    pub(super) duration: HistogramVec,
    pub(super) full_duration: HistogramVec,
    pub(super) partial_duration: HistogramVec,
    pub(super) last_timestamp: GaugeVec,
    pub(super) last_queued_timestamp: GaugeVec,
    pub(super) network_programming: HistogramVec,
}

impl SyncMetrics {
    pub(super) fn register(to: &mut Registrar<'_>) -> Result<SyncMetrics, Error> {
        let exponential = exponential_buckets();
        Ok(SyncMetrics {
            duration: to.histograms(
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "Seconds that syncs of the proxy rules took",
                FAMILY,
                &exponential,
            )?,
            full_duration: to.histograms(
                "kubeproxy_sync_full_proxy_rules_duration_seconds",
                "Seconds that full syncs of the proxy rules took",
                FAMILY,
                &exponential,
            )?,
            partial_duration: to.histograms(
                "kubeproxy_sync_partial_proxy_rules_duration_seconds",
                "Seconds that partial syncs of the proxy rules took",
                FAMILY,
                &exponential,
            )?,
            last_timestamp: to.gauges(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "Unix time of the last successful sync of the proxy rules",
                FAMILY,
            )?,
            last_queued_timestamp: to.gauges(
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "Unix time when a sync of the proxy rules was last asked for",
                FAMILY,
            )?,
            network_programming: to.histograms(
                "kubeproxy_network_programming_duration_seconds",
                "Seconds from a change of endpoints to its being in effect on this node",
                FAMILY,
                &programming_buckets(),
            )?,
        })
    }
}

/// What arrived, what it looks like from here, and what was cleaned up.
#[derive(Debug)]
pub(super) struct StateMetrics {
    pub(super) endpoint_changes_pending: IntGauge,
    pub(super) endpoint_changes_total: IntCounter,
    pub(super) service_changes_pending: IntGauge,
    pub(super) service_changes_total: IntCounter,
    pub(super) no_local_endpoints: IntGaugeVec,
    pub(super) healthz: IntCounterVec,
    pub(super) livez: IntCounterVec,
    pub(super) conntrack_duration: HistogramVec,
    pub(super) conntrack_deleted: IntCounterVec,
}

impl StateMetrics {
    pub(super) fn register(to: &mut Registrar<'_>) -> Result<StateMetrics, Error> {
        Ok(StateMetrics {
            endpoint_changes_pending: to.int_gauge(
                "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
                "Endpoint changes that wait for a sync",
            )?,
            endpoint_changes_total: to.counter(
                "kubeproxy_sync_proxy_rules_endpoint_changes_total",
                "Endpoint changes that arrived",
            )?,
            service_changes_pending: to.int_gauge(
                "kubeproxy_sync_proxy_rules_service_changes_pending",
                "Service changes that wait for a sync",
            )?,
            service_changes_total: to.counter(
                "kubeproxy_sync_proxy_rules_service_changes_total",
                "Service changes that arrived",
            )?,
            no_local_endpoints: to.int_gauges(
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Service ports with a Local traffic policy and endpoints, but none on this node",
                &["ip_family", "traffic_policy"],
            )?,
            healthz: to.counters(
                "kubeproxy_proxy_healthz_total",
                "Answers of /healthz, by status code",
                &["code"],
            )?,
            livez: to.counters(
                "kubeproxy_proxy_livez_total",
                "Answers of /livez, by status code",
                &["code"],
            )?,
            conntrack_duration: to.histograms(
                "kubeproxy_conntrack_reconciler_sync_duration_seconds",
                "Seconds that cleaning up stale conntrack entries took",
                FAMILY,
                &exponential_buckets(),
            )?,
            conntrack_deleted: to.counters(
                "kubeproxy_conntrack_reconciler_deleted_entries_total",
                "Stale conntrack entries that were deleted",
                FAMILY,
            )?,
        })
    }
}

/// What the iptables mode has besides.
#[derive(Debug)]
pub(super) struct IptablesMetrics {
    pub(super) rules_total: IntGaugeVec,
    pub(super) rules_last: IntGaugeVec,
    pub(super) restore_failures: IntCounterVec,
    pub(super) partial_restore_failures: IntCounterVec,
}

impl IptablesMetrics {
    pub(super) fn register(to: &mut Registrar<'_>) -> Result<IptablesMetrics, Error> {
        Ok(IptablesMetrics {
            rules_total: to.int_gauges(
                "kubeproxy_sync_proxy_rules_iptables_total",
                "Rules that the proxy owns, by table",
                &["ip_family", "table"],
            )?,
            rules_last: to.int_gauges(
                "kubeproxy_sync_proxy_rules_iptables_last",
                "Rules written in the last sync, by table",
                &["ip_family", "table"],
            )?,
            restore_failures: to.counters(
                "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
                "Failed runs of iptables-restore",
                FAMILY,
            )?,
            partial_restore_failures: to.counters(
                "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
                "Partial syncs that failed and led to a full one",
                FAMILY,
            )?,
        })
    }
}

/// 0.001 s, doubled fourteen times, to 16.384 s.
fn exponential_buckets() -> Vec<f64> {
    // Whole milliseconds divided once, so that a bound prints as 0.004 and not as 0.0040000000001.
    (0..15).map(|exponent| f64::from(1_u32 << exponent) / 1000.0).collect()
}

/// Seconds: fine below a minute, where the service level objective lies. The bound 0 is upstream's.
fn programming_buckets() -> Vec<f64> {
    let fine = [0.0, 0.25, 0.5].into_iter().chain((1..60).map(f64::from));
    fine.chain((60..120).step_by(5).map(f64::from)).chain((120..=300).step_by(30).map(f64::from)).collect()
}
