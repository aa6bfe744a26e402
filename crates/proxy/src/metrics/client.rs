//! Requests to the API server: the `rest_client_*` metrics.

use std::time::Duration;

use prometheus::{Error, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use super::registrar::Registrar;

const LATENCY_BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
const SIZE_BUCKETS: [f64; 11] =
    [64.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0];
const ROTATION_AGE_BUCKETS: [f64; 11] = [
    600.0,
    1800.0,
    3600.0,
    14400.0,
    86400.0,
    604800.0,
    2592000.0,
    7776000.0,
    15552000.0,
    31104000.0,
    124416000.0,
];

/// `host` is the API server as in its URL, `method` the HTTP method.
#[derive(Debug)]
pub struct ClientMetrics {
    requests: IntCounterVec,
    retries: IntCounterVec,
    request_duration: HistogramVec,
    rate_limiter_duration: HistogramVec,
    dns_duration: HistogramVec,
    request_size: HistogramVec,
    response_size: HistogramVec,
    credentials: CredentialMetrics,
}

/// Exec plugins, certificates and the connection set-ups made with them.
#[derive(Debug)]
struct CredentialMetrics {
    exec_plugin_ttl: Gauge,
    exec_plugin_rotation_age: Histogram,
    exec_plugin_calls: IntCounterVec,
    cache_entries: IntGauge,
    creations: IntCounterVec,
    ca_reloads: IntCounterVec,
    // Nothing here ever counts these, but who looks for the unlabelled one finds it.
    _unused: (IntCounter, IntCounterVec, IntCounterVec),
}

impl CredentialMetrics {
    fn register(to: &mut Registrar<'_>) -> Result<CredentialMetrics, Error> {
        let exec_plugin_ttl = to.gauge(
            "rest_client_exec_plugin_ttl_seconds",
            "Seconds until the first client certificate of an exec plugin expires; +Inf without any",
        )?;
        exec_plugin_ttl.set(f64::INFINITY);
        Ok(CredentialMetrics {
            exec_plugin_ttl,
            exec_plugin_rotation_age: to.histogram(
                "rest_client_exec_plugin_certificate_rotation_age",
                "Seconds that a client certificate of an exec plugin was in use when it was replaced",
                &ROTATION_AGE_BUCKETS,
            )?,
            exec_plugin_calls: to.counters(
                "rest_client_exec_plugin_call_total",
                "Calls of exec plugins, by exit code and outcome",
                &["call_status", "code"],
            )?,
            cache_entries: to.int_gauge("rest_client_transport_cache_entries", "Connection set-ups kept")?,
            creations: to.counters(
                "rest_client_transport_create_calls_total",
                "Connection set-ups made, by outcome",
                &["result"],
            )?,
            ca_reloads: to.counters(
                "rest_client_transport_ca_reload_total",
                "Reloads of the certificate authority's file, by outcome",
                &["reason", "result"],
            )?,
            _unused: register_unused(to)?,
        })
    }
}

fn register_unused(to: &mut Registrar<'_>) -> Result<(IntCounter, IntCounterVec, IntCounterVec), Error> {
    let rotations = to.counter(
        "rest_client_transport_cert_rotation_gc_calls_total",
        "Connection set-ups dropped after a change of certificate",
    )?;
    let evictions = to.counters(
        "rest_client_transport_cache_gc_calls_total",
        "Connection set-ups dropped from the cache",
        &["result"],
    )?;
    let policy = to.counters(
        "rest_client_exec_plugin_policy_call_total",
        "Decisions about whether an exec plugin may run",
        &["allowed", "denied"],
    )?;
    Ok((rotations, evictions, policy))
}

impl ClientMetrics {
    pub(super) fn register(to: &mut Registrar<'_>) -> Result<ClientMetrics, Error> {
        let by_verb = &["host", "verb"];
        Ok(ClientMetrics {
            requests: to.counters("rest_client_requests_total", "Requests", &["code", "host", "method"])?,
            retries: to.counters(
                "rest_client_request_retries_total",
                "Retried requests",
                &["code", "host", "verb"],
            )?,
            request_duration: to.histograms(
                "rest_client_request_duration_seconds",
                "Seconds from a request to its answer",
                by_verb,
                &LATENCY_BUCKETS,
            )?,
            rate_limiter_duration: to.histograms(
                "rest_client_rate_limiter_duration_seconds",
                "Seconds that a request waited for the client's own rate limit",
                by_verb,
                &LATENCY_BUCKETS,
            )?,
            dns_duration: to.histograms(
                "rest_client_dns_resolution_duration_seconds",
                "Seconds that resolving the API server's name took",
                &["host"],
                &LATENCY_BUCKETS[..11],
            )?,
            request_size: to.histograms(
                "rest_client_request_size_bytes",
                "Bytes of requests",
                by_verb,
                &SIZE_BUCKETS,
            )?,
            response_size: to.histograms(
                "rest_client_response_size_bytes",
                "Bytes of answers",
                by_verb,
                &SIZE_BUCKETS,
            )?,
            credentials: CredentialMetrics::register(to)?,
        })
    }

    /// An answer arrived; without one `code` is `<error>`, as in client-go.
    pub fn request_finished(&self, host: &str, method: &str, code: &str, elapsed: Duration) {
        self.requests.with_label_values(&[code, host, method]).inc();
        self.request_duration.with_label_values(&[host, method]).observe(elapsed.as_secs_f64());
    }

    /// Bytes of bodies, each known when the body is complete.
    pub fn request_sized(&self, host: &str, method: &str, bytes: u64) {
        self.request_size.with_label_values(&[host, method]).observe(bytes as f64);
    }

    pub fn response_sized(&self, host: &str, method: &str, bytes: u64) {
        self.response_size.with_label_values(&[host, method]).observe(bytes as f64);
    }

    pub fn request_retried(&self, host: &str, method: &str, code: &str) {
        self.retries.with_label_values(&[code, host, method]).inc();
    }

    pub fn rate_limited(&self, host: &str, method: &str, waited: Duration) {
        self.rate_limiter_duration.with_label_values(&[host, method]).observe(waited.as_secs_f64());
    }

    pub fn name_resolved(&self, host: &str, elapsed: Duration) {
        self.dns_duration.with_label_values(&[host]).observe(elapsed.as_secs_f64());
    }

    /// `status` is `no_error`, `plugin_execution_error`, `plugin_not_found_error` or `client_internal_error`.
    pub fn exec_plugin_called(&self, exit_code: i32, status: &str) {
        self.credentials.exec_plugin_calls.with_label_values(&[status, &exit_code.to_string()]).inc();
    }

    /// A new certificate of an exec plugin is in use, valid for `valid_for`; the one before had served for `age`.
    pub fn exec_plugin_rotated(&self, valid_for: Duration, age: Option<Duration>) {
        self.credentials.exec_plugin_ttl.set(valid_for.as_secs_f64());
        if let Some(age) = age {
            self.credentials.exec_plugin_rotation_age.observe(age.as_secs_f64());
        }
    }

    /// A connection set-up was made (`miss`, the only outcome of a process with one server) and is kept.
    pub fn transport_created(&self) {
        self.credentials.creations.with_label_values(&["miss"]).inc();
        self.credentials.cache_entries.set(1);
    }

    /// `result` is `success` or `failure`.
    pub fn ca_reloaded(&self, result: &str, reason: &str) {
        self.credentials.ca_reloads.with_label_values(&[reason, result]).inc();
    }
}
