//! Metrics for tests of other modules.

use super::{Metrics, PacketCounters};

/// Without packet counters.
pub(crate) fn metrics() -> Metrics {
    let none = || Box::new(|| None);
    Metrics::new(PacketCounters { ct_state_invalid_dropped: none(), localhost_node_ports_accepted: none() })
        .unwrap()
}
