//! Pods and services of a lab under a steady stream of requests: what comes, goes, or is killed disturbs nobody who need not be.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Arguments;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use switchyard_tests::harness::{Test, trial};
use switchyard_tests::lab::Lab;
use switchyard_tests::stream::{Conversation, Stream, all_answered, ask_from, ask_pod};
use switchyard_tests::wait::eventually;

/// Far more than pods take to start or to end, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(60);
/// Once a removal is acknowledged, after so long no new connection may go there.
const SETTLED: Duration = Duration::from_secs(1);

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let tests: [(&str, Test); 7] = [
        ("every_node_leads_to_every_pod", every_node),
        ("pods_reach_each_other_through_tunnels", through_tunnels),
        ("a_rolling_update_loses_no_request", rolling_update),
        ("parts_that_are_killed_disturb_nobody", killed_parts),
        ("nothing_new_goes_to_a_pod_that_is_gone", removed_pod),
        ("a_trace_is_what_a_packet_does", trace),
        ("pods_are_followed_entered_and_reached_by_kubectl", followed),
    ];
    let trials = tests.map(|(name, test)| trial(name.to_owned(), test));
    Ok(libtest_mimic::run(&args, trials.into()).exit_code())
}

/// A web server of several pods behind a node port, ready.
struct Web {
    lab: Lab,
    node_port: u16,
    cluster_ip: IpAddr,
    nodes: Vec<IpAddr>,
}

impl Web {
    fn up(test: &str, replicas: u8) -> Result<Web> {
        Web::up_with(test, replicas, &[])
    }

    fn up_with(test: &str, replicas: u8, args: &[&str]) -> Result<Web> {
        let lab = Lab::up(test, args)?;
        let replicas = format!("--replicas={replicas}");
        lab.kubectl(&["create", "deployment", "web", "--image=switchyard/echo", &replicas])?;
        // Ready means answering, so that a new pod gets nothing before it can.
        let probe = r#"{"spec": {"minReadySeconds": 1, "template": {"spec": {"containers": [{"name": "echo", "readinessProbe":
            {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1}}]}}}}"#;
        lab.kubectl(&["patch", "deployment", "web", "--patch", probe])?;
        lab.kubectl(&["expose", "deployment", "web", "--type=NodePort", "--port=80", "--target-port=8080"])?;
        lab.kubectl(&["rollout", "status", "deployment", "web", "--timeout=60s"])?;
        let service: Value = serde_json::from_str(&lab.kubectl(&["get", "service", "web", "-o", "json"])?)?;
        let node_port = service["spec"]["ports"][0]["nodePort"].as_u64().context("no node port")?;
        let cluster_ip = service["spec"]["clusterIP"].as_str().context("no cluster IP")?.parse()?;
        let nodes: Value = serde_json::from_str(&lab.kubectl(&["get", "nodes", "-o", "json"])?)?;
        let nodes = nodes["items"].as_array().context("no nodes")?;
        let addresses = nodes.iter().map(|node| {
            let address =
                node["status"]["addresses"][0]["address"].as_str().context("a node without an address")?;
            Ok(address.parse::<IpAddr>()?)
        });
        let nodes = addresses.collect::<Result<Vec<_>>>()?;
        let web = Web { lab, node_port: node_port.try_into()?, cluster_ip, nodes };
        // The node ports are there once the proxies have heard of them.
        for target in web.node_ports() {
            eventually(LIMIT, || ask_from(&web.place("outside"), target).map(drop))?;
        }
        Ok(web)
    }

    fn place(&self, name: &str) -> String {
        format!("{}-{name}", self.lab.name())
    }

    fn node_ports(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| SocketAddr::new(*node, self.node_port)).collect()
    }

    fn stream(&self) -> Result<Stream> {
        Stream::start(&self.place("outside"), self.node_ports())
    }

    fn pods(&self) -> Result<BTreeSet<String>> {
        let names = self.lab.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"])?;
        Ok(names.lines().filter_map(|line| line.strip_prefix("pod/")).map(ToOwned::to_owned).collect())
    }
}

fn every_node() -> Result<()> {
    let web = Web::up("reach", 3)?;
    let pods = web.pods()?;
    for target in web.node_ports() {
        let mut answered = BTreeSet::new();
        eventually(LIMIT, || {
            answered.insert(ask_from(&web.place("outside"), target)?);
            ensure!(answered == pods, "{target} leads to {answered:?} of {pods:?}");
            Ok(())
        })?;
    }
    for node in 1..=web.nodes.len() {
        let place = web.place(&format!("node-{node}"));
        ask_from(&place, SocketAddr::new(web.cluster_ip, 80)).with_context(|| format!("from node-{node}"))?;
    }
    Ok(())
}

fn through_tunnels() -> Result<()> {
    let web = Web::up_with("vxlan", 3, &["--network=vxlan"])?;
    let pods = web.pods()?;
    let mut answered = BTreeSet::new();
    eventually(LIMIT, || {
        answered.insert(ask_from(&web.place("outside"), web.node_ports()[0])?);
        ensure!(answered == pods, "node-1 leads to {answered:?} of {pods:?}");
        Ok(())
    })
}

