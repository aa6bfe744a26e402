//! The proxy ends in the middle of its first and largest write.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use switchyard_tests::case::Family;
use switchyard_tests::dump::Dump;
use switchyard_tests::kernel::{check_consistent, dispatched};
use switchyard_tests::objects::{cluster_ip_service, copy_all, http_slice, put, remove};
use switchyard_tests::stage::Stage;
use switchyard_tests::variant::Variant;
use switchyard_tests::wait::eventually;

use crate::{prompt, with_both};

const SERVICES: usize = 400;
/// How long after the beginning of the sync the end comes: points of an otherwise arbitrary choice, spread
/// over what a first sync takes.
const MOMENTS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(40), Duration::from_millis(90), Duration::from_millis(160)];
/// Far more than a first sync takes.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let killed = |variant| ends_in_the_middle(variant, Signal::SIGKILL);
    let terminated = |variant| ends_in_the_middle(variant, Signal::SIGTERM);
    let mut trials = with_both("killed_while_syncing_it_leaves_whole_services_and_starts_again", killed);
    trials
        .extend(with_both("terminated_while_syncing_it_leaves_whole_services_and_starts_again", terminated));
    trials.extend(with_both("what_changed_while_it_was_down_is_made_up_for", what_changed_while_it_was_down));
    trials
}

fn ends_in_the_middle(variant: Variant, signal: Signal) -> Result<()> {
    let name = |what: &str| format!("{}-{}-{what}", signal.as_str().to_lowercase(), variant.name());
    let reference = Stage::alone(&name("whole"), variant)?;
    write_services(&reference)?;
    let proxy = reference.start(&prompt(&[]))?;
    let whole = reference.save(Family::Ipv4)?;
    drop(proxy);
    ensure!(dispatched(&whole).len() == SERVICES, "a whole sync has {} services", dispatched(&whole).len());
    for moment in MOMENTS {
        let stage = Stage::alone(&name(&format!("{}ms", moment.as_millis())), variant)?;
        copy_all(&reference.manifests(), &stage.manifests())?;
        ends_at(&stage, signal, moment).with_context(|| format!("{moment:?} after the sync began"))?;
        let proxy = stage.start(&prompt(&[]))?;
        proxy.explain(same(&stage, &whole)).with_context(|| format!("restarted after {moment:?}"))?;
    }
    Ok(())
}

fn write_services(stage: &Stage) -> Result<()> {
    let objects = (0..SERVICES).flat_map(|number| {
        let name = format!("service-{number:03}");
        let service = cluster_ip_service(&name, &format!("10.96.{}.{}", 1 + number / 200, 1 + number % 200));
        let pods: Vec<String> = (1..=3).map(|node| format!("10.244.{node}.{}", 2 + number % 200)).collect();
        let slice = http_slice(&name, &[&pods[0], &pods[1], &pods[2]]);
        [service.to_string(), slice.to_string()]
    });
    let text = objects.collect::<Vec<_>>().join("\n---\n");
    Ok(fs::write(stage.manifests().join("services.yaml"), text)?)
}

fn ends_at(stage: &Stage, signal: Signal, moment: Duration) -> Result<()> {
    let mut proxy = stage.spawn(&prompt(&["-v=2"]))?;
    let begun = eventually(LIMIT, || {
        ensure!(proxy.log().contains("Syncing iptables rules"), "no sync has begun");
        Ok(())
    });
    proxy.explain(begun)?;
    thread::sleep(moment);
    let status = proxy.end(signal)?;
    // A shell shows it as 128 and the signal's number: 143 for SIGTERM.
    ensure!(
        std::os::unix::process::ExitStatusExt::signal(&status) == Some(signal as i32),
        "the proxy ended with {status}"
    );
    // An iptables-restore that had its whole input finishes its work after its parent's end.
    eventually(LIMIT, || {
        let running = stage.processes()?;
        ensure!(running.is_empty(), "these still run: {running:?}");
        Ok(())
    })?;
    let left = dispatched(&stage.save(Family::Ipv4)?).len();
    println!("{signal} after {} ms: {left} of {SERVICES} services are there", moment.as_millis());
    check_consistent(stage, Family::Ipv4)
}

fn same(stage: &Stage, whole: &str) -> Result<()> {
    let whole = Dump::parse(whole);
    eventually(LIMIT, || match whole.difference(&Dump::parse(&stage.save(Family::Ipv4)?)) {
        None => Ok(()),
        Some(difference) => bail!("an undisturbed start gives -, this one gave +\n{difference}"),
    })
}

fn what_changed_while_it_was_down(variant: Variant) -> Result<()> {
    let stage = Stage::alone(&format!("down-{}", variant.name()), variant)?;
    let folder = stage.manifests();
    for number in 1..=6 {
        let name = format!("service-{number}");
        put(&folder, &cluster_ip_service(&name, &format!("10.96.1.{number}")))?;
        put(&folder, &http_slice(&name, &["10.244.1.2", "10.244.2.2"]))?;
    }
    let mut proxy = stage.start(&prompt(&[]))?;
    proxy.end(Signal::SIGKILL)?;
    remove(&folder, &cluster_ip_service("service-1", ""))?;
    remove(&folder, &http_slice("service-2", &[]))?;
    put(&folder, &http_slice("service-3", &["10.244.3.2"]))?;
    put(&folder, &cluster_ip_service("service-4", "10.96.1.40"))?;
    put(&folder, &cluster_ip_service("service-7", "10.96.1.7"))?;
    put(&folder, &http_slice("service-7", &["10.244.3.2"]))?;

    let reference = Stage::alone(&format!("down-fresh-{}", variant.name()), variant)?;
    copy_all(&folder, &reference.manifests())?;
    let fresh = reference.start(&prompt(&[]))?;
    let whole = reference.save(Family::Ipv4)?;
    drop(fresh);
    let proxy = stage.start(&prompt(&[]))?;
    proxy.explain(same(&stage, &whole))
}
