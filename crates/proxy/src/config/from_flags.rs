//! The configuration that flags describe when there is no file.

use super::defaults::with_port;
use super::file::{
    API_VERSION, ClientConnectionFile, ConntrackFile, DetectLocalFile, IptablesFile, IpvsFile, KIND,
    KubeProxyConfiguration, LoggingFile, LoggingOptionsFile, NftablesFile, OutputFile, VmoduleFile,
    WinkernelFile,
};
use super::mode_bound::ModeBound;
use crate::flags::{Parsed, RawFlags, VerbosityPattern};

/// The file that would say the same as these flags.
pub(super) fn from_flags(flags: &RawFlags) -> KubeProxyConfiguration {
    let (healthz, metrics) = addresses(flags);
    let mut file = KubeProxyConfiguration {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        bind_address: flags.bind_address.clone(),
        bind_address_hard_fail: flags.bind_address_hard_fail,
        client_connection: ClientConnectionFile {
            accept_content_types: String::new(),
            burst: flags.kube_api_burst,
            content_type: flags.kube_api_content_type.clone(),
            kubeconfig: flags.kubeconfig.clone(),
            qps: flags.kube_api_qps,
        },
        cluster_cidr: flags.cluster_cidr.clone(),
        config_sync_period: flags.config_sync_period,
        conntrack: conntrack(flags),
        detect_local: DetectLocalFile {
            bridge_interface: flags.pod_bridge_interface.clone(),
            interface_name_prefix: flags.pod_interface_name_prefix.clone(),
        },
        detect_local_mode: flags.detect_local_mode.clone(),
        enable_profiling: flags.profiling,
        feature_gates: flags.feature_gates.clone(),
        healthz_bind_address: healthz,
        hostname_override: String::new(), // merged for flags and file alike
        iptables: IptablesFile {
            localhost_node_ports: Some(flags.iptables_localhost_nodeports),
            masquerade_bit: Some(flags.iptables_masquerade_bit),
            ..IptablesFile::default()
        },
        ipvs: ipvs(flags),
        logging: logging(flags),
        metrics_bind_address: metrics,
        mode: flags.proxy_mode.clone(),
        nftables: NftablesFile { masquerade_bit: Some(14), ..NftablesFile::default() }, // there is no flag
        node_port_addresses: flags.nodeport_addresses.clone(),
        oom_score_adj: Some(flags.oom_score_adj),
        port_range: flags.proxy_port_range.clone(),
        show_hidden_metrics_for_version: flags.show_hidden_metrics_for_version.clone(),
        udp_idle_timeout: (flags.proxy_mode == "userspace").then_some(flags.udp_timeout),
        windows_run_as_service: false,
        winkernel: WinkernelFile::default(),
    };
    let (sync_period, min_sync_period) = match flags.proxy_mode.as_str() {
        "ipvs" => (flags.ipvs_sync_period, flags.ipvs_min_sync_period),
        _ => (flags.iptables_sync_period, flags.iptables_min_sync_period), // nftables has no flags of its own
    };
    file.set_mode_bound(ModeBound { sync_period, min_sync_period, masquerade_all: flags.masquerade_all });
    file
}

/// The addresses of health and metrics server, with what the deprecated port flags say about them.
fn addresses(flags: &RawFlags) -> (String, String) {
    let (healthz, metrics) = (flags.healthz_bind_address.clone(), flags.metrics_bind_address.clone());
    if !flags.write_config_to.is_empty() {
        return (healthz, metrics); // kube-proxy skips the port flags here, so a missing port stays missing
    }
    let apply = |address: &str, port| if port == 0 { String::new() } else { with_port(address, port) };
    (apply(&healthz, flags.healthz_port), apply(&metrics, flags.metrics_port))
}

fn conntrack(flags: &RawFlags) -> ConntrackFile {
    ConntrackFile {
        max_per_core: Some(flags.conntrack_max_per_core),
        min: Some(flags.conntrack_min),
        tcp_be_liberal: flags.conntrack_tcp_be_liberal,
        tcp_close_wait_timeout: Some(flags.conntrack_tcp_timeout_close_wait),
        tcp_established_timeout: Some(flags.conntrack_tcp_timeout_established),
        udp_stream_timeout: flags.conntrack_udp_timeout_stream,
        udp_timeout: flags.conntrack_udp_timeout,
    }
}

fn ipvs(flags: &RawFlags) -> IpvsFile {
    IpvsFile {
        exclude_cidrs: flags.ipvs_exclude_cidrs.clone(),
        scheduler: flags.ipvs_scheduler.clone(),
        strict_arp: flags.ipvs_strict_arp,
        tcp_fin_timeout: flags.ipvs_tcpfin_timeout,
        tcp_timeout: flags.ipvs_tcp_timeout,
        udp_timeout: flags.ipvs_udp_timeout,
        ..IpvsFile::default()
    }
}

fn logging(flags: &RawFlags) -> LoggingFile {
    let output =
        |buffer: &str, split_stream| OutputFile { info_buffer_size: buffer.to_owned(), split_stream };
    LoggingFile {
        flush_frequency: flags.log_flush_frequency,
        format: flags.logging_format.clone(),
        options: LoggingOptionsFile {
            json: output(&flags.log_json_info_buffer_size, flags.log_json_split_stream),
            text: output(&flags.log_text_info_buffer_size, flags.log_text_split_stream),
        },
        verbosity: flags.verbosity,
        vmodule: vmodule(flags),
    }
}

fn vmodule(flags: &RawFlags) -> Vec<VmoduleFile> {
    let entry =
        |p: &VerbosityPattern| VmoduleFile { file_pattern: p.pattern.clone(), verbosity: p.verbosity };
    flags.vmodule.iter().map(entry).collect()
}

/// Puts the logging flags that were given over the file's values; patterns go in front of the file's.
pub(super) fn merge_logging(file: &mut LoggingFile, parsed: &Parsed) {
    let asked = logging(&parsed.flags);
    let given = |name| parsed.given(name);
    if given("logging-format") {
        file.format = asked.format;
    }
    if given("log-flush-frequency") {
        file.flush_frequency = asked.flush_frequency;
    }
    if given("v") {
        file.verbosity = asked.verbosity;
    }
    if given("log-json-info-buffer-size") {
        file.options.json.info_buffer_size = asked.options.json.info_buffer_size;
    }
    if given("log-json-split-stream") {
        file.options.json.split_stream = asked.options.json.split_stream;
    }
    if given("log-text-info-buffer-size") {
        file.options.text.info_buffer_size = asked.options.text.info_buffer_size;
    }
    if given("log-text-split-stream") {
        file.options.text.split_stream = asked.options.text.split_stream;
    }
    file.vmodule.splice(0..0, asked.vmodule);
}
