//! However a proxy got to a state, by full and partial syncs, the kernel holds what one that starts there
//! writes: the state wanders at random, and now and then a second node's proxy starts fresh on it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Arguments;
use switchyard_tests::case::Family;
use switchyard_tests::cluster;
use switchyard_tests::dump::Dump;
use switchyard_tests::harness::trial;
use switchyard_tests::objects;
use switchyard_tests::proxy::Proxy;
use switchyard_tests::stage::Stage;
use switchyard_tests::variant::Variant;
use switchyard_tests::wait::eventually;
use switchyard_tests::world::World;

/// How often the walk is compared, and how many groups of changes lie between.
const CHECKPOINTS: u64 = 4;
const GROUPS: u64 = 20;
/// Set to repeat or to vary the walk; a failure names the one it had.
const SEED: &str = "SWITCHYARD_WALK_SEED";
const DEFAULT_SEED: u64 = 20_260_422;
/// Far more than a change takes to get to the kernel.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let trials = Variant::BOTH.map(|variant| {
        let name = format!("{}::the_way_to_a_state_leaves_no_trace", variant.name());
        trial(name, move || the_way_to_a_state_leaves_no_trace(variant))
    });
    Ok(libtest_mimic::run(&args, trials.into()).exit_code())
}

fn the_way_to_a_state_leaves_no_trace(variant: Variant) -> Result<()> {
    let seed = std::env::var(SEED).ok().map_or(Ok(DEFAULT_SEED), |seed| seed.parse()).context(SEED)?;
    walk(variant, seed).with_context(|| format!("with {SEED}={seed}"))
}

fn args() -> [String; 4] {
    [
        "--hostname-override=node-1",
        "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56",
        "--iptables-min-sync-period=0s",
        "--feature-gates=AllowServiceExternalIPs=true",
    ]
    .map(str::to_owned)
}

fn walk(variant: Variant, seed: u64) -> Result<()> {
    let stage = Stage::alone(&format!("walk-{}", variant.name()), variant)?;
    let folder = stage.manifests();
    std::fs::write(folder.join("cluster.yaml"), cluster::manifests(stage.scene.topology()))?;
    let proxy = stage.start(&args())?;
    let mut world = World::new(seed);
    let mut history = Vec::new();
    let mut endpoints = 0;
    for checkpoint in 0..CHECKPOINTS {
        for _ in 0..GROUPS {
            let before = changes_seen(&proxy)?;
            // Some changes come alone, some together.
            for _ in 0..=history.len() % 3 {
                history.push(world.change(&folder)?);
            }
            // What only replaces an object by its like is no change, so this may take its full time.
            let _ = eventually(Duration::from_millis(300), || {
                ensure!(changes_seen(&proxy)? > before, "no change was seen");
                Ok(())
            });
        }
        let fresh = fresh_dumps(&stage, variant, checkpoint)?;
        endpoints += fresh.iter().map(|dump| dump.matches(":KUBE-SEP-").count()).sum::<usize>();
        let same = same_within(&stage, &fresh);
        proxy.explain(same).with_context(|| format!("after these changes:\n{}", history.join("\n")))?;
    }
    ensure!(endpoints > 40, "the walk met {endpoints} endpoints only");
    ensure!(
        proxy.metric("kubeproxy_sync_full_proxy_rules_duration_seconds_count")? < 10.0,
        "the walk was to consist of partial syncs"
    );
    ensure!(
        proxy.metric("kubeproxy_sync_partial_proxy_rules_duration_seconds_count")? > 40.0,
        "the walk was to consist of partial syncs"
    );
    ensure!(
        proxy.metric("kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total")? < 1.0,
        "a partial sync failed"
    );
    Ok(())
}

fn changes_seen(proxy: &Proxy<'_>) -> Result<f64> {
    Ok(proxy.metric("kubeproxy_sync_proxy_rules_service_changes_total")?
        + proxy.metric("kubeproxy_sync_proxy_rules_endpoint_changes_total")?)
}

/// What a proxy writes that starts now, on a node of its own.
fn fresh_dumps(walked: &Stage, variant: Variant, checkpoint: u64) -> Result<[String; 2]> {
    let stage = Stage::alone(&format!("walk-fresh{checkpoint}-{}", variant.name()), variant)?;
    objects::copy_all(&walked.manifests(), &stage.manifests())?;
    let proxy = stage.start(&args())?;
    let dumps = Family::BOTH.map(|family| stage.save(family));
    drop(proxy);
    let [v4, v6] = dumps;
    Ok([v4?, v6?])
}

fn same_within(stage: &Stage, fresh: &[String; 2]) -> Result<()> {
    for (family, fresh) in Family::BOTH.into_iter().zip(fresh) {
        let of = |dump: &str| Dump::parse(dump).in_any_order_of_addresses();
        let fresh = of(fresh);
        eventually(LIMIT, || match fresh.difference(&of(&stage.save(family)?)) {
            None => Ok(()),
            Some(difference) => bail!("{family:?}: a fresh start gives -, the walk gave +\n{difference}"),
        })?;
    }
    Ok(())
}
