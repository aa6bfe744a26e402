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
use switchyard_tests::figures::{percentile, report, report_memory};
use switchyard_tests::kernel::dispatched;
use switchyard_tests::objects::{cluster_ip_service, http_slice};
use switchyard_tests::process::Usage;
use switchyard_tests::proxy::{Proxy, binary};
use switchyard_tests::stage::{NODE, Stage};
use switchyard_tests::variant::Variant;
use switchyard_tests::wait::eventually_every;
use switchyard_tests::watch_server::WatchServer;

const USAGE: &str =
    "Usage: bench [--services N] [--endpoints N] [--changes N] [--runs N] [--variant nf_tables|legacy|both]";

/// Printed above the figures, so that nobody has to guess what they are of.
const MEANING: &str = "\
process start to synced: from exec until /metrics tells of a sync of both families, looked at every 20 ms
first full write: the proxy's own sync_full_proxy_rules_duration of IPv4; then every service is found in iptables-save
one change: another address for one endpoint of one service, from the moment the watch sends it until the proxy
  counts its partial sync, looked at every 2 ms; after each one the address is found in iptables-save, not timed
memory: VmRSS, RssAnon and VmHWM of the proxy; CPU: its own and that of its children, user and system";

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(300);
/// How often to look whether a change has arrived: what a measured time may be too long by.
const INTERVAL: Duration = Duration::from_millis(2);

const FULL_SUM: &str = "kubeproxy_sync_full_proxy_rules_duration_seconds_sum{ip_family=\"IPv4\"}";
const FULL_COUNT: &str = "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}";
const PARTIAL_COUNT: &str = "kubeproxy_sync_partial_proxy_rules_duration_seconds_count";

/// What to measure.
#[derive(Debug, Clone)]
struct Plan {
    services: u16,
    endpoints: u16,
    changes: usize,
    runs: usize,
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
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn plan(arguments: &[String]) -> Result<Plan> {
    let mut plan =
        Plan { services: 5_000, endpoints: 10, changes: 20, runs: 1, variants: Variant::BOTH.into() };
    for pair in arguments.chunks(2) {
        let [flag, value] = pair else { bail!("{USAGE}") };
        match flag.as_str() {
            "--services" => plan.services = value.parse().context(USAGE)?,
            "--endpoints" => plan.endpoints = value.parse().context(USAGE)?,
            "--changes" => plan.changes = value.parse().context(USAGE)?,
            "--runs" => plan.runs = value.parse().context(USAGE)?,
            "--variant" => plan.variants.retain(|variant| value == "both" || variant.name() == value),
            _ => bail!("{USAGE}"),
        }
    }
    ensure!((1..=20_000).contains(&plan.services) && (2..=200).contains(&plan.endpoints), "{USAGE}");
    ensure!(plan.changes > 0 && plan.runs > 0 && !plan.variants.is_empty(), "{USAGE}");
    Ok(plan)
}

fn run(plan: &Plan) -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = std::thread::available_parallelism()?;
    let version = String::from_utf8(Command::new(binary()?).arg("version").output()?.stdout)?;
    println!("{}, Linux {}, {cpus} CPUs, {}", version.trim(), kernel.trim(), cpu_model()?);
    println!("{} services of {} endpoints each\n\n{MEANING}\n", plan.services, plan.endpoints);
    for variant in &plan.variants {
        for number in 1..=plan.runs {
            measure(plan, *variant, number)?;
        }
    }
    idle(plan)
}

/// The processor's name, which not every architecture tells.
fn cpu_model() -> Result<String> {
    let all = fs::read_to_string("/proc/cpuinfo")?;
    let model = all.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(model.map_or("a nameless processor", |(_, name)| name).to_owned())
}

fn measure(plan: &Plan, variant: Variant, number: usize) -> Result<()> {
    let budget = match variant {
        Variant::NfTables => Budget { first_write: 6.0, one_change: 0.15 },
        Variant::Legacy => Budget { first_write: 2.2, one_change: 1.0 },
    };
    let stage = Stage::alone(&format!("bench-{}", variant.name()), variant)?;
    let iptables = stage.run_program("iptables", &["--version"], "")?;
    println!("{}, run {number} of {}", iptables.trim(), plan.runs);
    let api = serve(plan, &stage)?;
    let mut proxy = first_start(plan, &stage, &api, budget.first_write)?;
    report_changes(&changes(plan, &api, &stage, &proxy)?, budget.one_change);
    report_memory(proxy.id(), "after the changes", Some(50), Some(70))?;
    proxy.end(Signal::SIGKILL)?;
    let (proxy, start) = start(&stage, &api)?;
    check_kernel(plan, &stage)?;
    report("restart over the rules of before, start to synced", start.as_secs_f64(), None);
    drop(proxy);
    println!();
    Ok(())
}

