//! `make bench`: times and memory of the proxy with many services, in the real kernel.
//!
//! It makes the services by itself and serves them, as an API server would, to a proxy in a network namespace of its own.
#![allow(clippy::print_stdout)] // the figures are its output

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use switchyard_tests::case::Family;
use switchyard_tests::kernel::dispatched;
use switchyard_tests::objects::{cluster_ip_service, http_slice};
use switchyard_tests::process::Usage;
use switchyard_tests::proxy::{Proxy, binary};
use switchyard_tests::stage::{NODE, Stage};
use switchyard_tests::variant::Variant;
use switchyard_tests::wait::eventually_every;
use switchyard_tests::watch_server::WatchServer;

const USAGE: &str = "Usage: bench [--services N] [--endpoints N] [--changes N] [--variant nf_tables|legacy]";

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(300);
/// How often to look whether a change has arrived: what a measured time may be too long by.
const INTERVAL: Duration = Duration::from_millis(2);

const FULL_SUM: &str = "kubeproxy_sync_full_proxy_rules_duration_seconds_sum{ip_family=\"IPv4\"}";
const PARTIAL_COUNT: &str = "kubeproxy_sync_partial_proxy_rules_duration_seconds_count";

/// What to measure.
#[derive(Debug, Clone)]
struct Plan {
    services: u16,
    endpoints: u16,
    changes: usize,
    variants: Vec<Variant>,
}

