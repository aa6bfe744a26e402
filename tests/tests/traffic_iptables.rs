//! In every recorded case, real connections have the recorded outcomes: with the rules that were recorded
//! (`recorded`, which tells a fault of the scene from one of the proxy), and with the proxy's own.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::Arguments;
use switchyard_tests::case::{Case, Family};
use switchyard_tests::harness::trial;
use switchyard_tests::recorded::Traffic;
use switchyard_tests::stage::Stage;
use switchyard_tests::variant::Variant;

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    // A case spends most of its time waiting for answers that never come.
    args.test_threads = args.test_threads.or(Some(4));
    let mut trials = Vec::new();
    for case in Case::all()? {
        for (rules, test) in
            [("recorded", with_recorded_rules as fn(&Case) -> Result<()>), ("proxy", with_the_proxy)]
        {
            let case = case.clone();
            let name = format!("{rules}::{}", case.name);
            trials.push(trial(name, move || test(&case)));
        }
    }
    Ok(libtest_mimic::run(&args, trials).exit_code())
}

fn with_recorded_rules(case: &Case) -> Result<()> {
    let stage = Stage::build(&format!("recorded-{}", case.name), Variant::NfTables)?;
    stage.restore(&case.recorded_dump(Family::Ipv4)?)?;
    check_traffic(&stage, case)
}

fn with_the_proxy(case: &Case) -> Result<()> {
    let stage = Stage::build(&format!("proxy-{}", case.name), Variant::NfTables)?;
    let proxy = stage.start_proxy(case)?;
    proxy.explain(check_traffic(&stage, case))
}

fn check_traffic(stage: &Stage, case: &Case) -> Result<()> {
    let askers = Traffic::of_mode("iptables")?.askers(&case.name, stage.scene.topology())?;
    stage.check_traffic(&askers)
}
