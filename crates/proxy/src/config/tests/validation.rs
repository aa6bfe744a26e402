//! Every row of the validation table, with path and text.

use super::*;

/// The one error of a file, without its fixed beginning.
fn refused(fields: &str) -> String {
    let completed = complete_file(fields, "").unwrap();
    let error = validate(&completed).expect_err(fields).to_string();
    error.strip_prefix("failed validate: KubeProxyConfiguration.").unwrap_or(&error).to_owned()
}

fn refused_line(line: &str) -> String {
    validate(&complete_line(line).unwrap()).expect_err(line).to_string()
}

#[test]
fn numbers_outside_their_range_are_named() {
    const CONNTRACK: &str = "KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration";
    for (fields, message) in [
        (
            "iptables: {masqueradeBit: 32}",
            "KubeProxyIPTablesConfiguration.MasqueradeBit: Invalid value: 32: must be within the range [0, 31]",
        ),
        (
            "mode: nftables\nnftables: {masqueradeBit: -1}",
            "KubeProxyNFTablesConfiguration.MasqueradeBit: Invalid value: -1: must be within the range [0, 31]",
        ),
        (
            "oomScoreAdj: 1001",
            "KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: 1001: must be within the range [-1000, 1000]",
        ),
        (
            "clientConnection: {burst: -1}",
            "ClientConnection.Burst: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "conntrack: {maxPerCore: -1}",
            &format!("{CONNTRACK}.MaxPerCore: Invalid value: -1: must be greater than or equal to 0"),
        ),
        (
            "conntrack: {min: -5}",
            &format!("{CONNTRACK}.Min: Invalid value: -5: must be greater than or equal to 0"),
        ),
    ] {
        assert_eq!(refused(&format!("{fields}\n")), message);
    }
}

#[test]
fn durations_outside_their_range_are_named() {
    for (fields, path, value, text) in [
        ("configSyncPeriod: -1s", "ConfigSyncPeriod", "-1s", "must be greater than 0"),
        (
            "mode: ipvs\nipvs: {minSyncPeriod: -1s}",
            "MinSyncPeriod",
            "-1s",
            "must be greater than or equal to 0",
        ),
        (
            "iptables: {syncPeriod: 5s, minSyncPeriod: 10s}",
            "SyncPeriod",
            "10s",
            "must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod",
        ),
        (
            "mode: nftables\nnftables: {syncPeriod: 3h, minSyncPeriod: 2h}",
            "MinSyncPeriod",
            "2h0m0s",
            "must be less than or equal to 1h0m0s in mode nftables",
        ),
        ("mode: userspace\nudpIdleTimeout: 0s", "UDPIdleTimeout", "0s", "must be greater than 0"),
    ] {
        let expected = format!("{path}: Invalid value: \"{value}\": {text}");
        assert_eq!(refused(&format!("{fields}\n")), expected, "{fields}");
    }
    for field in ["tcpEstablishedTimeout", "tcpCloseWaitTimeout", "udpTimeout", "udpStreamTimeout"] {
        let error = refused(&format!("conntrack: {{{field}: -1s}}\n"));
        let (first, rest) = field.split_at(3);
        let path = format!("KubeProxyConntrackConfiguration.{}{rest}: ", first.to_uppercase());
        assert!(error.contains(&path), "{error}");
    }
    for (field, path) in
        [("tcpTimeout", "TCPTimeout"), ("tcpFinTimeout", "TCPFinTimeout"), ("udpTimeout", "UDPTimeout")]
    {
        let error = refused(&format!("mode: ipvs\nipvs: {{{field}: -1s}}\n"));
        assert!(error.starts_with(&format!("KubeProxyIPVSConfiguration.{path}: ")), "{error}");
        from_file(&format!("mode: iptables\nipvs: {{{field}: -1s}}\n"), ""); // only its own mode looks
    }
    assert!(
        refused_line("--iptables-sync-period 0")
            .contains(".SyncPeriod: Invalid value: \"0s\": must be greater")
    );
}

