//! A host of its own for each test, with an API server on it, and nodes on links to it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use k8s_openapi::api::core::v1::{Event, Node};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use switchyard_agent::flags::{Flags, Host, Settings};
use switchyard_agent::run::Agent;
use switchyard_agent::runtime::fake::FakeRuntime;
use switchyard_kernel::namespace::Namespace;
use switchyard_server::flags as server_flags;
use switchyard_server::run::Server;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Far more than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs a test on a thread that has left this host: its network namespace is new, and so is its `/run`. All of it is
/// gone with the thread, even one that is killed.
pub(crate) fn on_a_fresh_host(work: fn()) {
    let worker = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("these tests make network and mount namespaces, which takes root (CAP_SYS_ADMIN)");
        let nothing = None::<&str>;
        // Or what is mounted here would show up on the real host.
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
        run("ip link set lo up");
        work();
    };
    thread::scope(|scope| scope.spawn(worker).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Runs a program that has to succeed and gives what it printed. Words are parted by blanks; there is no quoting.
#[track_caller]
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The API server of a cluster whose nodes have links to its host, `192.0.2.254` in each of them.
pub(crate) struct Cluster {
    server: Option<Server>,
    client: Client,
    threads: Runtime,
    folder: TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        run("ip address add 198.51.100.1/32 dev lo");
        run("sysctl -q -w net.ipv4.ip_forward=1");
        let data = folder.path().join("data");
        let flags = server_flags::Flags::try_parse_from([
            "apiserver",
            "--secure-port=6443",
            "--bind-address=198.51.100.1",
            "--advertise-address=198.51.100.1",
            "--cluster-cidr=10.244.0.0/16",
            "--data-dir",
            &data.display().to_string(),
        ]);
        let settings = server_flags::Settings::check(&flags.unwrap().serve, &[]).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let threads = Runtime::new().unwrap();
        let server = threads.block_on(Server::start(settings)).unwrap();
        Cluster { client: server.client(), server: Some(server), threads, folder }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("data/admin.kubeconfig")
    }

    pub(crate) fn delete_node(&self, name: &str) {
        let api = Api::<Node>::all(self.client.clone());
        self.threads.block_on(api.delete(name, &DeleteParams::default())).unwrap();
    }

    pub(crate) fn events(&self, reason: &str) -> Vec<String> {
        let api = Api::<Event>::namespaced(self.client.clone(), "default");
        let all = self.threads.block_on(api.list(&ListParams::default())).unwrap().items.into_iter();
        all.filter(|event| event.reason.as_deref() == Some(reason))
            .filter_map(|event| event.message)
            .collect()
    }

    /// The number of the range that a node was given: 2 of `10.244.2.0/24`.
    pub(crate) fn range(&self, name: &str) -> u8 {
        let api = Api::<Node>::all(self.client.clone());
        eventually("the node has a range", || {
            let node = self.threads.block_on(api.get_opt(name)).unwrap()?;
            node.spec?.pod_cidr?.split('.').nth(2)?.parse().ok()
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.threads.block_on(server.stop());
        }
    }
}

/// A node with an agent.
pub(crate) struct OneNode {
    pub(crate) namespace: Namespace,
    agent: Option<Agent>,
    threads: Option<Runtime>,
}

impl OneNode {
    /// A namespace with the address on a link of the host's, which is the way to everywhere else.
    pub(crate) fn make(name: &str, address: &str, bridge: &str, gateway: &str) -> OneNode {
        let namespace = Namespace::create(name).unwrap();
        run(&format!("ip link add {name} type veth peer name eth0 netns {name}"));
        run(&format!("ip link set {name} master {bridge} up"));
        for line in ["link set lo up", &format!("address add {address}/24 dev eth0"), "link set eth0 up"] {
            run(&format!("ip -n {name} {line}"));
        }
        run(&format!("ip -n {name} route add default via {gateway}"));
        OneNode { namespace, agent: None, threads: None }
    }

    pub(crate) fn start_agent(&mut self, cluster: &Cluster, address: &str, network: &str) {
        let name = self.namespace.name().to_owned();
        let root = cluster.folder.path().join(&name);
        let path = |name: &Path| name.display().to_string();
        let flags = Flags::try_parse_from([
            "agent",
            "--kubeconfig",
            &path(&cluster.kubeconfig()),
            "--hostname-override",
            &name,
            "--node-ip",
            address,
            "--root-dir",
            &path(&root),
            "--cni-conf-dir",
            &path(&root.join("net.d")),
            "--network",
            network,
        ]);
        let settings = Settings::check(&flags.unwrap(), &Host::default()).unwrap();
        // All threads of an asynchronous runtime are in the namespace of the thread that makes it.
        let (threads, agent) = self
            .namespace
            .run(|| {
                let threads = Runtime::new().unwrap();
                let runtime = Arc::new(FakeRuntime::default());
                let agent = threads.block_on(Agent::start(settings, runtime)).unwrap();
                (threads, agent)
            })
            .unwrap();
        (self.threads, self.agent) = (Some(threads), Some(agent));
    }

    pub(crate) fn stop_agent(&mut self) {
        if let (Some(threads), Some(agent)) = (&self.threads, self.agent.take()) {
            threads.block_on(agent.stop());
        }
        self.threads = None;
    }

    /// An address of the node's range, as a pod of it has one, where somebody listens.
    pub(crate) fn listen(&self, address: SocketAddr) -> TcpListener {
        run(&format!("ip -n {} address add {}/32 dev lo", self.namespace.name(), address.ip()));
        self.namespace.run(|| TcpListener::bind(address).unwrap()).unwrap()
    }

    pub(crate) fn reaches(&self, address: SocketAddr) -> bool {
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok();
        self.namespace.run(connect).unwrap()
    }

    pub(crate) fn routes(&self) -> String {
        run(&format!("ip -n {} route show proto 83", self.namespace.name()))
    }
}

impl Drop for OneNode {
    fn drop(&mut self) {
        self.stop_agent();
    }
}

/// A link of the host's that nodes are on.
pub(crate) fn bridge(name: &str, address: &str) {
    run(&format!("ip link add {name} type bridge"));
    run(&format!("ip address add {address}/24 dev {name}"));
    run(&format!("ip link set {name} up"));
}

/// What the agent wrote for the pods of a node.
pub(crate) fn network_configuration(cluster: &Cluster, node: &str) -> serde_json::Value {
    let path = cluster.folder.path().join(node).join("net.d/10-switchyard.conflist");
    eventually("the network is configured", || serde_json::from_slice(&fs::read(&path).ok()?).ok())
}
