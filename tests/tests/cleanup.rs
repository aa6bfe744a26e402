//! `--cleanup` takes away what proxies left, and nothing else.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use libtest_mimic::Arguments;
use nix::sys::signal::Signal;
use switchyard_tests::case::{Case, Family};
use switchyard_tests::harness::trial;
use switchyard_tests::kernel::check_untouched;
use switchyard_tests::proxy::{Proxy, binary};
use switchyard_tests::stage::{NODE, Stage};
use switchyard_tests::variant::Variant;

type Test = fn(Variant) -> Result<()>;

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let mut trials = Vec::new();
    let tests: [(&str, Test); 3] = [
        ("only_what_the_kubelet_shares_is_left", only_what_the_kubelet_shares_is_left),
        ("rules_of_others_stay", rules_of_others_stay),
        ("nothing_to_clean_is_no_error", nothing_to_clean_is_no_error),
    ];
    for variant in Variant::BOTH {
        for (name, test) in tests {
            trials.push(trial(format!("{}::{name}", variant.name()), move || test(variant)));
        }
    }
    Ok(libtest_mimic::run(&args, trials).exit_code())
}

/// A case whose rules are in every chain that the proxy has, in both families.
const EVERYTHING: &str = "dualstack-nodeport-lb";

/// The kubelet makes this chain, too, and jumps to it from the same places.
const SHARED: [&str; 3] =
    [":KUBE-FIREWALL - [0:0]", "-A INPUT -j KUBE-FIREWALL", "-A OUTPUT -j KUBE-FIREWALL"];

fn stage_with_rules(test: &str, variant: Variant) -> Result<Stage> {
    let stage = Stage::alone(&format!("cleanup-{test}-{}", variant.name()), variant)?;
    let case = Case::named(EVERYTHING)?;
    let mut proxy = stage.start_proxy(&case)?;
    proxy.end(Signal::SIGKILL)?;
    drop(proxy);
    Ok(stage)
}

fn clean(stage: &Stage) -> Result<()> {
    let (mut command, log) = stage.command(binary()?)?;
    command.args(["proxy", "--cleanup"]);
    let mut proxy = Proxy::run(&stage.scene, NODE, command, log)?;
    let status = proxy.wait_for_end()?;
    ensure!(status.success(), "--cleanup ended with {status}:\n{}", proxy.log());
    Ok(())
}

fn only_what_the_kubelet_shares_is_left(variant: Variant) -> Result<()> {
    let stage = stage_with_rules("all", variant)?;
    clean(&stage)?;
    for family in Family::BOTH {
        let dump = stage.save(family)?;
        let ours = dump.lines().filter(|line| line.contains("KUBE") && !SHARED.contains(line));
        // The one rule of the shared chain.
        let ours: Vec<&str> = ours.filter(|line| !line.starts_with("-A KUBE-FIREWALL ")).collect();
        ensure!(ours.is_empty(), "{family:?}: these are left: {ours:#?}");
    }
    Ok(())
}

fn rules_of_others_stay(variant: Variant) -> Result<()> {
    let stage = stage_with_rules("others", variant)?;
    let foreign = "\
*nat
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.1.7:80
COMMIT
*filter
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
";
    stage.run_program("iptables-restore", &["--noflush"], foreign)?;
    clean(&stage)?;
    let dump = stage.save(Family::Ipv4)?;
    for rule in foreign.lines().filter(|line| line.starts_with("-A")) {
        ensure!(dump.lines().any(|line| line == rule), "{rule} is gone:\n{dump}");
    }
    Ok(())
}

fn nothing_to_clean_is_no_error(variant: Variant) -> Result<()> {
    let stage = Stage::alone(&format!("cleanup-nothing-{}", variant.name()), variant)?;
    clean(&stage)?;
    check_untouched(&stage)
}