#[test]
fn a_negative_period_breaks_two_rules_at_once() {
    assert_eq!(
        refused_line("--iptables-sync-period=-1s"),
        "failed validate: [KubeProxyConfiguration.SyncPeriod: Invalid value: \"-1s\": must be greater than 0, \
         KubeProxyConfiguration.SyncPeriod: Invalid value: \"1s\": must be greater than or equal to \
         KubeProxyConfiguration.MinSyncPeriod]"
    );
}

#[test]
fn addresses_and_ranges_are_checked() {
    for (fields, message) in [
        (
            "bindAddress: x",
            r#"BindAddress: Invalid value: "x": not a valid textual representation of an IP address"#,
        ),
        ("healthzBindAddress: x", r#"HealthzBindAddress: Invalid value: "x": must be IP:port"#),
        ("healthzBindAddress: x:1", r#"HealthzBindAddress: Invalid value: "x": must be a valid IP"#),
        ("healthzBindAddress: 1.1.1.1:0", r#"HealthzBindAddress: Invalid value: "0": must be a valid port"#),
        (
            "metricsBindAddress: 1.1.1.1:65536",
            r#"MetricsBindAddress: Invalid value: "65536": must be a valid port"#,
        ),
        (
            "nodePortAddresses: [10.0.0.0/8, x]",
            r#"NodePortAddresses[1]: Invalid value: "x": must be a valid CIDR"#,
        ),
        (
            "nodePortAddresses: [10.0.0.0/8, primary, x]",
            r#"NodePortAddresses[1]: Invalid value: "primary": can't use both 'primary' and CIDRs"#,
        ),
        (
            "mode: ipvs\nipvs: {excludeCIDRs: [x]}",
            r#"KubeProxyIPVSConfiguration.ExcludeCidrs[0]: Invalid value: "x": must be a valid CIDR"#,
        ),
        (
            "clusterCIDR: 10.0.0.0/8, fd00::/8",
            r#"DetectLocalConfiguration.ClusterCIDRs[1]: Invalid value: " fd00::/8": must be a valid CIDR"#,
        ),
        (
            "clusterCIDR: 10.0.0.0/8,11.0.0.0/8",
            r#"DetectLocalConfiguration.ClusterCIDRs: Invalid value: ["10.0.0.0/8","11.0.0.0/8"]: only one CIDR allowed or a valid DualStack CIDR (e.g. 10.100.0.0/16,fde4:8dba:82e1::/48)"#,
        ),
    ] {
        assert_eq!(refused(&format!("{fields}\n")), message);
    }
    assert!(refused("clusterCIDR: 10.0.0.0/8,fd00::/8,11.0.0.0/8\n").contains("only one CIDR allowed"));
    let pair = from_file("clusterCIDR: 10.0.0.0/8,fd00::/8\n", "").detect_local.cluster_cidrs;
    assert_eq!(pair.len(), 2);
    from_file("detectLocalMode: NodeCIDR\nclusterCIDR: nonsense\n", ""); // only its own mode looks
}

#[test]
fn modes_and_names_are_checked() {
    for (fields, message) in [
        (
            "mode: kernelspace",
            r#"Mode.ProxyMode: Invalid value: "kernelspace": must be iptables, ipvs, nftables, userspace or blank (blank means the best-available proxy [currently iptables])"#,
        ),
        (
            "detectLocalMode: clusterCIDR",
            r#"DetectLocalMode: Unsupported value: "clusterCIDR": supported values: "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", """#,
        ),
        (
            "detectLocalMode: BridgeInterface",
            r#"DetectLocalConfiguration.InterfaceName: Invalid value: "": must not be empty"#,
        ),
        (
            "detectLocalMode: InterfaceNamePrefix",
            r#"DetectLocalConfiguration.InterfacePrefix: Invalid value: "": must not be empty"#,
        ),
        (
            "showHiddenMetricsForVersion: \"1.34\"",
            r#"ShowHiddenMetricsForVersion: Invalid value: "1.34": --show-hidden-metrics-for-version must be omitted or have the value '1.35'. Only the previous minor version is allowed"#,
        ),
    ] {
        assert_eq!(refused(&format!("{fields}\n")), message);
    }
    assert!(from_line("--show-hidden-metrics-for-version 1.35").show_hidden_metrics);
}

#[test]
fn switching_the_metrics_server_off_is_refused() {
    assert_eq!(
        refused_line("--metrics-port=0"),
        "failed validate: KubeProxyConfiguration.MetricsBindAddress: Invalid value: \"\": must be IP:port"
    );
}

#[test]
fn several_errors_come_in_brackets() {
    let error = refused("oomScoreAdj: 2000\nmode: x\nbindAddress: nowhere\n");
    assert!(
        error.starts_with(
            "failed validate: [KubeProxyConfiguration.KubeProxyLinuxConfiguration.OOMScoreAdj: "
        )
    );
    assert!(error.contains(", KubeProxyConfiguration.Mode.ProxyMode: "));
    assert!(error.ends_with("IP address]"), "{error}");
}

#[test]
fn logging_options_are_checked_before_the_rest() {
    for (line, message) in [
        (
            "--log-flush-frequency 0",
            r#"logging.flushFrequency: Invalid value: "0s": Must be greater than zero"#,
        ),
        ("--logging-format x", r#"logging.format: Invalid value: "x": Unsupported log format"#),
        (
            "--logging-format json --vmodule a=1",
            "logging.vmodule: Forbidden: Only supported for text log format",
        ),
        (
            "--logging-format json --feature-gates LoggingBetaOptions=false",
            "logging.format: Forbidden: Log format json is BETA and disabled, see LoggingBetaOptions feature",
        ),
        (
            "--log-text-split-stream",
            "logging.options.text.splitStream: Forbidden: Feature LoggingAlphaOptions is disabled",
        ),
        (
            "--log-json-info-buffer-size 1Ki",
            "logging.options.json.infoBufferSize: Forbidden: Feature LoggingAlphaOptions is disabled",
        ),
        (
            "-v 2147483648",
            "logging.verbosity: Invalid value: 2147483648: Must be less than or equal to 2147483647",
        ),
    ] {
        let completed = complete_line(&format!("{line} --proxy-mode bad")).unwrap();
        let message = format!("initialize logging: {message}");
        assert_eq!(completed.logging().unwrap_err().to_string(), message);
        assert_eq!(validate(&completed).unwrap_err().to_string(), message);
    }
    let empty = complete_file("logging: {vmodule: [{verbosity: 1}, {filePattern: a=b}]}\n", "").unwrap();
    assert_eq!(
        empty.logging().unwrap_err().to_string(),
        "initialize logging: [logging.vmodule[0]: Required value: File pattern must not be empty, \
         logging.vmodule[1]: Invalid value: \"a=b\": File pattern must not contain equal sign or comma]"
    );
    let split = from_line("--log-text-split-stream --feature-gates LoggingAlphaOptions=true");
    assert!(split.logging.split_stream);
    assert_eq!(from_line("--logging-format json").logging.format, LogFormat::Json);
}

#[test]
fn userspace_options_count_in_their_mode_only() {
    for (range, expected) in [
        ("", None),
        ("0", None),
        ("0-0", None),
        ("30000", Some((30000, 30000))),
        ("100-200", Some((100, 200))),
        ("100+5", Some((100, 105))),
    ] {
        let c = from_file(&format!("mode: userspace\nportRange: \"{range}\"\n"), "");
        assert_eq!(c.userspace.port_range, expected, "{range}");
    }
    for range in ["200-100", "1-70000", "65535+1", "x", "-1"] {
        let fields = format!("portRange: \"{range}\"\n");
        assert!(
            refused(&format!("mode: userspace\n{fields}")).starts_with("PortRange: Invalid value: "),
            "{range}"
        );
        from_file(&fields, "");
    }
    let c = from_line("--proxy-mode userspace --udp-timeout 1s --proxy-port-range 5-6");
    assert_eq!(c.userspace.udp_idle_timeout.as_secs(), 1);
    assert_eq!(c.userspace.port_range, Some((5, 6)));
}
