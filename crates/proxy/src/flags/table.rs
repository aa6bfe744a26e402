//! The table of flags: one row a flag, from which parsing, help, the `FLAG:` lines and `/flagz` are made.
//!
//! Rows are sorted by name, the order in which help and logs list them. Defaults are `RawFlags::default()`.

use super::value::Slot::{
    self, Bool, Duration, Float, Gates, Int, Ip, IpPort, Level, List, Named, Patterns, Quantity, Text,
    Version,
};

/// Whose flag it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// kube-proxy 1.36 has it too.
    KubeProxy,
    /// It exists here only.
    Switchyard,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) letter: Option<char>,
    pub(crate) slot: Slot,
    pub(crate) doc: &'static str,
    pub(crate) group: Group,
    /// What to do instead; such a flag works, is not listed in help, and says so on stderr.
    pub(crate) deprecated: Option<&'static str>,
}

impl Flag {
    /// Whether help lists the flag.
    pub(crate) fn listed(&self) -> bool {
        self.deprecated.is_none()
    }

    const fn letter(self, letter: char) -> Flag {
        Flag { letter: Some(letter), ..self }
    }

    const fn deprecated(self, hint: &'static str) -> Flag {
        Flag { deprecated: Some(hint), ..self }
    }

    const fn ours(self) -> Flag {
        Flag { group: Group::Switchyard, ..self }
    }
}

const fn flag(name: &'static str, slot: Slot, doc: &'static str) -> Flag {
    Flag { name, letter: None, slot, doc, group: Group::KubeProxy, deprecated: None }
}

