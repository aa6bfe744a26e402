//! Endpoints come and go while clients ask.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use switchyard_lab::traffic::{Outcome, Probe, Protocol, Target};
use switchyard_tests::case::Family;
use switchyard_tests::harness::{Test, trial};
use switchyard_tests::objects::{cluster_ip_service, http_slice, put, ready, remove, service, slice};
use switchyard_tests::stage::Stage;
use switchyard_tests::variant::Variant;
use switchyard_tests::wait::eventually;

use crate::{prompt, with_both};

/// The pod that asks.
const CLIENT: &str = "client";
/// Far more than a change takes to get to the kernel.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 2] = [
        (
            "a_service_is_refused_exactly_while_it_has_no_endpoints",
            a_service_is_refused_exactly_while_it_has_no_endpoints,
        ),
        ("a_udp_client_gets_from_a_gone_endpoint_to_the_next", a_udp_client_gets_to_the_next_endpoint),
    ];
    let mut trials: Vec<Trial> = tests.map(|(name, test)| trial(name.to_owned(), test)).into();
    trials.extend(with_both("no_connection_fails_while_the_proxy_restarts_and_syncs", no_connection_fails));
    trials
}

fn a_service_is_refused_exactly_while_it_has_no_endpoints() -> Result<()> {
    let stage = Stage::build("refused", Variant::NfTables)?;
    let folder = stage.manifests();
    put(&folder, &cluster_ip_service("web", "10.96.1.1"))?;
    let proxy = stage.start(&prompt(&[]))?;
    proxy.explain(comes_to(&stage, |outcome| *outcome == Outcome::Refused))?;
    for backend in ["10.244.1.2", "10.244.2.2"] {
        let endpoints = http_slice("web", &[backend]);
        put(&folder, &endpoints)?;
        let from = |outcome: &Outcome| matches!(outcome, Outcome::Answer { backend: who, .. } if who.to_string() == backend);
        proxy.explain(comes_to(&stage, from)).with_context(|| backend.to_owned())?;
        remove(&folder, &endpoints)?;
        proxy.explain(comes_to(&stage, |outcome| *outcome == Outcome::Refused))?;
    }
    Ok(())
}

fn comes_to(stage: &Stage, expected: impl Fn(&Outcome) -> bool) -> Result<()> {
    let target = Target { address: "10.96.1.1:80".parse()?, protocol: Protocol::Tcp };
    eventually(LIMIT, || {
        let outcome = stage.scene.run(CLIENT, || Probe::default().once(target))?;
        ensure!(expected(&outcome), "the client got: {outcome}");
        Ok(())
    })
}

/// The kernel remembers where it sent a UDP client, as long as the client goes on asking. Whoever asks one
/// endpoint again and again, as resolvers do, would never get to another.
fn a_udp_client_gets_to_the_next_endpoint() -> Result<()> {
    let stage = Stage::build("udp", Variant::NfTables)?;
    let folder = stage.manifests();
    let ports = json!([{"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"}]);
    put(&folder, &service("dns", &json!({"clusterIP": "10.96.0.10", "ports": ports})))?;
    endpoint(&folder, "10.244.1.2")?;
    let proxy = stage.start(&prompt(&[]))?;
    let socket = stage.scene.run(CLIENT, || UdpSocket::bind("0.0.0.0:0"))??;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    proxy.explain(answers(&socket, "10.244.1.2"))?;
    for next in ["10.244.2.2", "10.244.3.2"] {
        endpoint(&folder, next)?;
        proxy.explain(answers(&socket, next))?;
    }
    let deleted = proxy.metric("kubeproxy_conntrack_reconciler_deleted_entries_total")?;
    ensure!(deleted >= 2.0, "{deleted} flows were forgotten");
    Ok(())
}

fn endpoint(folder: &Path, address: &str) -> Result<()> {
    let ports: Value = json!([{"name": "dns", "port": 5353, "protocol": "UDP"}]);
    put(folder, &slice("dns-1", "dns", &ports, &[ready(address)]))
}

/// Asks from the same port again and again until that backend answers.
fn answers(socket: &UdpSocket, backend: &str) -> Result<()> {
    let service: SocketAddr = "10.96.0.10:53".parse()?;
    eventually(LIMIT, || {
        socket.send_to(b"?", service)?;
        let mut buffer = [0; 128];
        let length = socket.recv(&mut buffer)?;
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        ensure!(answer.starts_with(&format!("{backend} ")), "the answer came from {answer}");
        Ok(())
    })
}

fn no_connection_fails(variant: Variant) -> Result<()> {
    let stage = Stage::build(&format!("restart-{}", variant.name()), variant)?;
    let folder = stage.manifests();
    put(&folder, &cluster_ip_service("web", "10.96.1.1"))?;
    put(&folder, &http_slice("web", &["10.244.1.2", "10.244.2.2", "10.244.3.2"]))?;
    let mut proxy = stage.start(&prompt(&[]))?;
    let done = AtomicBool::new(false);
    let (changed, asked) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_until(&stage, &done));
        let mut change = || -> Result<()> {
            for number in 1..=5 {
                let name = format!("other-{number}");
                put(&folder, &cluster_ip_service(&name, &format!("10.96.2.{number}")))?;
                put(&folder, &http_slice(&name, &["10.244.1.2"]))?;
                eventually(LIMIT, || {
                    let there =
                        stage.save(Family::Ipv4)?.contains(&format!("default/{name}:http cluster IP"));
                    ensure!(there, "{name} does not arrive");
                    Ok(())
                })?;
            }
            proxy.end(Signal::SIGKILL)?;
            proxy = stage.start(&prompt(&[]))?;
            Ok(())
        };
        let changed = change();
        done.store(true, Ordering::Relaxed);
        (changed, asking.join().unwrap_or_else(|_| bail!("the asking thread panicked")))
    });
    proxy.explain(changed)?;
    let asked = proxy.explain(asked)?;
    ensure!(asked > 100, "only {asked} connections were tried");
    Ok(())
}

/// Connects again and again and gives how often, if every connection was answered.
fn ask_until(stage: &Stage, done: &AtomicBool) -> Result<usize> {
    let target = Target { address: "10.96.1.1:80".parse()?, protocol: Protocol::Tcp };
    stage.scene.run(CLIENT, || {
        let mut asked = 0;
        while !done.load(Ordering::Relaxed) {
            asked += 1;
            let outcome = Probe::default().once(target);
            ensure!(matches!(outcome, Outcome::Answer { .. }), "connection {asked} came to: {outcome}");
        }
        Ok(asked)
    })?
}