/// The proxy on a node whose kernel is empty.
fn first_start<'a>(plan: &Plan, stage: &'a Stage, api: &WatchServer, budget: f64) -> Result<Proxy<'a>> {
    let (proxy, start) = start(stage, api)?;
    let usage = Usage::of(proxy.id())?;
    // The sum is the time of one write only if there was but one.
    let writes = sample(&proxy, FULL_COUNT)?;
    ensure!(writes == 1.0, "the proxy has written everything {writes} times, not once");
    check_kernel(plan, stage)?;
    report("process start to synced", start.as_secs_f64(), None);
    report("first full write", sample(&proxy, FULL_SUM)?, Some(budget));
    report("CPU until synced, children included", usage.cpu_seconds, None);
    report_memory(proxy.id(), "after start", Some(50), Some(70))?;
    Ok(proxy)
}

/// An idle proxy with one service.
fn idle(plan: &Plan) -> Result<()> {
    let stage = Stage::alone("bench-idle", Variant::NfTables)?;
    let one = Plan { services: 1, endpoints: 1, ..plan.clone() };
    let api = serve(&one, &stage)?;
    let (proxy, _) = start(&stage, &api)?;
    check_kernel(&one, &stage)?;
    println!("idle, one service of one endpoint");
    report_memory(proxy.id(), "after start", Some(12), None)
}

/// Every service is to be in the kernel.
fn check_kernel(plan: &Plan, stage: &Stage) -> Result<()> {
    let found = dispatched(&stage.save(Family::Ipv4)?).len();
    ensure!(found == usize::from(plan.services), "the kernel has {found} of {} services", plan.services);
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
    let addresses: Vec<String> = (1..plan.endpoints)
        .map(|host| address(number, host - 1))
        .chain([last_address(plan, number, change)])
        .collect();
    http_slice(&format!("service-{number}"), &addresses.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The one address that a change replaces, by another that no endpoint has.
fn last_address(plan: &Plan, number: u16, change: usize) -> String {
    address(number, plan.endpoints - 1 + u16::from(change % 2 == 1))
}

fn address(number: u16, host: u16) -> String {
    let [high, low] = number.to_be_bytes();
    format!("10.{}.{high}.{low}", 10 + host)
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

/// The seconds of each change, from the moment the API tells of it until the sync that it causes has ended.
fn changes(plan: &Plan, api: &WatchServer, stage: &Stage, proxy: &Proxy<'_>) -> Result<Vec<f64>> {
    let one = |change: usize| {
        let before = proxy.metric(PARTIAL_COUNT)?;
        let begun = Instant::now();
        api.change("endpointslices", slice(plan, 0, change), 1 + change);
        proxy.explain(eventually_every(INTERVAL, LIMIT, || {
            ensure!(proxy.metric(PARTIAL_COUNT)? > before, "no change was synced");
            Ok(())
        }))?;
        let took = begun.elapsed().as_secs_f64();
        check_change(plan, stage, change)?;
        Ok(took)
    };
    (1..=plan.changes).map(one).collect()
}

/// The address that came with a change is to be in the kernel, the one before it no longer.
fn check_change(plan: &Plan, stage: &Stage, change: usize) -> Result<()> {
    let rules = stage.save(Family::Ipv4)?;
    let has = |change| rules.contains(&format!("--to-destination {}:8080\n", last_address(plan, 0, change)));
    ensure!(has(change) && !has(change - 1), "change {change} was counted, but is not in the kernel");
    Ok(())
}

/// The value of one series of the proxy's metrics.
fn sample(proxy: &Proxy<'_>, series: &str) -> Result<f64> {
    let metrics = proxy.metrics()?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.with_context(|| format!("the proxy has no metric {series}"))
}

fn report_changes(seconds: &[f64], budget: f64) {
    report("one change, from the API to the kernel: median", percentile(seconds, 50), Some(budget));
    report("  p99", percentile(seconds, 99), None);
    report("  max", percentile(seconds, 100), None);
}