#[rustfmt::skip] // a table: a row a flag
pub(crate) const TABLE: &[Flag] = &[
    flag("bind-address", Ip(|f| &mut f.bind_address),
        "Overrides the node's primary IP; nothing is bound to it. An address other than zero also decides the primary IP family."),
    flag("bind-address-hard-fail", Bool(|f| &mut f.bind_address_hard_fail),
        "End the process when the health or metrics address cannot be bound, instead of retrying."),
    flag("boot-id-file", Text(|f| &mut f.boot_id_file),
        "Accepted for compatibility; has no effect on proxying."),
    flag("cleanup", Bool(|f| &mut f.cleanup),
        "Remove the rules of every mode from this node and exit."),
    flag("cluster-cidr", Text(|f| &mut f.cluster_cidr),
        "The pods' address range: one CIDR, or a dual-stack pair separated by a comma without blanks. Used with detect-local-mode ClusterCIDR. Ignored with --config."),
    flag("config", Text(|f| &mut f.config),
        "Path of the configuration file. Most other flags are ignored when it is given."),
    flag("config-sync-period", Duration(|f| &mut f.config_sync_period),
        "How often configuration from the API server is refreshed. Must be greater than 0."),
    flag("conntrack-max-per-core", Int(|f| &mut f.conntrack_max_per_core),
        "Conntrack entries to allow per CPU core; 0 leaves the kernel's limit alone and ignores conntrack-min."),
    flag("conntrack-min", Int(|f| &mut f.conntrack_min),
        "Conntrack entries to allow at least, whatever conntrack-max-per-core says."),
    flag("conntrack-tcp-be-liberal", Bool(|f| &mut f.conntrack_tcp_be_liberal),
        "Do not mark TCP packets outside the window as invalid (nf_conntrack_tcp_be_liberal=1)."),
    flag("conntrack-tcp-timeout-close-wait", Duration(|f| &mut f.conntrack_tcp_timeout_close_wait),
        "Conntrack timeout of TCP connections in CLOSE_WAIT; 0 leaves the kernel's."),
    flag("conntrack-tcp-timeout-established", Duration(|f| &mut f.conntrack_tcp_timeout_established),
        "Conntrack timeout of idle established TCP connections; 0 leaves the kernel's."),
    flag("conntrack-udp-timeout", Duration(|f| &mut f.conntrack_udp_timeout),
        "Conntrack timeout of UDP flows that saw no answer; 0 leaves the kernel's."),
    flag("conntrack-udp-timeout-stream", Duration(|f| &mut f.conntrack_udp_timeout_stream),
        "Conntrack timeout of UDP flows with answers; 0 leaves the kernel's."),
    flag("detect-local-mode", Named("LocalMode", |f| &mut f.detect_local_mode),
        "How traffic of local pods is recognised: ClusterCIDR (the default), NodeCIDR, BridgeInterface or InterfaceNamePrefix. Ignored with --config."),
    flag("feature-gates", Gates(|f| &mut f.feature_gates),
        "Feature gates to switch, as Name=true|false pairs. Names are those of Kubernetes 1.36. Ignored with --config."),
    flag("healthz-bind-address", IpPort(|f| &mut f.healthz_bind_address),
        "Address of the health server: IP or IP:port. Ignored with --config."),
    flag("healthz-port", Int(|f| &mut f.healthz_port),
        "Port of the health server if its address has none; 0 switches it off.")
        .deprecated("This flag is deprecated and will be removed in a future release. Please use --healthz-bind-address instead."),
    flag("help", Bool(|f| &mut f.help), "Print this text and exit.").letter('h'),
    flag("hostname-override", Text(|f| &mut f.hostname_override),
        "The name of this node, if it is not the host's name."),
    flag("init-only", Bool(|f| &mut f.init_only),
        "Do what needs full privileges (kernel settings), then exit, so that the proxy itself can run with CAP_NET_ADMIN only."),
    flag("iptables-localhost-nodeports", Bool(|f| &mut f.iptables_localhost_nodeports),
        "Mode iptables, IPv4: make NodePorts reachable on loopback addresses."),
    flag("iptables-masquerade-bit", Int(|f| &mut f.iptables_masquerade_bit),
        "The bit of the packet mark that asks for masquerading, in modes iptables and ipvs. 0 to 31."),
    flag("iptables-min-sync-period", Duration(|f| &mut f.iptables_min_sync_period),
        "The least time between two writes of the rules, in every mode but ipvs."),
    flag("iptables-sync-period", Duration(|f| &mut f.iptables_sync_period),
        "How often the rules are checked without any change, in every mode but ipvs. Must be greater than 0."),
    flag("ipvs-exclude-cidrs", List(|f| &mut f.ipvs_exclude_cidrs),
        "Ranges of virtual servers that mode ipvs leaves alone."),
    flag("ipvs-min-sync-period", Duration(|f| &mut f.ipvs_min_sync_period),
        "The least time between two writes in mode ipvs."),
    flag("ipvs-scheduler", Text(|f| &mut f.ipvs_scheduler),
        "Scheduler of mode ipvs; blank is rr."),
    flag("ipvs-strict-arp", Bool(|f| &mut f.ipvs_strict_arp),
        "Mode ipvs: set arp_ignore to 1 and arp_announce to 2."),
    flag("ipvs-sync-period", Duration(|f| &mut f.ipvs_sync_period),
        "How often mode ipvs checks its state without any change. Must be greater than 0."),
    flag("ipvs-tcp-timeout", Duration(|f| &mut f.ipvs_tcp_timeout),
        "IPVS timeout of idle TCP connections; 0 leaves the kernel's."),
    flag("ipvs-tcpfin-timeout", Duration(|f| &mut f.ipvs_tcpfin_timeout),
        "IPVS timeout of TCP connections after a FIN; 0 leaves the kernel's."),
    flag("ipvs-udp-timeout", Duration(|f| &mut f.ipvs_udp_timeout),
        "IPVS timeout of UDP flows; 0 leaves the kernel's."),
    flag("kube-api-burst", Int(|f| &mut f.kube_api_burst),
        "Requests to the API server that may go out at once."),
    flag("kube-api-content-type", Text(|f| &mut f.kube_api_content_type),
        "Content type of requests to the API server."),
    flag("kube-api-qps", Float(|f| &mut f.kube_api_qps),
        "Requests a second to the API server."),
    flag("kubeconfig", Text(|f| &mut f.kubeconfig),
        "Path of the kubeconfig file: where the API server is and how to log in."),
    flag("log-flush-frequency", Duration(|f| &mut f.log_flush_frequency),
        "The longest time between two flushes of the log. Must be greater than 0."),
    flag("log-json-info-buffer-size", Quantity(|f| &mut f.log_json_info_buffer_size),
        "[Alpha] Buffer of info messages with split streams, JSON format. Needs the gate LoggingAlphaOptions."),
    flag("log-json-split-stream", Bool(|f| &mut f.log_json_split_stream),
        "[Alpha] JSON format: errors to stderr, info messages to stdout. Needs the gate LoggingAlphaOptions."),
    flag("log-text-info-buffer-size", Quantity(|f| &mut f.log_text_info_buffer_size),
        "[Alpha] Buffer of info messages with split streams, text format. Needs the gate LoggingAlphaOptions."),
    flag("log-text-split-stream", Bool(|f| &mut f.log_text_split_stream),
        "[Alpha] Text format: errors to stderr, info messages to stdout. Needs the gate LoggingAlphaOptions."),
    flag("logging-format", Text(|f| &mut f.logging_format),
        "Format of log lines: text, or json (gated by LoggingBetaOptions)."),
    flag("machine-id-file", Text(|f| &mut f.machine_id_file),
        "Accepted for compatibility; has no effect on proxying."),
    flag("manifests", Text(|f| &mut f.manifests),
        "Follow Services, EndpointSlices and Nodes in this YAML file, or folder of YAML files, instead of an API server. Works with --config too.").ours(),
    flag("masquerade-all", Bool(|f| &mut f.masquerade_all),
        "Masquerade all traffic to cluster IPs."),
    flag("master", Text(|f| &mut f.master),
        "URL of the API server; wins over the one in the kubeconfig."),
    flag("metrics-bind-address", IpPort(|f| &mut f.metrics_bind_address),
        "Address of the metrics server: IP or IP:port. Ignored with --config."),
    flag("metrics-port", Int(|f| &mut f.metrics_port),
        "Port of the metrics server if its address has none.")
        .deprecated("This flag is deprecated and will be removed in a future release. Please use --metrics-bind-address instead."),
    flag("nodeport-addresses", List(|f| &mut f.nodeport_addresses),
        "Node addresses that accept NodePort connections: CIDRs, or the word primary for the node's own IPs. Empty is all of them, except in mode nftables, where it is primary."),
    flag("oom-score-adj", Int(|f| &mut f.oom_score_adj),
        "The oom_score_adj of this process, -1000 to 1000."),
    flag("pod-bridge-interface", Text(|f| &mut f.pod_bridge_interface),
        "The bridge of the pods, for detect-local-mode BridgeInterface."),
    flag("pod-interface-name-prefix", Text(|f| &mut f.pod_interface_name_prefix),
        "Prefix of the pods' interface names, for detect-local-mode InterfaceNamePrefix."),
    flag("profiling", Bool(|f| &mut f.profiling),
        "Serve /debug/pprof and /debug/flags on the metrics server."),
    flag("proxy-mode", Named("ProxyMode", |f| &mut f.proxy_mode),
        "How packets are forwarded: iptables (the default), ipvs, nftables or userspace. Ignored with --config."),
    flag("proxy-port-range", Text(|f| &mut f.proxy_port_range),
        "Mode userspace: ports to listen on, as from-to, base+offset or one port; blank or 0 lets the kernel choose.").ours(),
    flag("show-hidden-metrics-for-version", Text(|f| &mut f.show_hidden_metrics_for_version),
        "Show metrics that were hidden in this release; only the previous one, 1.35, is accepted."),
    flag("udp-timeout", Duration(|f| &mut f.udp_timeout),
        "Mode userspace: how long an idle UDP flow is kept. Must be greater than 0.").ours(),
    flag("v", Level(|f| &mut f.verbosity), "Verbosity of the log.").letter('v'),
    flag("version", Version(|f| &mut f.version),
        "Print the version and exit; =raw prints every detail, =vX.Y.Z-... reports that version and runs."),
    flag("vmodule", Patterns(|f| &mut f.vmodule),
        "Verbosity by source file, as pattern=N pairs; text format only."),
    flag("write-config-to", Text(|f| &mut f.write_config_to),
        "Write the effective configuration to this file as YAML and exit."),
];
