//! `make bench`: how fast a lab comes up and what it costs, with its own programs in real namespaces.
#![allow(clippy::print_stdout)] // the figures are its output

use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use switchyard_kernel::namespace;
use switchyard_tests::figures::{percentile, report, report_megabytes};
use switchyard_tests::lab::Lab;
use switchyard_tests::stream::{Stream, ask_from};
use switchyard_tests::wait::eventually_every;

/// Printed above the figures, so that nobody has to guess what they are of.
const MEANING: &str = "\
up to answer: from exec of `switchyard up` until a request from outside is answered through the node port of node-1, the deployment
  of three pods and its service created in between
memory: PSS, what is shared divided by those who share it, of all processes of the lab, those of pods included
pod: from the API's answer to a create until the watch tells that it is ready; one after the other
removal: from the API's answer to a pod's deletion until the last new connection that went to it, out of a steady stream";

const LIMIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(2);
const PODS: usize = 20;
const REMOVALS: usize = 20;
/// Far longer than a removal takes to be seen.
const AFTER_REMOVAL: Duration = Duration::from_millis(700);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    println!("{MEANING}\n\nthe lab, three nodes");
    let web = first_answer()?;
    report_megabytes("memory with three pods", pss_megabytes(&web.lab)?, Some(150.0));
    pods(&web.lab)?;
    removals(&web)?;
    drop(web);
    println!("\nthe lab, 50 nodes and 500 pods");
    large()
}

/// A lab with a web server behind a node port.
struct Web {
    lab: Lab,
    target: SocketAddr,
}

fn first_answer() -> Result<Web> {
    let begun = Instant::now();
    let lab = Lab::up("bench", &[])?;
    report("up", begun.elapsed().as_secs_f64(), None);
    lab.kubectl(&["create", "deployment", "web", "--image=switchyard/echo", "--replicas=3"])?;
    lab.kubectl(&["create", "service", "nodeport", "web", "--tcp=80:8080"])?;
    let service: Value = serde_json::from_str(&lab.kubectl(&["get", "service", "web", "-o", "json"])?)?;
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().context("no node port")?;
    let status = lab.status()?;
    let node = status["nodes"][0]["addresses"][0].as_str().context("no node")?;
    let target = SocketAddr::new(node.parse()?, port.try_into()?);
    eventually_every(POLL, LIMIT, || ask_from(&outside(&lab), target).map(drop))?;
    report("up to answer", begun.elapsed().as_secs_f64(), Some(5.0));
    lab.kubectl(&["rollout", "status", "deployment", "web", "--timeout=60s"])?;
    Ok(Web { lab, target })
}

fn outside(lab: &Lab) -> String {
    format!("{}-outside", lab.name())
}

/// Of the keeper too, which lives in no place of the lab.
fn pss_megabytes(lab: &Lab) -> Result<f64> {
    let status = lab.status()?;
    let keeper = status["parts"].as_array().into_iter().flatten().find(|part| part["name"] == "keeper");
    let keeper = keeper.and_then(|part| part["pss"].as_u64()).context("no keeper")?;
    let mut kib = keeper;
    for process in lab.processes()? {
        // One that ended meanwhile has none.
        kib += process.memory().map_or(0, |memory| memory.proportional / 1024);
    }
    Ok(kib as f64 * 1024.0 / 1e6)
}

fn pods(lab: &Lab) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let times = runtime.block_on(async {
        let kubeconfig = kube::config::Kubeconfig::read_from(lab.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        let api = Api::<Pod>::default_namespaced(kube::Client::try_from(config)?);
        let mut times = Vec::new();
        for number in 0..PODS {
            let name = format!("pod-{number}");
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"containers": [{"name": "c", "image": "switchyard/echo"}], "terminationGracePeriodSeconds": 1},
            }))?;
            let created = api.create(&PostParams::default(), &pod).await?;
            let begun = Instant::now();
            let params = WatchParams::default().fields(&format!("metadata.name={name}"));
            let version = created.metadata.resource_version.unwrap_or_default();
            let mut events = api.watch(&params, &version).await?.boxed();
            while let Some(event) = events.try_next().await? {
                if let WatchEvent::Modified(pod) = event
                    && is_ready(&pod)
                {
                    break;
                }
            }
            times.push(begun.elapsed().as_secs_f64());
            api.delete(&name, &DeleteParams::default()).await?;
        }
        Ok::<_, anyhow::Error>(times)
    })?;
    report("pod created to ready: p50", percentile(&times, 50), Some(0.3));
    report("  the slowest", percentile(&times, 100), None);
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn removals(web: &Web) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..REMOVALS {
        let names = web.lab.kubectl(&[
            "get",
            "pods",
            "-l",
            "app=web",
            "-o",
            "name",
            "--field-selector=status.phase=Running",
        ])?;
        let pod =
            names.lines().next().and_then(|line| line.strip_prefix("pod/")).context("no pod")?.to_owned();
        let stream = Stream::start(&outside(&web.lab), vec![web.target])?;
        web.lab.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
        let removed = Instant::now();
        thread::sleep(AFTER_REMOVAL);
        let asked = stream.finish()?;
        let last = asked.iter().filter(|asked| asked.answer.as_ref() == Ok(&pod)).map(|asked| asked.at).max();
        let late = last.map_or(Duration::ZERO, |last| last.saturating_duration_since(removed));
        times.push(late.as_secs_f64());
        web.lab.kubectl(&["rollout", "status", "deployment", "web", "--timeout=60s"])?;
    }
    report("pod removed to no new picks: p99", percentile(&times, 99), Some(0.1));
    report("  p50", percentile(&times, 50), None);
    Ok(())
}

fn large() -> Result<()> {
    let begun = Instant::now();
    let lab = Lab::up("large", &["--nodes=50", "--wait=300s"])?;
    report("50 nodes up", begun.elapsed().as_secs_f64(), None);
    let begun = Instant::now();
    lab.kubectl(&["create", "deployment", "web", "--image=switchyard/echo", "--replicas=500"])?;
    lab.kubectl(&["rollout", "status", "deployment", "web", "--timeout=300s"])?;
    report("500 pods ready", begun.elapsed().as_secs_f64(), None);
    report_megabytes("memory", pss_megabytes(&lab)?, None);
    let nodes = lab.kubectl(&["get", "nodes", "--no-headers"])?;
    let ready = nodes.lines().filter(|line| line.contains(" Ready ")).count();
    ensure!(ready == 50, "{ready} of 50 nodes are ready");
    let begun = Instant::now();
    lab.succeed(&["down"])?;
    report("down", begun.elapsed().as_secs_f64(), None);
    let left = namespace::list()?.into_iter().filter(|name| name.starts_with(lab.name())).count();
    ensure!(left == 0, "{left} namespaces are left");
    Ok(())
}
