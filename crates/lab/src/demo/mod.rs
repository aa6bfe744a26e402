//! The demo: three nodes on this machine, a Service between their pods, and what the proxy makes of it.
//!
//! The module `story` is what is told; here is the stage it is told on.

mod story;

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::greeter;
use crate::scene::{self, Scene, SceneError};
use crate::topology::Topology;

pub use story::{Step, steps};

/// The names of the demo's namespaces begin so.
pub const NAME: &str = "demo";

/// The objects of the demo, as an operator would write them.
const MANIFESTS: [(&str, &str); 3] = [
    ("db-service.yaml", include_str!("../../../../examples/db-service.yaml")),
    ("nodes.yaml", include_str!("../../../../examples/nodes.yaml")),
    ("web-nodeport.yaml", include_str!("../../../../examples/web-nodeport.yaml")),
];
/// Far more than a first sync takes.
const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug, Error)]
pub enum DemoError {
    #[error("{0}; the demo makes network namespaces and needs root: run it with sudo")]
    Scene(#[from] SceneError),
    #[error("a demo is running already; end that one first (its namespaces: ip netns | grep {NAME}-)")]
    RunningAlready,
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error("the proxy on {node} is not ready after {} s; its log is {}", START_LIMIT.as_secs(), log.display())]
    NotReady { node: String, log: PathBuf },
}

/// Everything that the demo needs, up and running. Dropping it takes all of it away.
#[derive(Debug)]
pub struct Stage {
    // Ended before the namespaces they live in are removed, since fields are dropped in order.
    proxies: Vec<Running>,
    scene: Scene,
    folder: Folder,
    _claim: Claim,
}

/// The right to run the one demo of this machine: a name that the kernel gives to one socket at a time, and takes back
/// however its process ends.
#[derive(Debug)]
struct Claim(#[expect(dead_code, reason = "it is held, not used")] UnixListener);

impl Claim {
    fn new() -> Result<Claim, DemoError> {
        let name = unix::SocketAddr::from_abstract_name(format!("switchyard-{NAME}"));
        match name.and_then(|name| UnixListener::bind_addr(&name)) {
            Ok(socket) => Ok(Claim(socket)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(DemoError::RunningAlready),
            Err(source) => Err(DemoError::Io { doing: "claiming the demo's name".to_owned(), source }),
        }
    }
}

/// A child process that ends with its owner.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end or to wait for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that goes away with its owner.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Stage {
    /// Builds the nodes and pods, and starts `binary` as the proxy of each node. What an earlier demo left behind when
    /// it was killed is removed first.
    pub fn build(binary: &Path) -> Result<Stage, DemoError> {
        let claim = Claim::new()?;
        let prefix = format!("{NAME}-");
        scene::sweep(&prefix)?;
        let folder = Folder(std::env::temp_dir().join(format!("switchyard-{NAME}")));
        let _ = fs::remove_dir_all(&folder.0);
        let manifests = folder.0.join("manifests");
        fs::create_dir_all(&manifests).map_err(|source| failed("making", &manifests, source))?;
        for (name, text) in MANIFESTS {
            let path = manifests.join(name);
            fs::write(&path, text).map_err(|source| failed("writing", &path, source))?;
        }
        let scene = Scene::build(NAME, topology())?;
        start_greeters(&scene)?;
        let mut stage = Stage { proxies: Vec::new(), scene, folder, _claim: claim };
        stage.start_proxies(binary)?;
        Ok(stage)
    }

    /// The folder whose YAML the proxies follow, and next to it their logs.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    fn start_proxies(&mut self, binary: &Path) -> Result<(), DemoError> {
        let nodes: Vec<String> = self.scene.topology().nodes.iter().map(|node| node.name.clone()).collect();
        for node in &nodes {
            let log = self.log(node);
            let output = File::create(&log).map_err(|source| failed("making", &log, source))?;
            let mut command = Command::new(binary);
            command
                .args(["proxy", "--hostname-override", node, "--cluster-cidr", "10.244.0.0/16", "-v", "4"])
                .arg("--manifests")
                .arg(self.folder.0.join("manifests"))
                .stderr(output);
            let spawned = self.scene.run(node, || command.spawn())?;
            self.proxies.push(Running(spawned.map_err(|source| failed("starting", binary, source))?));
        }
        nodes.iter().try_for_each(|node| self.wait_until_ready(node))
    }

    fn log(&self, node: &str) -> PathBuf {
        self.folder.0.join(format!("{node}.log"))
    }

    /// Waits for the log line that ends the first sync of IPv4.
    fn wait_until_ready(&self, node: &str) -> Result<(), DemoError> {
        let log = self.log(node);
        let deadline = Instant::now() + START_LIMIT;
        let is_ready = |line: &str| line.contains("SyncProxyRules complete") && line.contains("IPv4");
        while !fs::read_to_string(&log).is_ok_and(|text| text.lines().any(is_ready)) {
            if Instant::now() >= deadline {
                return Err(DemoError::NotReady { node: node.to_owned(), log });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

fn failed(doing: &str, what: &Path, source: io::Error) -> DemoError {
    DemoError::Io { doing: format!("{doing} {}", what.display()), source }
}

/// The lecture's pods: db and blue on node-1, a web server on each of the others.
fn topology() -> Topology {
    let mut topology = Topology::three_nodes();
    for (node, names) in topology.nodes.iter_mut().zip([&["db", "blue"][..], &["web-2"], &["web-3"]]) {
        for (pod, name) in node.pods.iter_mut().zip(names) {
            pod.name = (*name).to_owned();
            pod.backend = false;
        }
    }
    topology
}

/// The db pod answers on MySQL's port, the web pods on 8080.
fn start_greeters(scene: &Scene) -> Result<(), DemoError> {
    for (_, pod) in scene.topology().pods().filter(|(_, pod)| pod.name != "blue") {
        let port = if pod.name == "db" { 3306 } else { 8080 };
        for address in pod.addresses.iter().filter(|address| IpAddr::is_ipv4(address)) {
            let address = SocketAddr::new(*address, port);
            let started = scene.run(&pod.name, || greeter::start(pod.name.clone(), address))?;
            let doing = || format!("starting the server of pod {}", pod.name);
            started.map_err(|source| DemoError::Io { doing: doing(), source })?;
        }
    }
    Ok(())
}
