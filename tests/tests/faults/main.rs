//! What goes wrong on a node, and that services work again afterwards, or all the while.

#![allow(clippy::print_stdout)] // how long a recovery took is worth reading beside the verdict

mod flush;
mod kill;
mod lock;
mod malformed;
mod takeover;
mod traffic;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use switchyard_tests::harness::trial;
use switchyard_tests::variant::Variant;

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    // Most of the time is spent waiting.
    args.test_threads = args.test_threads.or(Some(3));
    let trials = [
        kill::trials(),
        lock::trials(),
        flush::trials(),
        malformed::trials(),
        takeover::trials(),
        traffic::trials(),
    ];
    Ok(libtest_mimic::run(&args, trials.into_iter().flatten().collect()).exit_code())
}

/// A test for each variant.
fn with_both(name: &str, test: fn(Variant) -> Result<()>) -> Vec<Trial> {
    let named = |variant: Variant| trial(format!("{}::{name}", variant.name()), move || test(variant));
    Variant::BOTH.map(named).into()
}

/// The flags of a proxy that reacts at once.
fn prompt(more: &[&str]) -> Vec<String> {
    let common =
        ["--hostname-override=node-1", "--cluster-cidr=10.244.0.0/16", "--iptables-min-sync-period=0s"];
    common.iter().chain(more).map(|flag| (*flag).to_owned()).collect()
}
