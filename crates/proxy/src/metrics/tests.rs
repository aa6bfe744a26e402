use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn no_packets() -> PacketCounters {
    PacketCounters {
        ct_state_invalid_dropped: Box::new(|| None),
        localhost_node_ports_accepted: Box::new(|| None),
    }
}

fn metrics() -> Metrics {
    Metrics::new(no_packets()).unwrap()
}

/// Calls every method once.
fn use_everything(metrics: &Metrics) {
    let at = Timestamp::from_microsecond(1_700_000_000_250_000).unwrap();
    metrics.sync_finished(IpFamily::V4, true, SECOND);
    metrics.sync_finished(IpFamily::V6, false, SECOND);
    metrics.sync_succeeded(IpFamily::V4, at);
    metrics.sync_queued(IpFamily::V4, at);
    metrics.network_programmed(IpFamily::V4, SECOND);
    metrics.endpoint_changed();
    metrics.set_endpoint_changes_pending(2);
    metrics.service_changed();
    metrics.set_service_changes_pending(3);
    metrics.set_no_local_endpoints(IpFamily::V4, 1, 2);
    metrics.healthz_answered(200);
    metrics.livez_answered(503);
    metrics.conntrack_cleaned(IpFamily::V4, 0, SECOND);
    metrics.set_iptables_rules(IpFamily::V4, "nat", 40, 5);
    metrics.restore_failed(IpFamily::V4);
    metrics.partial_sync_failed(IpFamily::V4);
    metrics.client.request_finished("10.0.0.1:443", "GET", "200", SECOND);
    metrics.client.request_sized("10.0.0.1:443", "GET", 0);
    metrics.client.response_sized("10.0.0.1:443", "GET", 100);
    metrics.client.request_retried("10.0.0.1:443", "GET", "429");
    metrics.client.rate_limited("10.0.0.1:443", "GET", SECOND);
    metrics.client.name_resolved("api", SECOND);
    metrics.client.exec_plugin_called(0, "no_error");
    metrics.client.transport_created();
    metrics.client.ca_reloaded("success", "changed");
    metrics.set_feature("AllAlpha", "ALPHA", false);
    metrics.set_build_info(&BuildInfo {
        git_version: "v1.36.2",
        git_commit: "abc",
        git_tree_state: "clean",
        build_date: "2026-11-23T00:00:00Z",
        compiler_version: "1.95.0",
    });
}

#[track_caller]
fn assert_line(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
}

#[test]
fn every_name_appears_with_its_type_labels_and_value() {
    let metrics = metrics();
    use_everything(&metrics);
    let text = metrics.text().unwrap();
    for line in [
        "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
        "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 1",
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 1",
        "# TYPE kubeproxy_sync_proxy_rules_last_timestamp_seconds gauge",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1700000000.25",
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 1700000000.25",
        "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 2",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total 1",
        "kubeproxy_sync_proxy_rules_service_changes_pending 3",
        "kubeproxy_sync_proxy_rules_service_changes_total 1",
        "# TYPE kubeproxy_sync_proxy_rules_no_local_endpoints_total gauge",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"internal\"} 1",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"external\"} 2",
        "# TYPE kubeproxy_proxy_healthz_total counter",
        "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
        "kubeproxy_proxy_livez_total{code=\"503\"} 1",
        "kubeproxy_sync_proxy_rules_iptables_total{ip_family=\"IPv4\",table=\"nat\"} 40",
        "kubeproxy_sync_proxy_rules_iptables_last{ip_family=\"IPv4\",table=\"nat\"} 5",
        "kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=\"IPv4\"} 1",
        "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family=\"IPv4\"} 1",
        "kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family=\"IPv4\"} 1",
        "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"} 0",
        "rest_client_requests_total{code=\"200\",host=\"10.0.0.1:443\",method=\"GET\"} 1",
        "rest_client_request_duration_seconds_count{host=\"10.0.0.1:443\",verb=\"GET\"} 1",
        "rest_client_rate_limiter_duration_seconds_count{host=\"10.0.0.1:443\",verb=\"GET\"} 1",
        "rest_client_dns_resolution_duration_seconds_count{host=\"api\"} 1",
        "rest_client_request_size_bytes_bucket{host=\"10.0.0.1:443\",verb=\"GET\",le=\"64\"} 1",
        "rest_client_response_size_bytes_bucket{host=\"10.0.0.1:443\",verb=\"GET\",le=\"64\"} 0",
        "rest_client_request_retries_total{code=\"429\",host=\"10.0.0.1:443\",verb=\"GET\"} 1",
        "rest_client_exec_plugin_ttl_seconds +Inf",
        "rest_client_exec_plugin_certificate_rotation_age_count 0",
        "rest_client_exec_plugin_call_total{call_status=\"no_error\",code=\"0\"} 1",
        "rest_client_transport_cache_entries 1",
        "rest_client_transport_create_calls_total{result=\"miss\"} 1",
        "rest_client_transport_cert_rotation_gc_calls_total 0",
        "rest_client_transport_ca_reload_total{reason=\"changed\",result=\"success\"} 1",
        "kubernetes_feature_enabled{name=\"AllAlpha\",stage=\"ALPHA\"} 0",
        "hidden_metrics_total 0",
        "disabled_metrics_total 0",
        "# TYPE process_cpu_seconds_total counter",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert_line(&text, line);
    }
    let build = text.lines().find(|line| line.starts_with("kubernetes_build_info{")).unwrap();
    for label in ["git_version=\"v1.36.2\"", "major=\"1\"", "minor=\"36\"", "platform=\"linux/"] {
        assert!(build.contains(label), "{build}");
    }
}

