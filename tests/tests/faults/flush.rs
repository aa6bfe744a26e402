//! Another program removes the proxy's rules, or other rules.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use switchyard_tests::case::Family;
use switchyard_tests::dump::Dump;
use switchyard_tests::harness::{Test, trial};
use switchyard_tests::objects::{cluster_ip_service, http_slice, put};
use switchyard_tests::proxy::Proxy;
use switchyard_tests::stage::Stage;
use switchyard_tests::variant::Variant;
use switchyard_tests::wait::eventually;

use crate::prompt;

/// What is promised is one second; the rest is for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);
/// By the canary: its interval, and the time a flush may take.
const BY_THE_CANARY: Duration = Duration::from_secs(10);
const FULL_SYNCS: &str = "kubeproxy_sync_full_proxy_rules_duration_seconds_count";

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 3] = [
        ("nf_tables::removed_rules_are_back_within_a_second", removed_rules_are_back_within_a_second),
        ("nf_tables::rules_of_others_may_come_and_go", rules_of_others_may_come_and_go),
        ("legacy::flushed_rules_are_back_soon", flushed_rules_are_back_soon),
    ];
    tests.map(|(name, test)| trial(name.to_owned(), test)).into()
}

/// A service in both families, and one without endpoints.
fn with_services(stage: &Stage) -> Result<()> {
    let folder = stage.manifests();
    for number in 1..=20 {
        let name = format!("service-{number}");
        put(&folder, &cluster_ip_service(&name, &format!("10.96.1.{number}")))?;
        put(&folder, &http_slice(&name, &["10.244.1.2", "10.244.2.2"]))?;
    }
    put(&folder, &cluster_ip_service("v6", "fd00:10:96::1"))?;
    put(&folder, &cluster_ip_service("empty", "10.96.2.1"))
}

/// The rules of both families. The canary does not count: it comes back by itself, later.
fn rules(stage: &Stage) -> Result<[Dump; 2]> {
    let of = |family| -> Result<Dump> {
        let dump = stage.save(family)?;
        let lines: Vec<&str> = dump.lines().filter(|line| !line.contains("KUBE-PROXY-CANARY")).collect();
        Ok(Dump::parse(&lines.join("\n")).in_any_order_of_jumps())
    };
    Ok([of(Family::Ipv4)?, of(Family::Ipv6)?])
}

/// How long it takes until the rules are these.
fn back_within(stage: &Stage, limit: Duration, whole: &[Dump; 2]) -> Result<Duration> {
    let start = Instant::now();
    eventually(limit, || {
        let now = rules(stage)?;
        for (whole, now) in whole.iter().zip(&now) {
            if let Some(difference) = whole.difference(now) {
                bail!("missing is -, in the way is +\n{difference}");
            }
        }
        Ok(start.elapsed())
    })
}

/// Commands, in order, that do harm. A later one may come too late, when the proxy is quick.
const HARM: [(&str, &[&str]); 8] = [
    ("nat flushed", &["iptables -t nat -F", "iptables -t nat -X"]),
    ("filter flushed", &["iptables -F", "iptables -X"]),
    ("IPv6 flushed", &["ip6tables -t nat -F", "ip6tables -F"]),
    ("everything flushed", &["nft flush ruleset"]),
    ("a table deleted", &["nft delete table ip nat"]),
    ("the dispatch of services emptied", &["iptables -t nat -F KUBE-SERVICES"]),
    ("a jump deleted", &["iptables -t nat -D PREROUTING 1"]),
    ("the jump of another table deleted", &["iptables -D FORWARD 1"]),
];

fn removed_rules_are_back_within_a_second() -> Result<()> {
    let stage = Stage::alone("flush", Variant::NfTables)?;
    with_services(&stage)?;
    let proxy = stage.start(&prompt(&[]))?;
    let whole = rules(&stage)?;
    for (what, commands) in HARM {
        do_harm(&stage, &proxy, &whole, what, commands)?;
    }
    let chain = stage.save(Family::Ipv4)?;
    let chain =
        chain.lines().find_map(|line| line.strip_prefix(":KUBE-SVC-")).context("no service's chain")?;
    let chain = format!("KUBE-SVC-{}", chain.split(' ').next().unwrap_or_default());
    let delete = format!("iptables -t nat -D {chain} 1");
    do_harm(&stage, &proxy, &whole, "a rule of a service deleted", &[&delete])
}

fn do_harm(stage: &Stage, proxy: &Proxy<'_>, whole: &[Dump; 2], what: &str, commands: &[&str]) -> Result<()> {
    for (index, command) in commands.iter().enumerate() {
        let words: Vec<&str> = command.split(' ').collect();
        let result = stage.run_program(words[0], &words[1..], "");
        if index == 0 {
            result.with_context(|| what.to_owned())?;
        }
    }
    let took = proxy.explain(back_within(stage, AT_ONCE, whole)).with_context(|| what.to_owned())?;
    println!("{what}: back after {} ms", took.as_millis());
    Ok(())
}

fn rules_of_others_may_come_and_go() -> Result<()> {
    let stage = Stage::alone("flush-foreign", Variant::NfTables)?;
    with_services(&stage)?;
    let proxy = stage.start(&prompt(&[]))?;
    let before = proxy.metric(FULL_SYNCS)?;
    let foreign = [
        "iptables -I INPUT -p tcp --dport 22 -j ACCEPT",
        "iptables -D INPUT -p tcp --dport 22 -j ACCEPT",
        "iptables -t nat -N CNI-HOSTPORT-DNAT",
        "iptables -t nat -A CNI-HOSTPORT-DNAT -p tcp --dport 8080 -j DNAT --to-destination 10.244.1.7:80",
        "iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        "iptables -t nat -D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        "iptables -t nat -F CNI-HOSTPORT-DNAT",
        "iptables -t nat -X CNI-HOSTPORT-DNAT",
        "nft add table inet firewall",
        "nft delete table inet firewall",
    ];
    for command in foreign {
        let words: Vec<&str> = command.split(' ').collect();
        stage.run_program(words[0], &words[1..], "")?;
    }
    // What the proxy heard before this change, it has dealt with when the change is there.
    put(&stage.manifests(), &http_slice("service-1", &["10.244.3.9"]))?;
    let changed = eventually(BY_THE_CANARY, || {
        ensure!(stage.save(Family::Ipv4)?.contains("10.244.3.9:8080"), "the change has not arrived");
        Ok(())
    });
    proxy.explain(changed)?;
    let after = proxy.metric(FULL_SYNCS)?;
    ensure!(after <= before, "rules of others caused {} full syncs", after - before);
    Ok(())
}

fn flushed_rules_are_back_soon() -> Result<()> {
    let stage = Stage::alone("flush-legacy", Variant::Legacy)?;
    with_services(&stage)?;
    let proxy = stage.start(&prompt(&["--iptables-sync-period=500ms"]))?;
    let whole = rules(&stage)?;
    // As the scripts do it that reset a firewall.
    for table in ["nat", "filter", "mangle"] {
        for program in ["iptables", "ip6tables"] {
            stage.run_program(program, &["-t", table, "-F"], "")?;
            stage.run_program(program, &["-t", table, "-X"], "")?;
        }
    }
    let took = proxy.explain(back_within(&stage, BY_THE_CANARY, &whole))?;
    println!("everything flushed: back after {} ms", took.as_millis());
    Ok(())
}
