//! The node was another proxy's before.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use switchyard_tests::case::{Case, Family};
use switchyard_tests::stage::Stage;
use switchyard_tests::variant::Variant;

use crate::with_both;

pub(crate) fn trials() -> Vec<Trial> {
    with_both("rules_of_the_proxy_before_go_and_those_of_others_stay", rules_of_the_proxy_before_go)
}

/// What the proxy before had written for services of other times, and what others wrote.
const STALE: &str = "\
*nat
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-EXT-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-FW-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SVL-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]
-A KUBE-SERVICES -d 10.96.200.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SERVICES -d 192.0.2.200/32 -p tcp -m tcp --dport 80 -j KUBE-EXT-AAAAAAAAAAAAAAAA
-A KUBE-NODEPORTS -p tcp -m tcp --dport 31999 -j KUBE-FW-AAAAAAAAAAAAAAAA
-A KUBE-FW-AAAAAAAAAAAAAAAA -j KUBE-EXT-AAAAAAAAAAAAAAAA
-A KUBE-EXT-AAAAAAAAAAAAAAAA -j KUBE-SVL-AAAAAAAAAAAAAAAA
-A KUBE-SVL-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 10.244.1.99:80
COMMIT
";
const FOREIGN: &str = "\
*nat
:CNI-HOSTPORT-DNAT - [0:0]
-A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.1.7:80
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
COMMIT
*filter
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
";

fn rules_of_the_proxy_before_go(variant: Variant) -> Result<()> {
    let stage = Stage::alone(&format!("takeover-{}", variant.name()), variant)?;
    stage.restore(&Case::named("loadbalancer-source-ranges")?.recorded_dump(Family::Ipv4)?)?;
    stage.run_program("iptables-restore", &["--noflush"], STALE)?;
    stage.run_program("iptables-restore", &["--noflush"], FOREIGN)?;

    let case = Case::named("nodeport-local-policy")?;
    let proxy = stage.start_proxy(&case)?;
    let dump = stage.save(Family::Ipv4)?;
    for rule in FOREIGN.lines().filter(|line| line.starts_with("-A")) {
        ensure!(dump.lines().any(|line| line == rule), "{rule} is gone:\n{dump}");
    }
    // Without what others wrote, it is what was recorded for a node that was nobody's before.
    stage.run_program(
        "iptables",
        &[
            "-t",
            "nat",
            "-D",
            "PREROUTING",
            "-m",
            "addrtype",
            "--dst-type",
            "LOCAL",
            "-j",
            "CNI-HOSTPORT-DNAT",
        ],
        "",
    )?;
    stage.run_program("iptables", &["-t", "nat", "-F", "CNI-HOSTPORT-DNAT"], "")?;
    stage.run_program("iptables", &["-t", "nat", "-X", "CNI-HOSTPORT-DNAT"], "")?;
    stage.run_program("iptables", &["-D", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT"], "")?;
    proxy.explain(stage.check_dump(Family::Ipv4, &case.recorded_dump(Family::Ipv4)?))
}
