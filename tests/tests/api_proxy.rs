//! The API server and the proxy together: what is said to the one, the kernel does by the other.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use switchyard_lab::traffic::{Outcome, Probe, Protocol, Target};
use switchyard_tests::api_server::ApiServer;
use switchyard_tests::case::Family;
use switchyard_tests::proxy::{Proxy, binary};
use switchyard_tests::stage::{NODE, Stage};
use switchyard_tests::variant::Variant;
use switchyard_tests::wait::eventually;

/// Far more than it takes from a write to the rules, also past a restart of the server.
const LIMIT: Duration = Duration::from_secs(30);
/// One who may do what the proxy has to, and nothing else.
const TOKENS: &str = "proxys-token,system:kube-proxy,proxy\n";

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let trial = Trial::test("what_is_said_to_the_api_the_kernel_does", || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    });
    Ok(libtest_mimic::run(&args, vec![trial]).exit_code())
}

/// A scene with an API server on its first node.
struct Cluster<'a> {
    stage: &'a Stage,
    server: ApiServer,
}

impl Cluster<'_> {
    fn create(&self, object: &Value) -> Result<()> {
        self.kubectl(&["create", "-f", "-"], &object.to_string()).map(drop)
    }

    fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        self.stage.scene.run(NODE, || self.server.kubectl_with(args, input))?
    }

    fn get(&self, args: &[&str]) -> Result<Value> {
        self.stage.scene.run(NODE, || self.server.get(args))?
    }

    /// A pod that runs on a node and is ready, as its agent would tell.
    fn add_pod(&self, name: &str, node: &str, address: IpAddr) -> Result<()> {
        let spec = json!({"nodeName": node, "containers": [{"name": "web", "image": "web"}]});
        let metadata = json!({"name": name, "labels": {"app": "web"}});
        self.create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))?;
        let mut pod = self.get(&["pod", name])?;
        pod["status"] = json!({
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        });
        let path = format!("/api/v1/namespaces/default/pods/{name}/status");
        self.kubectl(&["replace", "--raw", &path, "-f", "-"], &pod.to_string()).map(drop)
    }

    /// Who answers at an address, as seen from a place.
    fn answers(&self, place: &str, address: SocketAddr) -> Result<BTreeSet<IpAddr>> {
        let target = Target { address, protocol: Protocol::Tcp };
        let outcomes = self.stage.scene.ask(place, &Probe::default(), &[target])?;
        let outcomes = outcomes.into_iter().flatten();
        outcomes
            .map(|outcome| match outcome {
                Outcome::Answer { backend, .. } => Ok(backend),
                other => Err(anyhow::anyhow!("{address} from {place}: {other:?}")),
            })
            .collect()
    }

    fn answered_by(&self, place: &str, address: SocketAddr, expected: &[IpAddr]) -> Result<()> {
        eventually(LIMIT, || {
            let answers = self.answers(place, address)?;
            ensure!(answers.iter().eq(expected), "{address} from {place} is answered by {answers:?}");
            Ok(())
        })
    }
}

fn start_proxy<'a>(cluster: &Cluster<'a>) -> Result<Proxy<'a>> {
    let admin = fs::read_to_string(cluster.server.kubeconfig())?;
    let (before, _) = admin.split_once("users:").context("the kubeconfig has no users")?;
    let user = "users:\n- name: switchyard\n  user:\n    token: proxys-token\n";
    let kubeconfig = cluster.stage.dir().join("proxy.kubeconfig");
    fs::write(&kubeconfig, format!("{before}{user}"))?;
    let (mut command, log) = cluster.stage.command(binary()?)?;
    command.args(["proxy", "--hostname-override", NODE, "--cluster-cidr", "10.244.0.0/16", "--kubeconfig"]);
    command.arg(kubeconfig);
    let mut proxy = Proxy::run(&cluster.stage.scene, NODE, command, log)?;
    let synced = proxy.wait_until_synced();
    proxy.explain(synced)?;
    Ok(proxy)
}

fn run() -> Result<()> {
    let stage = Stage::build("api", Variant::NfTables)?;
    let tokens = stage.dir().join("tokens.csv");
    fs::write(&tokens, TOKENS)?;
    let tokens = format!("--token-auth-file={}", tokens.display());
    let ranges = ["--service-cluster-ip-range=10.96.0.0/12", "--cluster-cidr=10.244.0.0/16"];
    let server = stage.scene.run(NODE, || ApiServer::start(&[ranges[0], ranges[1], &tokens]))??;
    let mut cluster = Cluster { stage: &stage, server };

    let topology = stage.scene.topology();
    for node in &topology.nodes {
        let address = node.addresses.first().context("a node without an address")?.addr();
        let addresses = json!([{"type": "InternalIP", "address": address}]);
        let metadata = json!({"name": node.name});
        cluster.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": {"addresses": addresses}}))?;
    }
    let proxy = start_proxy(&cluster)?;

    // Pods and a service, and nothing else: the rest follows.
    let backends = topology.pods().filter(|(_, pod)| pod.backend);
    let mut ips: Vec<IpAddr> = Vec::new();
    for (node, pod) in backends {
        let address =
            pod.addresses.iter().find(|address| address.is_ipv4()).context("a pod without an address")?;
        cluster.add_pod(&pod.name, &node.name, *address)?;
        ips.push(*address);
    }
    cluster.create(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }))?;
    let service = cluster.get(&["service", "web"])?;
    let address: IpAddr = service["spec"]["clusterIP"].as_str().context("no cluster IP")?.parse()?;
    let node_port = service["spec"]["ports"][0]["nodePort"].as_u64().context("no node port")?;
    let cluster_ip = SocketAddr::new(address, 80);
    proxy.explain(cluster.answered_by("client", cluster_ip, &ips))?;
    let node = topology
        .nodes
        .first()
        .and_then(|node| node.addresses.first())
        .context("a node without an address")?;
    let from_outside = SocketAddr::new(node.addr(), node_port.try_into()?);
    proxy.explain(cluster.answered_by("outside", from_outside, &ips))?;

    // A pod less, and the service goes on; also while the API server is away, and with it back.
    let gone = topology
        .pods()
        .find(|(_, pod)| pod.backend)
        .map(|(_, pod)| pod.name.clone())
        .context("no backend")?;
    cluster.kubectl(&["delete", "pod", &gone, "--grace-period=0", "--force"], "")?;
    proxy.explain(cluster.answered_by("client", cluster_ip, &ips[1..]))?;
    cluster.server.end(Signal::SIGKILL)?;
    ensure!(
        cluster.answers("client", cluster_ip)?.iter().eq(&ips[1..]),
        "the rules went with the API server"
    );
    stage.scene.run(NODE, || cluster.server.start_again())??;

    cluster.kubectl(&["delete", "service", "web"], "")?;
    eventually(LIMIT, || {
        ensure!(
            !stage.save(Family::Ipv4)?.contains("default/web"),
            "the rules of the service are still there"
        );
        Ok(())
    })
}
