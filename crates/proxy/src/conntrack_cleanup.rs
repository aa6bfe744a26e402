//! Making the kernel forget UDP flows to endpoints that are gone.

use std::time::Instant;

use switchyard_kernel::conntrack::{Conntrack, Flow};
use switchyard_model::Forwarding;
use switchyard_plan::conntrack::StaleFlows;

use crate::metrics::Metrics;
use crate::{klog_error, klog_info, logging};

/// Deletes every stale flow. A failure is only logged: the flows end by their time-out then.
pub(crate) fn run(forwarding: &Forwarding, conntrack: &mut dyn Conntrack, metrics: &Metrics) {
    let family = forwarding.family;
    let started = Instant::now();
    klog_info!(v = 4, "Started to reconcile conntrack entries", ipFamily = family);
    let stale_flows = StaleFlows::new(forwarding);
    // Deleted after the listing, since deleting changes the table that is being listed. Only stale flows are kept.
    let mut stale: Vec<Flow> = Vec::new();
    let listed = conntrack.for_each_udp_flow(&mut |flow| {
        if stale_flows.is_stale(flow.original.destination, flow.reply.source) {
            stale.push(flow);
        }
    });
    if let Err(error) = listed {
        klog_error!("Failed to list conntrack entries", err = logging::error(&error), ipFamily = family);
        return;
    }
    let mut deleted = 0;
    for flow in &stale {
        klog_info!(v = 6, "Deleting conntrack entry", flow = format!("{flow:?}"));
        match conntrack.delete(flow) {
            Ok(was_there) => deleted += u64::from(was_there),
            Err(error) => {
                klog_error!(
                    "Failed to delete conntrack entry",
                    err = logging::error(&error),
                    ipFamily = family
                );
            }
        }
    }
    let elapsed = started.elapsed();
    metrics.conntrack_cleaned(family, deleted, elapsed);
    klog_info!(
        v = 4,
        "Finished reconciling conntrack entries",
        ipFamily = family,
        entriesDeleted = deleted,
        took = elapsed
    );
}

#[cfg(test)]
mod tests {
    use switchyard_kernel::conntrack::Tuple;
    use switchyard_kernel::conntrack::fake::FakeConntrack;
    use switchyard_model::IpFamily;
    use switchyard_model::testing::forwarding_from_yaml;

    use super::*;

    const DNS: &str = "
kind: Service
metadata: {name: dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, ports: [{name: dns, port: 53, protocol: UDP}]}
---
kind: EndpointSlice
metadata: {name: dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, port: 5353, protocol: UDP}]
endpoints: [{addresses: [10.244.1.2]}]
";

    fn flow(destination: &str, answering: &str) -> Flow {
        let tuple = |source: &str, destination: &str| Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        };
        Flow { original: tuple("10.244.9.9:40000", destination), reply: tuple(answering, "10.244.9.9:40000") }
    }

    #[test]
    fn only_flows_to_endpoints_that_are_gone_are_forgotten() {
        let forwarding = forwarding_from_yaml(DNS, "node-1", "", IpFamily::V4);
        let current = flow("10.96.0.10:53", "10.244.1.2:5353");
        let gone = flow("10.96.0.10:53", "10.244.3.3:5353");
        let undelivered = flow("10.96.0.10:53", "10.96.0.10:53");
        let foreign = flow("192.0.2.1:53", "192.0.2.1:53");
        let mut conntrack = FakeConntrack { flows: vec![current, gone, undelivered, foreign] };
        let metrics = crate::metrics::testing::metrics();
        run(&forwarding, &mut conntrack, &metrics);
        assert_eq!(conntrack.flows, [current, foreign]);
        let text = metrics.text().unwrap();
        assert!(
            text.contains("kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"} 2"),
            "{text}"
        );
    }
}
