//! What counts as a configuration file.

use super::*;

fn decoded(text: &str) -> (KubeProxyConfiguration, Option<String>) {
    decode(text, "config.yaml").unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    let error = decode(text, "config.yaml").expect_err(text).to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn a_clean_document_decodes_strictly() {
    let (file, complaint) = decoded(&format!(
        "{HEADER}mode: nftables\nnftables:\n  syncPeriod: 1m\n  masqueradeBit: 3\nipvs:\n  excludeCIDRs: [10.0.0.0/8]\n\
         featureGates: {{AllAlpha: false}}\nlogging: {{flushFrequency: 5000000000, options: {{json: {{infoBufferSize: 4Ki}}}}}}\n\
         clientConnection: {{qps: 5}}\noomScoreAdj: null\nwinkernel: {{enableDSR: true}}\nudpIdleTimeout: 1s\nportRange: 1-2\n"
    ));
    assert_eq!(complaint, None);
    assert_eq!(file.mode, "nftables");
    assert_eq!(file.nftables.masquerade_bit, Some(3));
    assert_eq!(file.nftables.sync_period.to_string(), "1m0s");
    assert_eq!(file.ipvs.exclude_cidrs, ["10.0.0.0/8"]);
    assert_eq!(file.logging.flush_frequency.to_string(), "5s");
    assert_eq!(file.oom_score_adj, None);
}

#[test]
fn numbers_and_booleans_are_those_of_kubectl() {
    let (file, _) = decoded(&format!("{HEADER}iptables: {{masqueradeBit: 010, masqueradeAll: yes}}\n"));
    assert_eq!(file.iptables.masquerade_bit, Some(8));
    assert!(file.iptables.masquerade_all);
}

#[test]
fn json_is_read_too() {
    let text =
        r#"{"kind":"KubeProxyConfiguration","apiVersion":"kubeproxy.config.k8s.io/v1alpha1","mode":"ipvs"}"#;
    assert_eq!(decoded(text).0.mode, "ipvs");
}

#[test]
fn what_strict_decoding_refuses_is_dropped_and_told() {
    for (fields, complaint) in [
        ("colour: red\n", r#"strict decoding error: unknown field "colour""#),
        ("Mode: ipvs\n", r#"strict decoding error: unknown field "Mode""#),
        ("iptables:\n  bit: 1\n", r#"strict decoding error: unknown field "iptables.bit""#),
        ("a: 1\nb: 2\n", r#"strict decoding error: unknown field "a", unknown field "b""#),
    ] {
        let (file, told) = decoded(&format!("{HEADER}{fields}"));
        assert_eq!(told.as_deref(), Some(complaint));
        assert_eq!(file.mode, "");
    }
}

#[test]
fn of_two_equal_keys_the_later_holds() {
    let (file, complaint) = decoded(&format!("{HEADER}mode: ipvs\nmode: nftables\n"));
    assert_eq!(file.mode, "nftables");
    assert_eq!(complaint.as_deref(), Some(r#"strict decoding error: duplicate field "mode""#));
}

#[test]
fn what_is_no_configuration_is_refused_by_name() {
    for (text, message) in [
        ("", "Object 'Kind' is missing in 'config.yaml'"),
        ("mode: ipvs", "Object 'Kind' is missing in 'config.yaml'"),
        ("kind: KubeProxyConfiguration", "Object 'apiVersion' is missing in 'config.yaml'"),
        (
            "kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1",
            r#"no kind "KubeProxyConfiguration" is registered for version "kubeproxy.config.k8s.io/v1""#,
        ),
        ("kind: Pod\napiVersion: v1", r#"no kind "Pod" is registered for version "v1""#),
        ("a: 1\n---\nb: 2\n", "config.yaml: more than one YAML document"),
        ("- a\n- b\n", "config.yaml: the document is not an object"),
    ] {
        assert_eq!(refused(text), message);
    }
    assert!(refused("mode: [").starts_with("config.yaml: "));
    assert!(refused("{\"kind\": ").starts_with("config.yaml: "));
}

#[test]
fn a_value_of_the_wrong_type_names_its_field() {
    for (fields, start) in [
        (
            "iptables: {masqueradeBit: many}",
            "config.yaml: field iptables.masqueradeBit: invalid type: string",
        ),
        ("iptables: {syncPeriod: 5}", "config.yaml: field iptables.syncPeriod: invalid type"),
        (
            "iptables: {syncPeriod: 5d}",
            r#"config.yaml: field iptables.syncPeriod: time: unknown unit "d" in duration "5d""#,
        ),
        (
            "logging: {flushFrequency: true}",
            "config.yaml: field logging.flushFrequency: expected a string or a number",
        ),
        ("hostnameOverride: 5", "config.yaml: field hostnameOverride: invalid type"),
        ("nodePortAddresses: primary", "config.yaml: field nodePortAddresses: invalid type"),
        ("oomScoreAdj: 99999999999", "config.yaml: field oomScoreAdj: invalid value"),
        ("featureGates: {AllBeta: 3}", "config.yaml: field featureGates.AllBeta: invalid type"),
        ("logging: {verbosity: -1}", "config.yaml: field logging.verbosity: invalid value"),
        (
            "logging: {options: {text: {infoBufferSize: big}}}",
            "config.yaml: field logging.options.text.infoBufferSize: invalid value",
        ),
    ] {
        let error = refused(&format!("{HEADER}{fields}\n"));
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn errors_say_which_step_failed() {
    let missing = complete_line("--config /does/not/exist").unwrap_err();
    assert_eq!(missing.to_string(), "failed complete: open /does/not/exist: no such file or directory");
    let wrong = complete_file("mode: 5\n", "").unwrap_err().to_string();
    assert!(wrong.starts_with("failed complete: failed to decode: /"), "{wrong}");
}