fn rolling_update() -> Result<()> {
    let web = Web::up("roll", 3)?;
    let before = web.pods()?;
    let stream = web.stream()?;
    web.lab.kubectl(&["set", "env", "deployment/web", "VERSION=2"])?;
    web.lab.kubectl(&["rollout", "status", "deployment", "web", "--timeout=120s"])?;
    eventually(LIMIT, || {
        let pods = web.pods()?;
        ensure!(pods.is_disjoint(&before) && pods.len() == 3, "there are {pods:?}");
        Ok(())
    })?;
    let asked = stream.finish()?;
    all_answered(&asked)?;
    let answered: BTreeSet<&String> = asked.iter().filter_map(|asked| asked.answer.as_ref().ok()).collect();
    ensure!(web.pods()?.iter().all(|pod| answered.contains(pod)), "a new pod has answered nothing");
    Ok(())
}

fn killed_parts() -> Result<()> {
    let web = Web::up("kill", 3)?;
    let target = web.node_ports()[0];
    let mut conversation = Conversation::open(&web.place("outside"), target)?;
    let pod = conversation.ask(false)?;
    let stream = web.stream()?;
    for part in ["node-1/proxy", "node-1/agent", "node-2/proxy", "node-2/agent", "control/apiserver"] {
        let before = web.lab.pid(part)?;
        kill(Pid::from_raw(before), Signal::SIGKILL)?;
        eventually(LIMIT, || {
            ensure!(web.lab.pid(part)? != before, "{part} has not come back");
            Ok(())
        })?;
    }
    // All of them work again: a change goes all the way.
    web.lab.kubectl(&["scale", "deployment", "web", "--replicas=4"])?;
    web.lab.kubectl(&["rollout", "status", "deployment", "web", "--timeout=60s"])?;
    ensure!(conversation.ask(true)? == pod, "the open connection leads elsewhere");
    all_answered(&stream.finish()?)
}

fn removed_pod() -> Result<()> {
    let web = Web::up("gone", 3)?;
    let pod = web.pods()?.pop_first().context("no pod")?;
    let stream = web.stream()?;
    web.lab.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
    let removed = Instant::now();
    // Long enough for late connections to be seen.
    thread::sleep(2 * SETTLED);
    web.lab.kubectl(&["rollout", "status", "deployment", "web", "--timeout=60s"])?;
    let asked = stream.finish()?;
    all_answered(&asked)?;
    let late = asked.iter().filter(|asked| asked.answer.as_ref() == Ok(&pod));
    let late = late.filter(|asked| asked.at > removed + SETTLED).count();
    ensure!(late == 0, "{late} connections went to {pod} after its removal");
    Ok(())
}

fn trace() -> Result<()> {
    let web = Web::up("trace", 2)?;
    let blue = web.pods()?.pop_first().context("no pod")?;
    let node_port = format!("node-2:{}", web.node_port);
    for (from, to) in
        [(format!("pod/{blue}"), "web:80"), ("outside".into(), &node_port), ("node-3".into(), "web:80")]
    {
        // Chance decides, so several times.
        for _ in 0..4 {
            let told = web.lab.by_context(&["trace", &from, to, "--send"])?;
            ensure!(told.contains(": as foretold"), "{from} to {to}:\n{told}");
        }
    }
    Ok(())
}

fn followed() -> Result<()> {
    let web = Web::up("exec", 1)?;
    let pod = web.pods()?.pop_first().context("no pod")?;
    let told = web.lab.kubectl(&["exec", &pod, "--", "sh", "-c", "hostname; exit 0"])?;
    ensure!(told.trim() == pod, "hostname says {told:?}");
    let refused =
        web.lab.kubectl(&["exec", &pod, "--", "sh", "-c", "exit 7"]).err().context("exit 7 is no success")?;
    ensure!(format!("{refused:#}").contains("exit code 7"), "{refused:#}");
    let hosts = web.lab.kubectl(&["exec", &pod, "--", "cat", "/etc/hosts"])?;
    ensure!(hosts.contains(&format!("\t{pod}")), "{hosts}");

    let forwarded = Forwarding::to(&web.lab, &pod, 8080)?;
    ensure!(ask_pod(forwarded.address)? == pod, "somebody else is at the forwarded port");

    let says = ["--image=busybox", "--restart=Never", "--", "sh", "-c", "echo one; echo two >&2"];
    web.lab.kubectl(&[&["run", "talker"], &says[..]].concat())?;
    // Following ends with the container.
    eventually(LIMIT, || {
        let log = web.lab.kubectl(&["logs", "--follow", "talker"])?;
        ensure!(log == "one\ntwo\n", "the log is {log:?}");
        Ok(())
    })
}

/// A `kubectl port-forward` that runs.
struct Forwarding {
    process: Child,
    address: SocketAddr,
    /// Held: kubectl ends when it cannot tell of a connection.
    _output: BufReader<ChildStdout>,
}

impl Forwarding {
    fn to(lab: &Lab, pod: &str, port: u16) -> Result<Forwarding> {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(lab.kubeconfig()).args(["port-forward", pod, &format!(":{port}")]);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut told = String::new();
        let mut output = BufReader::new(process.stdout.take().context("no output")?);
        output.read_line(&mut told)?;
        let address = told.split(' ').nth(2).and_then(|address| address.parse().ok());
        match address {
            Some(address) => Ok(Forwarding { process, address, _output: output }),
            None => {
                process.kill()?;
                process.wait()?;
                bail!("kubectl port-forward says {told:?}")
            }
        }
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