#[test]
fn help_starts_with_the_stability_and_every_registered_metric_is_counted() {
    let text = metrics().text().unwrap();
    for line in text.lines().filter(|line| line.starts_with("# HELP") && !line.contains(" process_")) {
        let help = line.splitn(4, ' ').nth(3).unwrap();
        assert!(help.starts_with("[ALPHA] ") || help.starts_with("[BETA] "), "{line}");
    }
    assert_line(&text, "registered_metrics_total{deprecated_version=\"\",stability_level=\"ALPHA\"} 37");
    assert_line(&text, "registered_metrics_total{deprecated_version=\"\",stability_level=\"BETA\"} 5");
}

#[test]
fn labelled_metrics_have_no_sample_until_used() {
    let text = metrics().text().unwrap();
    for name in
        ["healthz_total", "restore_failures", "rules_duration", "rest_client_requests", "invalid_dropped"]
    {
        assert!(!text.contains(name), "{name}");
    }
    assert_line(&text, "kubeproxy_sync_proxy_rules_service_changes_total 0");
}

fn bounds(text: &str, name: &str) -> Vec<String> {
    let prefix = format!("{name}_bucket{{");
    let lines = text.lines().filter(|line| line.starts_with(&prefix));
    lines.map(|line| line.split("le=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn bucket_bounds_are_upstreams() {
    let metrics = metrics();
    metrics.sync_finished(IpFamily::V4, true, SECOND);
    metrics.network_programmed(IpFamily::V4, SECOND);
    metrics.client.name_resolved("api", SECOND);
    let text = metrics.text().unwrap();
    assert_eq!(
        bounds(&text, "kubeproxy_sync_proxy_rules_duration_seconds").join(" "),
        "0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192 16.384 +Inf"
    );
    let programming = bounds(&text, "kubeproxy_network_programming_duration_seconds");
    assert_eq!(programming.len(), 82);
    assert_eq!(programming[..5].join(" "), "0 0.25 0.5 1 2");
    assert_eq!(
        programming[61..].join(" "),
        "59 60 65 70 75 80 85 90 95 100 105 110 115 120 150 180 210 240 270 300 +Inf"
    );
    assert_eq!(
        bounds(&text, "rest_client_dns_resolution_duration_seconds").join(" "),
        "0.005 0.025 0.1 0.25 0.5 1 2 4 8 15 30 +Inf"
    );
}

#[test]
fn packet_counters_are_read_at_each_scrape_and_left_out_where_the_kernel_has_none() {
    let packets = Arc::new(AtomicU64::new(7));
    let shared = packets.clone();
    let metrics = Metrics::new(PacketCounters {
        ct_state_invalid_dropped: Box::new(move || Some(shared.load(Ordering::Relaxed))),
        ..no_packets()
    })
    .unwrap();
    let name = "kubeproxy_iptables_ct_state_invalid_dropped_packets_total";
    assert_line(&metrics.text().unwrap(), &format!("# TYPE {name} counter"));
    assert_line(&metrics.text().unwrap(), &format!("{name} 7"));
    packets.store(9, Ordering::Relaxed);
    let text = metrics.text().unwrap();
    assert_line(&text, &format!("{name} 9"));
    assert!(!text.contains("localhost_nodeports"));
}