/// What may be used at most, from the design.
#[derive(Debug)]
struct Budget {
    first_write: f64,
    one_change: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match plan(&arguments).and_then(|plan| run(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn plan(arguments: &[String]) -> Result<Plan> {
    let mut plan = Plan { services: 5_000, endpoints: 10, changes: 20, variants: Variant::BOTH.into() };
    for pair in arguments.chunks(2) {
        let [flag, value] = pair else { bail!("{USAGE}") };
        match flag.as_str() {
            "--services" => plan.services = value.parse().context(USAGE)?,
            "--endpoints" => plan.endpoints = value.parse().context(USAGE)?,
            "--changes" => plan.changes = value.parse().context(USAGE)?,
            "--variant" => plan.variants.retain(|variant| variant.name() == value),
            _ => bail!("{USAGE}"),
        }
    }
    ensure!((1..=20_000).contains(&plan.services) && (2..=200).contains(&plan.endpoints), "{USAGE}");
    Ok(plan)
}

fn run(plan: &Plan) -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = std::thread::available_parallelism()?;
    let iptables = String::from_utf8(Command::new("iptables").arg("--version").output()?.stdout)?;
    let version = String::from_utf8(Command::new(binary()?).arg("version").output()?.stdout)?;
    println!("{}, Linux {}, {cpus} CPUs, {}", version.trim(), kernel.trim(), iptables.trim());
    println!("{} services of {} endpoints each\n", plan.services, plan.endpoints);
    for variant in &plan.variants {
        measure(plan, *variant)?;
    }
    idle()
}

fn measure(plan: &Plan, variant: Variant) -> Result<()> {
    let budget = match variant {
        Variant::NfTables => Budget { first_write: 6.0, one_change: 0.15 },
        Variant::Legacy => Budget { first_write: 2.2, one_change: 1.0 },
    };
    println!("iptables, {}", variant.name());
    let stage = Stage::alone(&format!("bench-{}", variant.name()), variant)?;
    let api = serve(plan, &stage)?;
    let (mut proxy, start) = start(&stage, &api)?;
    let found = dispatched(&stage.save(Family::Ipv4)?).len();
    ensure!(found == usize::from(plan.services), "the kernel has {found} services");
    let usage = Usage::of(proxy.id())?;
    report("process start to synced", seconds(start), None);
    report("first full write", sample(&proxy, FULL_SUM)?, Some(budget.first_write));
    report("CPU until then, iptables-restore included", usage.cpu_seconds, None);
    let changes = changes(plan, &api, &proxy)?;
    report(
        "one change, from the API to the kernel: median",
        percentile(&changes, 50),
        Some(budget.one_change),
    );
    report("  p99", percentile(&changes, 99), None);
    let usage = Usage::of(proxy.id())?;
    report_memory("resident after the changes", usage.resident_kib, Some(50));
    report_memory("  peak", usage.peak_kib, Some(70));
    proxy.end(Signal::SIGKILL)?;
    let (proxy, start) = self::start(&stage, &api)?;
    report("process start to synced, over the rules of before", seconds(start), None);
    drop(proxy);
    println!();
    Ok(())
}

/// An idle proxy with one service.
fn idle() -> Result<()> {
    let stage = Stage::alone("bench-idle", Variant::NfTables)?;
    let api = serve(&Plan { services: 1, endpoints: 1, changes: 0, variants: Vec::new() }, &stage)?;
    let (proxy, _) = start(&stage, &api)?;
    println!("idle, one service");
    report_memory("resident", Usage::of(proxy.id())?.resident_kib, Some(12));
    Ok(())
}

fn serve(plan: &Plan, stage: &Stage) -> Result<WatchServer> {
    let api = stage.scene.run(NODE, WatchServer::start)??;
    let service = |number: u16| {
        let [high, low] = number.to_be_bytes();
        cluster_ip_service(&format!("service-{number}"), &Ipv4Addr::new(10, 96, high, low).to_string())
    };
    api.add("services", (0..plan.services).map(service));
    api.add("endpointslices", (0..plan.services).map(|number| slice(plan, number, 0)));
    api.add("nodes", [json!({"metadata": {"name": NODE}, "status": {"addresses": [
        {"type": "InternalIP", "address": "192.168.56.11"}, {"type": "InternalIP", "address": "fd00:56::11"}]}})]);
    Ok(api)
}

/// The slice of a service, whose last endpoint depends on the `change`.
fn slice(plan: &Plan, number: u16, change: usize) -> Value {
    let [high, low] = number.to_be_bytes();
    let last = plan.endpoints - 1;
    let addresses: Vec<String> = (0..plan.endpoints)
        .map(|host| if host == last { host + (change % 2) as u16 } else { host })
        .map(|host| format!("10.{}.{high}.{low}", 10 + host))
        .collect();
    http_slice(&format!("service-{number}"), &addresses.iter().map(String::as_str).collect::<Vec<_>>())
}

fn start<'a>(stage: &'a Stage, api: &WatchServer) -> Result<(Proxy<'a>, Duration)> {
    let (mut command, log) = stage.command(binary()?)?;
    command
        .args([
            "proxy",
            "--hostname-override",
            NODE,
            "--cluster-cidr",
            "10.0.0.0/11",
            "--iptables-min-sync-period",
            "0s",
        ])
        .args(["--master", &api.url()]);
    let begun = Instant::now();
    let mut proxy = Proxy::run(&stage.scene, NODE, command, log)?;
    let synced = proxy.wait_until_synced();
    let took = begun.elapsed();
    proxy.explain(synced)?;
    Ok((proxy, took))
}

/// The time of each change, from the moment the API tells of it until the sync that it causes has ended.
fn changes(plan: &Plan, api: &WatchServer, proxy: &Proxy<'_>) -> Result<Vec<f64>> {
    let one = |change: usize| {
        let before = proxy.metric(PARTIAL_COUNT)?;
        let begun = Instant::now();
        api.change("endpointslices", slice(plan, 0, change), 1 + change);
        proxy.explain(eventually_every(INTERVAL, LIMIT, || {
            ensure!(proxy.metric(PARTIAL_COUNT)? > before, "no change was synced");
            Ok(())
        }))?;
        Ok(begun.elapsed().as_secs_f64())
    };
    (1..=plan.changes).map(one).collect()
}

/// The value of one series of the proxy's metrics.
fn sample(proxy: &Proxy<'_>, series: &str) -> Result<f64> {
    let metrics = proxy.metrics()?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.with_context(|| format!("the proxy has no metric {series}"))
}

fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn report(what: &str, seconds: f64, budget: Option<f64>) {
    let against = budget.map(|most| format!("   (at most {most:.2} s: {})", verdict(seconds <= most)));
    println!("  {what:<52}{seconds:>8.3} s{}", against.unwrap_or_default());
}

fn report_memory(what: &str, kib: u64, budget_mb: Option<u64>) {
    let megabytes = kib * 1024 / 1_000_000;
    let against = budget_mb.map(|most| format!("   (at most {most} MB: {})", verdict(megabytes <= most)));
    println!("  {what:<52}{megabytes:>8} MB{}", against.unwrap_or_default());
}

fn verdict(kept: bool) -> &'static str {
    if kept { "kept" } else { "missed" }
}
