use clap::Parser;

use super::*;

fn host() -> Host {
    Host { name: "Machine".to_owned(), addresses: vec!["192.0.2.1".parse().unwrap()] }
}

fn check(arguments: &[&str]) -> Result<Settings, FlagError> {
    let all = ["switchyard agent", "--kubeconfig", "/k"].iter().chain(arguments);
    Settings::check(&Flags::try_parse_from(all).unwrap(), &host())
}

#[test]
fn without_flags_the_host_says_who_the_node_is() {
    let settings = check(&[]).unwrap();
    assert_eq!(settings.node_name, "machine");
    assert_eq!(settings.node_ips, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert_eq!((settings.port, settings.max_pods), (10250, 110));
    assert_eq!(settings.status_interval, Duration::from_secs(10));
    assert!(settings.register_node && settings.network == PodNetwork::Routes);
}

#[test]
fn flags_say_otherwise() {
    let settings = check(&[
        "--hostname-override=node-1",
        "--node-ip=10.0.0.1,fd00::1",
        "--node-labels=zone=a,empty=",
        "--pod-cidr=10.244.1.7/24,fd00:1::/64",
        "--register-node=false",
        "--node-status-update-frequency=1m30s",
        "--network=vxlan",
    ])
    .unwrap();
    assert_eq!(settings.node_name, "node-1");
    assert_eq!(settings.node_ips.len(), 2);
    assert_eq!(settings.node_labels.get("zone").map(String::as_str), Some("a"));
    assert_eq!(settings.pod_cidrs[0].to_string(), "10.244.1.0/24");
    assert!(!settings.register_node && settings.network == PodNetwork::Vxlan);
    assert_eq!(settings.status_interval, Duration::from_secs(90));
}

#[test]
fn what_cannot_be_followed_is_told_with_the_flag() {
    for (flag, part) in [
        ("--hostname-override=No_Name", "small letters"),
        ("--node-ip=10.0.0.1,10.0.0.2", "different families"),
        ("--pod-cidr=10.244.1.0", "valid CIDR"),
        ("--node-labels=zone", "KEY=VALUE"),
    ] {
        let error = check(&[flag]).unwrap_err().to_string();
        assert!(error.contains(part) && error.starts_with(flag.split('=').next().unwrap()), "{error}");
    }
    let flags = Flags::try_parse_from(["a", "--kubeconfig", "/k"]).unwrap();
    let nowhere = Host { addresses: Vec::new(), ..host() };
    assert!(Settings::check(&flags, &nowhere).unwrap_err().to_string().contains("--node-ip"));
    for wrong in ["0s", "soon", "-1s"] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
}
