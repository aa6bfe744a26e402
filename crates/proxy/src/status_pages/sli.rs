//! `/metrics/slis`: how often this server's own health check was asked, and with what result.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// The metrics server has one check, `ping`, which succeeds by being answered.
#[derive(Debug, Default)]
pub(super) struct HealthChecks {
    successes: AtomicU64,
}

impl HealthChecks {
    pub(super) fn ping_succeeded(&self) {
        self.successes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reset(&self) {
        self.successes.store(0, Ordering::Relaxed);
    }

    /// The Prometheus text; a check that was not asked has no sample.
    pub(super) fn text(&self, process_start_seconds: Option<f64>) -> String {
        let mut text = String::new();
        let successes = self.successes.load(Ordering::Relaxed);
        if successes > 0 {
            let _ = write!(
                text,
                "# HELP kubernetes_healthcheck [STABLE] The last result of each health check.\n\
                 # TYPE kubernetes_healthcheck gauge\n\
                 kubernetes_healthcheck{{name=\"ping\",type=\"healthz\"}} 1\n\
                 # HELP kubernetes_healthchecks_total [STABLE] The results of all health checks.\n\
                 # TYPE kubernetes_healthchecks_total counter\n\
                 kubernetes_healthchecks_total{{name=\"ping\",status=\"success\",type=\"healthz\"}} {successes}\n"
            );
        }
        if let Some(start) = process_start_seconds {
            let _ = write!(
                text,
                "# HELP process_start_time_seconds [ALPHA] Start time of the process since unix epoch in seconds.\n\
                 # TYPE process_start_time_seconds gauge\n\
                 process_start_time_seconds {start}\n"
            );
        }
        text
    }
}
