//! Another program holds the lock that all iptables-legacy programs take.

use std::fs::File;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use libtest_mimic::Trial;
use nix::fcntl::{Flock, FlockArg};
use switchyard_tests::case::Family;
use switchyard_tests::harness::trial;
use switchyard_tests::objects::{cluster_ip_service, http_slice, put};
use switchyard_tests::proxy::Proxy;
use switchyard_tests::stage::Stage;
use switchyard_tests::variant::Variant;
use switchyard_tests::wait::eventually;

use crate::prompt;

/// More than the 5 s that each program waits for the lock, and the 1 s until the next try.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let name = "legacy::a_held_lock_delays_changes_and_health_tells";
    vec![trial(name.to_owned(), a_held_lock_delays_changes_and_health_tells)]
}

fn a_held_lock_delays_changes_and_health_tells() -> Result<()> {
    let stage = Stage::alone("lock", Variant::Legacy)?;
    let folder = stage.manifests();
    put(&folder, &cluster_ip_service("first", "10.96.1.1"))?;
    put(&folder, &http_slice("first", &["10.244.1.2"]))?;
    let proxy = stage.start(&prompt(&["--iptables-sync-period=1s"]))?;
    health(&proxy, 200)?;

    let lock = Flock::lock(File::create(stage.lock_file())?, FlockArg::LockExclusive);
    let lock = lock.map_err(|(_, error)| anyhow!("taking the lock: {error}"))?;
    put(&folder, &http_slice("first", &["10.244.1.2", "10.244.2.2"]))?;
    proxy.explain(health(&proxy, 503))?;
    let told = eventually(LIMIT, || {
        ensure!(proxy.log().contains("holding the xtables lock"), "the log does not name the lock");
        ensure!(proxy.log().contains("\"Sync failed\""), "no sync has failed");
        Ok(())
    });
    proxy.explain(told)?;

    lock.unlock().map_err(|(_, error)| anyhow!("releasing the lock: {error}"))?;
    proxy.explain(health(&proxy, 200))?;
    let dump = stage.save(Family::Ipv4)?;
    ensure!(dump.contains("--to-destination 10.244.2.2:8080"), "the change did not arrive:\n{dump}");
    Ok(())
}

fn health(proxy: &Proxy<'_>, status: u16) -> Result<()> {
    eventually(LIMIT, || {
        for path in ["/healthz", "/livez"] {
            let reply = proxy.get(10256, path)?;
            ensure!(reply.status == status, "{path} answers {}: {}", reply.status, reply.body);
        }
        Ok(())
    })
}
