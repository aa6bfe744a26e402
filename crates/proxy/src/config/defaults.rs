//! Defaults: of fields that the file leaves out, and those that depend on the platform and the mode.

use std::net::IpAddr;

use switchyard_api::address::parse_ip;

use super::file::{API_VERSION, KIND, KubeProxyConfiguration};
use crate::flags::GoDuration;

const HALF_MINUTE: GoDuration = GoDuration::from_secs(30);
const SECOND: GoDuration = GoDuration::from_secs(1);

/// Fills in what the file left out (or set to zero, which means the same for most fields).
pub(super) fn apply_file_defaults(file: &mut KubeProxyConfiguration) {
    file.api_version = API_VERSION.to_owned();
    file.kind = KIND.to_owned();
    fill_text(&mut file.bind_address, "0.0.0.0");
    let (healthz, metrics) = match parse_ip(&file.bind_address) {
        Some(IpAddr::V4(_)) => ("0.0.0.0", "127.0.0.1"),
        _ => ("[::]", "[::1]"),
    };
    fill_address(&mut file.healthz_bind_address, healthz, 10256);
    fill_address(&mut file.metrics_bind_address, metrics, 10249);
    fill_duration(&mut file.config_sync_period, GoDuration::from_secs(15 * 60));
    file.oom_score_adj.get_or_insert(-999);

    file.iptables.masquerade_bit.get_or_insert(14);
    file.iptables.localhost_node_ports.get_or_insert(true);
    fill_duration(&mut file.iptables.sync_period, HALF_MINUTE);
    fill_duration(&mut file.iptables.min_sync_period, SECOND);
    file.nftables.masquerade_bit.get_or_insert(14);
    fill_duration(&mut file.nftables.sync_period, HALF_MINUTE);
    fill_duration(&mut file.nftables.min_sync_period, SECOND);
    // ipvs.minSyncPeriod stays zero, though the flag's default is one second.
    fill_duration(&mut file.ipvs.sync_period, HALF_MINUTE);

    let conntrack = &mut file.conntrack;
    conntrack.max_per_core.get_or_insert(32 * 1024);
    conntrack.min.get_or_insert(128 * 1024);
    conntrack.tcp_established_timeout.get_or_insert(GoDuration::from_secs(24 * 3600));
    conntrack.tcp_close_wait_timeout.get_or_insert(GoDuration::from_secs(3600));

    let client = &mut file.client_connection;
    fill_text(&mut client.content_type, "application/vnd.kubernetes.protobuf");
    if client.qps == 0.0 {
        client.qps = 5.0;
    }
    if client.burst == 0 {
        client.burst = 10;
    }
    fill_text(&mut file.logging.format, "text");
    fill_duration(&mut file.logging.flush_frequency, GoDuration::from_secs(5));
}

/// What a blank means on Linux; flags and file alike.
pub(super) fn apply_platform_defaults(file: &mut KubeProxyConfiguration) {
    fill_text(&mut file.mode, "iptables");
    fill_text(&mut file.detect_local_mode, "ClusterCIDR");
    if file.mode == "nftables" && file.node_port_addresses.is_empty() {
        file.node_port_addresses.push("primary".to_owned());
    }
    if file.mode == "userspace" {
        file.udp_idle_timeout.get_or_insert(GoDuration::from_millis(250));
    }
}

/// Adds `port` to an address that has none; anything that is no address is left for validation.
pub(super) fn with_port(address: &str, port: i32) -> String {
    match parse_ip(address) {
        Some(_) if address.contains(':') => format!("[{address}]:{port}"),
        Some(_) => format!("{address}:{port}"),
        None => address.to_owned(),
    }
}

fn fill_text(field: &mut String, default: &str) {
    if field.is_empty() {
        default.clone_into(field);
    }
}

fn fill_duration(field: &mut GoDuration, default: GoDuration) {
    if field.is_zero() {
        *field = default;
    }
}

fn fill_address(field: &mut String, host: &str, port: i32) {
    *field = if field.is_empty() { format!("{host}:{port}") } else { with_port(field, port) };
}
