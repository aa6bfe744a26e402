//! `switchyard verify` agrees with what a proxy wrote, in every recorded case, and tells what somebody changed since.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use libtest_mimic::Arguments;
use nix::sys::signal::Signal;
use switchyard_tests::case::Case;
use switchyard_tests::harness::trial;
use switchyard_tests::proxy::{Proxy, binary};
use switchyard_tests::stage::{NODE, Stage};
use switchyard_tests::variant::Variant;

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let mut trials = Vec::new();
    for variant in Variant::BOTH {
        for case in Case::all()? {
            let name = format!("{}::as_planned::{}", variant.name(), case.name);
            trials.push(trial(name, move || as_planned(&case, variant)));
        }
        let name = format!("{}::a_lost_rule_is_told", variant.name());
        trials.push(trial(name, move || lost(variant)));
    }
    Ok(libtest_mimic::run(&args, trials).exit_code())
}

/// Whether it found no difference, and what it printed.
fn verify(stage: &Stage, case: &Case) -> Result<(bool, String)> {
    let (mut command, log) = stage.command(binary()?)?;
    let manifests = format!("--manifests={}", stage.manifests().display());
    command.args(["verify", &manifests, "--node", NODE]).args(case.args()?);
    let mut verify = Proxy::run(&stage.scene, NODE, command, log)?;
    let status = verify.wait_for_end()?;
    Ok((status.success(), verify.log()))
}

fn as_planned(case: &Case, variant: Variant) -> Result<()> {
    let stage = Stage::alone(&format!("verify-{}-{}", case.name, variant.name()), variant)?;
    let proxy = stage.start_proxy(case)?;
    let (is_equal, told) = verify(&stage, case)?;
    ensure!(is_equal && told.contains("as planned"), "{told}");
    drop(proxy);
    Ok(())
}

fn lost(variant: Variant) -> Result<()> {
    let stage = Stage::alone(&format!("verify-lost-{}", variant.name()), variant)?;
    let case = Case::named("clusterip-three-nodes")?;
    let mut proxy = stage.start_proxy(&case)?;
    proxy.end(Signal::SIGKILL)?;
    let rules = stage.run_program("iptables-save", &["-t", "nat"], "")?;
    let rule =
        rules.lines().find_map(|line| line.strip_prefix("-A KUBE-SVC-")).unwrap_or_default().to_owned();
    let removal = format!("*nat\n-D KUBE-SVC-{rule}\nCOMMIT\n");
    stage.run_program("iptables-restore", &["--noflush"], &removal)?;
    let (is_equal, told) = verify(&stage, &case)?;
    ensure!(!is_equal && told.contains(&format!("IPv4: missing rule: -t nat -A KUBE-SVC-{rule}")), "{told}");
    ensure!(told.contains("Error: 1 difference from the plan"), "{told}");
    drop(proxy);
    Ok(())
}
