//! Every recorded case, given to the proxy, leaves the recorded rules in the kernel: with both variants of
//! iptables, in both families.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::Arguments;
use switchyard_tests::case::{Case, Family};
use switchyard_tests::harness::trial;
use switchyard_tests::stage::Stage;
use switchyard_tests::variant::Variant;

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let mut trials = Vec::new();
    for case in Case::all()? {
        for variant in Variant::BOTH {
            let case = case.clone();
            let name = format!("{}::{}", variant.name(), case.name);
            trials.push(trial(name, move || the_recorded_rules_are_programmed(&case, variant)));
        }
    }
    Ok(libtest_mimic::run(&args, trials).exit_code())
}

fn the_recorded_rules_are_programmed(case: &Case, variant: Variant) -> Result<()> {
    let stage = Stage::build(&format!("golden-{}-{}", variant.name(), case.name), variant)?;
    let proxy = stage.start_proxy(case)?;
    for family in Family::BOTH {
        proxy.explain(stage.check_dump(family, &case.recorded_dump(family)?))?;
    }
    Ok(())
}
