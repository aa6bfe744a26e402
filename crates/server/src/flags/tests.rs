use super::*;
use crate::store::EtcdSettings;

fn check(arguments: &[&str]) -> Result<Settings, String> {
    let arguments = ["switchyard apiserver"].iter().chain(arguments);
    let flags = Flags::try_parse_from(arguments).map_err(|error| error.to_string())?;
    Settings::check(&flags.serve, &[[192, 0, 2, 1].into()]).map_err(|error| error.to_string())
}

fn refused(arguments: &[&str]) -> String {
    check(arguments).unwrap_err()
}

#[test]
fn the_defaults_are_upstreams() {
    let settings = check(&[]).unwrap();
    assert_eq!(settings.cluster.service_ranges, ["10.0.0.0/24".parse().unwrap()]);
    assert_eq!(settings.cluster.node_ports, 30000..=32767);
    assert_eq!(settings.cluster.secure_port, 6443);
    assert_eq!(settings.cluster.advertise_address.to_string(), "192.0.2.1");
    assert_eq!(settings.event_ttl, Duration::from_secs(3600));
    assert_eq!(settings.kubeconfig, PathBuf::from("/var/lib/switchyard/admin.kubeconfig"));
    assert_eq!(settings.store, StoreSettings::Embedded);
    assert!(settings.allows_anonymous);
}

#[test]
fn flags_are_read_as_upstream_reads_them() {
    let settings = check(&[
        "--service-cluster-ip-range=10.1.0.0/16, fd00::/108",
        "--service-node-port-range=31000+9",
        "--anonymous-auth=false",
        "--event-ttl=1h30m0s",
        "--etcd-servers=http://a:2379,http://b:2379",
        "-v=4",
    ])
    .unwrap();
    assert_eq!(settings.cluster.service_ranges.len(), 2);
    assert_eq!(settings.cluster.node_ports, 31000..=31009);
    assert!(!settings.allows_anonymous);
    assert_eq!((settings.event_ttl.as_secs(), settings.verbosity), (5400, 4));
    let StoreSettings::Etcd(EtcdSettings { urls, prefix, .. }) = settings.store else {
        panic!("etcd was asked for")
    };
    assert_eq!((urls.len(), prefix.as_str()), (2, "/registry"));
    assert!(check(&["--anonymous-auth"]).unwrap().allows_anonymous);
}

#[test]
fn ranges_that_overlap_are_shown_both() {
    assert_eq!(
        refused(&["--service-cluster-ip-range=10.0.0.0/16", "--cluster-cidr=10.0.8.0/22"]),
        "--service-cluster-ip-range 10.0.0.0/16 and --cluster-cidr 10.0.8.0/22 overlap: choose ranges that do not"
    );
    assert_eq!(
        refused(&["--service-cluster-ip-range=10.0.0.0/24", "--advertise-address=10.0.0.7"]),
        "--service-cluster-ip-range 10.0.0.0/24 contains the address of this node 10.0.0.7: choose ranges that do not overlap"
    );
    assert_eq!(
        refused(&["--cluster-cidr=192.0.0.0/16"]),
        "--cluster-cidr 192.0.0.0/16 contains the address of this node 192.0.2.1: choose ranges that do not overlap"
    );
    assert!(check(&["--cluster-cidr=10.244.0.0/16,fd01::/48"]).is_ok());
}

#[test]
fn bad_values_are_refused_with_the_way_out() {
    assert_eq!(
        refused(&["--service-cluster-ip-range=10.0.0.0"]),
        "--service-cluster-ip-range=10.0.0.0: \"10.0.0.0\" is not a valid CIDR, as in 10.0.0.0/24"
    );
    assert!(
        refused(&["--service-cluster-ip-range=10.0.0.0/24,10.1.0.0/24"]).ends_with("an IPv4 and an IPv6 one")
    );
    assert!(refused(&["--service-cluster-ip-range="]).contains("must contain one CIDR"));
    assert!(refused(&["--service-cluster-ip-range=10.0.0.0/8"]).ends_with("the mask must be >= 12"));
    assert!(refused(&["--service-cluster-ip-range=10.0.0.0/31"]).contains("at least 8 addresses"));
    assert!(
        refused(&["--service-cluster-ip-range=fd00::/108"])
            .starts_with("service IP family fd00::/108 must match public address family \"192.0.2.1\": ")
    );
    for range in ["0-10", "10-5", "x", "60000+9999", "1-70000"] {
        assert!(
            refused(&[&format!("--service-node-port-range={range}")]).contains("as in 30000-32767"),
            "{range}"
        );
    }
    assert_eq!(
        refused(&["--tls-cert-file=a"]),
        "--tls-cert-file is of no use without --tls-private-key-file: set both, or neither"
    );
    assert!(refused(&["--event-ttl=soon"]).contains("write one as 1h30m or 90s"));
    assert!(refused(&["--etcd-servers=localhost:2379"]).contains("must be a URL"));
    assert!(refused(&["--advertise-address=0.0.0.0"]).contains("pods can reach"));
}

#[test]
fn snapshots_name_a_file_and_a_directory() {
    let flags = Flags::try_parse_from(["x", "snapshot", "save", "f", "--data-dir", "d"]).unwrap();
    let Some(Command::Snapshot { action: SnapshotAction::Save(flags) }) = flags.command else {
        panic!("it is a command")
    };
    assert_eq!((flags.file, flags.data_dir), (PathBuf::from("f"), PathBuf::from("d")));
    assert!(Flags::try_parse_from(["x", "snapshot", "save", "f"]).is_err());
}
