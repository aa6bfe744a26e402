//! `--write-config-to` and `/configz`.

use std::fs;
use std::path::Path;

use super::*;

#[test]
fn the_written_configuration_is_kube_proxys() {
    let expected = "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: \"0.0.0.0\"
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: \"\"
  burst: 10
  contentType: application/vnd.kubernetes.protobuf
  kubeconfig: \"\"
  qps: 5
clusterCIDR: \"\"
configSyncPeriod: 15m0s
conntrack:
  maxPerCore: 32768
  min: 131072
  tcpBeLiberal: false
  tcpCloseWaitTimeout: 1h0m0s
  tcpEstablishedTimeout: 24h0m0s
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: \"\"
  interfaceNamePrefix: \"\"
detectLocalMode: ClusterCIDR
enableProfiling: false
healthzBindAddress: 0.0.0.0:10256
hostnameOverride: \"\"
iptables:
  localhostNodePorts: true
  masqueradeAll: false
  masqueradeBit: 14
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: \"\"
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 5s
  format: text
  options:
    json:
      infoBufferSize: \"0\"
    text:
      infoBufferSize: \"0\"
  verbosity: 0
metricsBindAddress: 127.0.0.1:10249
mode: nftables
nftables:
  masqueradeAll: false
  masqueradeBit: 14
  minSyncPeriod: 1s
  syncPeriod: 30s
nodePortAddresses:
- primary
oomScoreAdj: -999
portRange: \"\"
showHiddenMetricsForVersion: \"\"
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: \"\"
  rootHnsEndpointName: \"\"
  sourceVip: \"\"
";
    assert_eq!(to_yaml(&from_line("--proxy-mode nftables").file), expected);
}

#[test]
fn what_was_written_reads_back_as_the_same_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    for line in [
        "",
        "--proxy-mode nftables --nodeport-addresses 10.0.0.0/8,fd00::/8 --feature-gates AllBeta=true",
        "--proxy-mode ipvs --ipvs-exclude-cidrs 10.0.0.0/8 --ipvs-min-sync-period 3s --masquerade-all -v 3",
        "--proxy-mode userspace --udp-timeout 7s --proxy-port-range 1-9 --vmodule a=1 --kube-api-qps 2.5",
        "--hostname-override yes --cluster-cidr 10.0.0.0/8,fd00::/8 --oom-score-adj 0 --bind-address ::1",
    ] {
        let written = from_line(line);
        write_to(&path, &written.file).unwrap();
        let read = complete_line(&format!("--config {}", path.display())).unwrap();
        assert!(read.notices.is_empty(), "{line}: {:?}", read.notices);
        assert_eq!(read.file, written.file, "{line}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn a_failed_write_names_the_path_and_leaves_nothing() {
    let file = from_line("").file;
    let error = write_to(Path::new("/does/not/exist/config.yaml"), &file).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write the configuration to /does/not/exist/config.yaml: no such file or directory"
    );
    let full = write_to(Path::new("/dev/full"), &file).unwrap_err();
    assert_eq!(full.to_string(), "cannot write the configuration to /dev/full: no space left on device");
    let directory = tempfile::tempdir().unwrap();
    assert!(write_to(directory.path(), &file).unwrap_err().to_string().ends_with("is a directory"));
}

#[test]
fn an_older_file_is_replaced_behind_its_link() {
    let directory = tempfile::tempdir().unwrap();
    let (target, link) = (directory.path().join("target"), directory.path().join("link"));
    fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    write_to(&link, &from_line("").file).unwrap();
    assert!(fs::read_to_string(&target).unwrap().starts_with("apiVersion"));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn configz_wraps_the_file_form() {
    let body = configz(&from_line("--proxy-mode nftables").file);
    let object = &body["kubeproxy.config.k8s.io"];
    assert_eq!(object["kind"], "KubeProxyConfiguration");
    assert_eq!(object["nodePortAddresses"][0], "primary");
    assert_eq!(object["clientConnection"]["qps"], 5);
}
