//! Flags against file, defaults, and kube-proxy's quirks F1 to F8.

use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn no_flags_give_kube_proxys_defaults() {
    let configuration = from_line("");
    assert_eq!(configuration.mode, ProxyMode::Iptables);
    assert!(configuration.mode_was_blank);
    assert_eq!(configuration.detect_local_mode, DetectLocalMode::ClusterCidr);
    assert_eq!(configuration.node_port_addresses, NodePortAddresses::All);
    assert_eq!(configuration.healthz_bind_address, Some("0.0.0.0:10256".parse().unwrap()));
    assert_eq!(configuration.metrics_bind_address, "127.0.0.1:10249".parse().unwrap());
    assert_eq!((configuration.sync_period, configuration.min_sync_period), (30 * SECOND, SECOND));
    assert_eq!(configuration.conntrack.tcp_established_timeout, Some(24 * 3600 * SECOND));
    assert_eq!(configuration.conntrack.udp_timeout, None);
    assert_eq!(configuration.logging.flush_frequency, 5 * SECOND);
}

#[test]
fn an_empty_file_gives_the_same() {
    let (flags, file) = (from_line(""), from_file("", ""));
    let mut of_file = file.file;
    of_file.ipvs = flags.file.ipvs.clone();
    assert_eq!(of_file, flags.file);
}

#[test]
fn in_mode_nftables_node_ports_are_on_the_primary_address() {
    assert_eq!(from_line("--proxy-mode nftables").node_port_addresses, NodePortAddresses::Primary);
    assert_eq!(from_file("mode: nftables\n", "").node_port_addresses, NodePortAddresses::Primary);
}

#[test]
fn f1_an_empty_address_disables_nothing_but_port_zero_does() {
    assert!(from_line("--healthz-bind-address=").healthz_bind_address.is_some());
    assert_eq!(from_line("--healthz-port=0").healthz_bind_address, None);
    assert!(from_file("healthzBindAddress: \"\"\n", "").healthz_bind_address.is_some());
}

#[test]
fn f2_a_port_flag_only_completes_an_address() {
    assert_eq!(from_line("--healthz-port=99").healthz_bind_address.unwrap().port(), 10256);
    let completed = from_line("--healthz-port=99 --healthz-bind-address=10.0.0.1");
    assert_eq!(completed.healthz_bind_address, Some("10.0.0.1:99".parse().unwrap()));
    let completed = from_line("--metrics-port=99 --metrics-bind-address=fd00::1");
    assert_eq!(completed.metrics_bind_address, "[fd00::1]:99".parse().unwrap());
}

#[test]
fn f3_an_ipv6_bind_address_moves_the_servers_only_in_the_file() {
    let flags = from_line("--bind-address ::");
    assert_eq!(flags.healthz_bind_address, Some("0.0.0.0:10256".parse().unwrap()));
    let file = from_file("bindAddress: \"::\"\n", "");
    assert_eq!(file.healthz_bind_address, Some("[::]:10256".parse().unwrap()));
    assert_eq!(file.metrics_bind_address, "[::1]:10249".parse().unwrap());
}

#[test]
fn f4_write_config_to_does_not_complete_a_port() {
    let completed = complete_line("--healthz-bind-address 10.0.0.1 --write-config-to /x").unwrap();
    assert_eq!(
        validate(&completed).unwrap_err().to_string(),
        "failed validate: KubeProxyConfiguration.HealthzBindAddress: Invalid value: \"10.0.0.1\": must be IP:port"
    );
}

#[test]
fn f5_ipvs_has_a_least_pause_only_from_flags() {
    assert_eq!(from_line("--proxy-mode ipvs").min_sync_period, SECOND);
    assert_eq!(from_file("mode: ipvs\n", "").min_sync_period, Duration::ZERO);
}

#[test]
fn f6_iptables_flags_apply_to_nftables() {
    let line = "--iptables-sync-period 9s --iptables-min-sync-period 2s --masquerade-all --ipvs-sync-period 7s \
                --iptables-masquerade-bit 3";
    let nftables = from_line(&format!("--proxy-mode nftables {line}"));
    assert_eq!((nftables.sync_period, nftables.min_sync_period), (9 * SECOND, 2 * SECOND));
    assert!(nftables.masquerade_all);
    assert_eq!(nftables.masquerade_bit, 14, "no flag sets the bit of nftables");
    let ipvs = from_line(&format!("--proxy-mode ipvs {line}"));
    assert_eq!((ipvs.sync_period, ipvs.masquerade_bit, ipvs.masquerade_all), (7 * SECOND, 3, true));
}

