//! `make bench`: times and memory of the API server, with its own program and real connections on loopback.
#![allow(clippy::print_stdout)] // the figures are its output

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use futures_util::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchParams};
use nix::sys::signal::Signal;
use serde_json::json;
use switchyard_tests::api_server::ApiServer;
use switchyard_tests::figures::{percentile, report, report_memory};
use switchyard_tests::objects::http_slice;
use tokio::runtime::Runtime;
use tokio::sync::Barrier;

/// Printed above the figures, so that nobody has to guess what they are of.
const MEANING: &str = "\
ready: from exec on an empty folder until it prints its line, looked at every millisecond; median of 9 starts
create: services and slices of one endpoint, one after the other on each connection, all synced to the disk
list: one GET of all services, read to the last byte; median of 9
watchers: one write, until a watcher has its line; of the slowest of all watchers, and of all";

const CONNECTIONS: usize = 8;
const EACH: usize = 5000;
const WATCHERS: usize = 1000;
const RUNS: usize = 9;
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_api: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    println!("{MEANING}\n\nthe API server, embedded store");
    let mut starts = Vec::new();
    for _ in 0..RUNS {
        let (mut server, took) = ApiServer::start_timed(&[])?;
        server.end(Signal::SIGTERM)?;
        starts.push(took.as_secs_f64());
    }
    report("ready", percentile(&starts, 50), Some(0.2));
    let server = ApiServer::start(&["--service-cluster-ip-range=10.96.0.0/16"])?;
    report_memory(server.pid(), "when ready", Some(25), None)?;
    let runtime = Runtime::new()?;
    runtime
        .block_on(async { tokio::time::timeout(LIMIT, measure(&server)).await.context("it takes too long")? })
}

async fn measure(server: &ApiServer) -> Result<()> {
    let begun = Instant::now();
    let connections =
        (0..CONNECTIONS).map(|number| async move { create(server.client().await?, number).await });
    try_join_all(connections).await?;
    report(
        &format!("{EACH} services and {EACH} slices, {CONNECTIONS} connections"),
        begun.elapsed().as_secs_f64(),
        Some(6.0),
    );
    report_memory(server.pid(), "with them", None, None)?;
    list(server.client().await?).await?;
    watch(server).await?;
    report_memory(server.pid(), "at the end", None, None)
}

async fn create(client: Client, connection: usize) -> Result<()> {
    let services = Api::<Service>::default_namespaced(client.clone());
    let slices = Api::<EndpointSlice>::default_namespaced(client);
    for number in (connection..EACH).step_by(CONNECTIONS) {
        let name = format!("service-{number}");
        let service =
            json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80, "targetPort": 8080}]}});
        services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
        let [_, _, high, low] = u32::try_from(number)?.to_be_bytes();
        let slice = http_slice(&name, &[&format!("10.244.{high}.{low}")]);
        slices.create(&PostParams::default(), &serde_json::from_value(slice)?).await?;
    }
    Ok(())
}

async fn list(client: Client) -> Result<()> {
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..RUNS {
        let begun = Instant::now();
        let request = http::Request::get("/api/v1/services?resourceVersion=0").body(Vec::new())?;
        let text = client.request_text(request).await?;
        times.push(begun.elapsed().as_secs_f64());
        bytes = text.len();
    }
    report(&format!("a list of {EACH} services, {:.1} MB", bytes as f64 / 1e6), percentile(&times, 50), None);
    let items = Api::<Service>::all(client).list(&ListParams::default()).await?.items.len();
    ensure!(items > EACH, "the list has {items} services only");
    Ok(())
}

/// One write, seen by all watchers.
async fn watch(server: &ApiServer) -> Result<()> {
    let maps = |client: Client| Api::<ConfigMap>::namespaced(client, "kube-public");
    let writer = maps(server.client().await?);
    let map = json!({"metadata": {"name": "watched"}});
    let created = writer.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
    let from = created.metadata.resource_version.unwrap_or_default();
    let ready = Arc::new(Barrier::new(WATCHERS + 1));
    let mut watchers = Vec::new();
    // A connection carries many watches, as that of a controller does.
    for _ in 0..WATCHERS / 100 {
        let client = server.client().await?;
        for _ in 0..100 {
            let (client, from, ready) = (client.clone(), from.clone(), ready.clone());
            watchers.push(tokio::spawn(async move {
                let path =
                    format!("/api/v1/namespaces/kube-public/configmaps?watch=true&resourceVersion={from}");
                let request = http::Request::get(path).body(Vec::new())?;
                let mut lines = std::pin::pin!(client.request_stream(request).await?.lines());
                ready.wait().await;
                lines.next().await.context("the watch ended")??;
                anyhow::Ok(Instant::now())
            }));
        }
    }
    ready.wait().await;
    let begun = Instant::now();
    let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    writer.patch("watched", &PatchParams::default(), &patch).await?;
    let mut times = Vec::new();
    for seen in join_all(watchers).await {
        times.push(seen??.duration_since(begun).as_secs_f64());
    }
    report(&format!("one write to {WATCHERS} watchers: p50"), percentile(&times, 50), None);
    report("  p99", percentile(&times, 99), None);
    report("  the slowest", percentile(&times, 100), None);
    // The client's stream is what is measured above; this one shows that events are whole.
    let mut events = std::pin::pin!(writer.watch(&WatchParams::default(), &from).await?);
    events.try_next().await?.context("the watch tells nothing")?;
    Ok(())
}