#[test]
fn f7_with_a_file_most_flags_are_ignored() {
    let line = "--proxy-mode ipvs --feature-gates Nonsense=true --kubeconfig /x --healthz-port 0 --cluster-cidr bad \
                --oom-score-adj 5 --masquerade-all --udp-timeout 0";
    let configuration = from_file("mode: iptables\n", line);
    assert_eq!(configuration.mode, ProxyMode::Iptables);
    assert_eq!(configuration.client_connection.kubeconfig, None);
    assert!(configuration.healthz_bind_address.is_some());
    assert_eq!(configuration.oom_score_adj, -999);
    assert!(!configuration.masquerade_all);
}

#[test]
fn some_flags_win_over_the_file() {
    let configuration = from_file(
        "hostnameOverride: a\nclientConnection: {kubeconfig: /k}\n",
        "--hostname-override Node-1 --master https://x --manifests /m --cleanup --init-only --write-config-to /w",
    );
    assert_eq!(configuration.hostname_override.as_deref(), Some("node-1"));
    assert_eq!(configuration.master.as_deref(), Some("https://x"));
    assert_eq!(configuration.client_connection.kubeconfig, Some("/k".into()));
    assert_eq!(configuration.manifests, Some("/m".into()));
    let actions = Actions { write_config_to: Some("/w".into()), cleanup: true, init_only: true };
    assert_eq!(configuration.actions, actions);
    assert!(configuration.loaded_from.is_some());
}

#[test]
fn logging_flags_are_merged_into_the_file() {
    let fields = "logging: {verbosity: 2, flushFrequency: 7s, vmodule: [{filePattern: a, verbosity: 1}]}\n";
    let unchanged = from_file(fields, "").logging;
    assert_eq!((unchanged.verbosity, unchanged.flush_frequency), (2, 7 * SECOND));
    let merged = from_file(fields, "-v 5 --vmodule b=3").logging;
    assert_eq!((merged.verbosity, merged.flush_frequency), (5, 7 * SECOND));
    let patterns: Vec<_> = merged.vmodule.iter().map(|p| (p.pattern.as_str(), p.verbosity)).collect();
    assert_eq!(patterns, [("b", 3), ("a", 1)]);
}

#[test]
fn the_file_is_read_by_the_section_of_its_mode() {
    let fields = "iptables: {syncPeriod: 11s, minSyncPeriod: 2s, masqueradeAll: true, masqueradeBit: 1}\n\
                  ipvs: {syncPeriod: 12s, minSyncPeriod: 3s}\n\
                  nftables: {syncPeriod: 13s, minSyncPeriod: 4s, masqueradeBit: 2}\n";
    for (mode, sync, min, all, bit) in [
        ("iptables", 11, 2, true, 1),
        ("ipvs", 12, 3, true, 1),
        ("nftables", 13, 4, false, 2),
        ("userspace", 11, 2, true, 1),
        ("\"\"", 11, 2, true, 1),
    ] {
        let c = from_file(&format!("mode: {mode}\n{fields}"), "");
        assert_eq!((c.sync_period, c.min_sync_period), (sync * SECOND, min * SECOND), "{mode}");
        assert_eq!((c.masquerade_all, c.masquerade_bit), (all, bit), "{mode}");
    }
}

#[test]
fn zero_in_the_file_is_the_default_but_for_conntrack() {
    let c = from_file(
        "configSyncPeriod: 0s\niptables: {minSyncPeriod: 0s}\nclientConnection: {qps: 0, burst: 0}\n\
         conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s}\n",
        "",
    );
    assert_eq!((c.config_sync_period, c.min_sync_period), (900 * SECOND, SECOND));
    assert_eq!((c.client_connection.qps, c.client_connection.burst), (5.0, 10));
    assert_eq!((c.conntrack.max_per_core, c.conntrack.tcp_established_timeout), (0, None));
}

#[test]
fn a_blank_hostname_and_bad_gates_fail_complete() {
    let blank = flags::parse("p", &["--hostname-override=  ".to_owned()]).unwrap();
    assert_eq!(
        complete(&blank).unwrap_err().to_string(),
        "failed complete: empty hostname-override is invalid"
    );
    for (line, message) in [
        ("--feature-gates X=true", "failed complete: unrecognized feature gate: X"),
        (
            "--feature-gates WinDSR=false",
            "failed complete: cannot set feature gate WinDSR to false, feature is locked to true",
        ),
    ] {
        assert_eq!(complete_line(line).unwrap_err().to_string(), message);
    }
}

#[test]
fn notices_tell_of_lenient_decoding_and_settled_gates() {
    let completed =
        complete_file("colour: red\nfeatureGates: {AllowServiceExternalIPs: false}\n", "").unwrap();
    assert_eq!(completed.notices[0].message, "Using lenient decoding as strict decoding failed");
    assert_eq!(
        completed.notices[0].error.as_deref(),
        Some(r#"strict decoding error: unknown field "colour""#)
    );
    assert_eq!(completed.notices[1].severity, Severity::Warning);
    assert!(!completed.feature_gates.enabled("AllowServiceExternalIPs"));
}
