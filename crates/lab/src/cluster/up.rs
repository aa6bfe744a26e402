//! Bringing a lab up, from checks to the line that says what to type next.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node as NodeObject, NodeAddress, NodeStatus};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use switchyard_kernel::namespace::NamespaceFile;
use switchyard_kernel::process::Process;

use super::claim::Claim;
use super::commands::need_root;
use super::credentials::Credentials;
use super::error::{LabError, doing, doing_to};
use super::flags::{DEFAULT_NAME, UpFlags};
use super::parts::{API_SERVER, namespace};
use super::progress::{Progress, print};
use super::ready::{Waiting, proxy_health};
use super::settings::{CONTROL, Settings};
use super::state::{self, Folder, KubeconfigRecord, LabRecord};
use super::{client, collisions, down, keeper, kubeconfig, leftovers};
use crate::scene::Scene;
use crate::topology::Node;

/// `switchyard up`.
pub(super) fn run(flags: &UpFlags) -> Result<(), LabError> {
    let begun = Instant::now();
    let settings = Settings::check(flags)?;
    need_root()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let registered = signal_hook::flag::register(signal, interrupted.clone());
        registered.map_err(doing("listening to signals"))?;
    }
    let name = &settings.name;
    let _claim = Claim::take(name)?;
    let mut progress = Progress::start();
    clean_up_after_crash(name, &mut progress)?;
    let path = flags.kubeconfig.clone().unwrap_or_else(kubeconfig::default_path);
    let path = std::path::absolute(&path).map_err(doing_to("finding", &path))?;
    check(&settings, &path)?;

    let folder = Folder::of(name);
    let record =
        LabRecord { settings, kubeconfig: KubeconfigRecord { made: kubeconfig::missing(&path), path } };
    let waiting = Waiting::new(folder.clone(), flags.wait, interrupted);
    let result = folder.make().and_then(|()| folder.write_lab(&record)).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let build = Building { record: &record, folder: &folder, waiting: &waiting, progress: &mut progress };
        runtime.map_err(doing("starting"))?.block_on(build.run())
    });
    if let Err(error) = result {
        progress.clear();
        // What went wrong first tells more than what went wrong with taking it back.
        let _ = down::take_away(&record.settings.name);
        return Err(error);
    }
    print(&next(&record, begun));
    Ok(())
}

fn clean_up_after_crash(name: &str, progress: &mut Progress) -> Result<(), LabError> {
    let folder = Folder::of(name);
    if !folder.exists() {
        return Ok(());
    }
    // One that was never ready is of an `up` that was killed, since this one has the claim.
    if folder.keeper().ok().flatten().is_some_and(|keeper| keeper.ready && keeper.is_running()) {
        return Err(LabError::IsUp { name: name.to_owned() });
    }
    progress.begin("Removing what a crashed lab left");
    down::take_away(name)?;
    progress.done("Removed what a crashed lab left");
    Ok(())
}

/// Everything that can be known to be in the way before anything is made.
fn check(settings: &Settings, kubeconfig_path: &std::path::Path) -> Result<(), LabError> {
    collisions::check(settings, &collisions::routes_here()?)?;
    let foreign = leftovers::namespaces(&settings.name)?;
    if !foreign.is_empty() {
        return Err(LabError::ForeignNamespaces { names: foreign });
    }
    Ok(kubeconfig::add(kubeconfig_path, &settings.name, None)?)
}

/// A lab on its way up.
struct Building<'a> {
    record: &'a LabRecord,
    folder: &'a Folder,
    waiting: &'a Waiting,
    progress: &'a mut Progress,
}

impl Building<'_> {
    async fn run(self) -> Result<(), LabError> {
        let (record, folder) = (self.record, self.folder);
        let settings = &record.settings;
        let topology = settings.topology();
        self.progress.begin("Building the network");
        Scene::build(&settings.name, topology.clone())?.keep()?;
        self.waiting.check_interrupt()?;
        self.progress.done(&format!(
            "Network built: {} nodes on {}",
            topology.nodes.len(),
            list(&settings.lan)
        ));

        let credentials = Credentials::make(settings);
        credentials.write_tokens(folder)?;
        self.progress.begin("Starting the API server");
        let mut keeper = start_keeper(&settings.name, folder)?;
        let access = self.api_server(&credentials).await?;
        self.progress.done("API server ready");

        self.progress.begin("Starting the nodes");
        let client = client::connect(&folder.kubeconfig()).await?;
        for node in &topology.nodes {
            self.add_node(&client, node).await?;
        }
        tell(&mut keeper, keeper::NODES)?;
        for node in &topology.nodes {
            self.proxy(node).await?;
            self.agent(&client, node).await?;
        }
        self.progress.done(&format!(
            "Nodes ready: {}, proxy mode {}",
            names(&topology.nodes),
            settings.proxy_mode
        ));

        kubeconfig::add(&record.kubeconfig.path, &settings.name, Some(&access))?;
        self.waiting.check_interrupt()?;
        tell(&mut keeper, keeper::DONE)
    }

    /// Waits for the API server, and writes the kubeconfigs that its certificates are in.
    async fn api_server(&self, credentials: &Credentials) -> Result<kubeconfig::Access, LabError> {
        let (folder, settings) = (self.folder, &self.record.settings);
        let what = "the API server";
        let started = self.waiting.until(what, API_SERVER, async || {
            let port = folder.keeper().map_err(|error| error.to_string())?.map_or(0, |keeper| keeper.port);
            // The last thing that it writes before it answers.
            let is_written = folder.api_server().join("admin.kubeconfig").exists();
            if port != 0 && is_written { Ok(port) } else { Err("it is starting".to_owned()) }
        });
        let port = started.await?;
        let inside =
            settings.control_address().ok_or_else(|| LabError::Other("the LAN is empty".to_owned()))?;
        let access = credentials.write_kubeconfigs(&settings.name, folder, inside, port)?;
        let client = client::connect(&folder.kubeconfig()).await?;
        let ready = self.waiting.until(what, API_SERVER, async || {
            let request =
                http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
            client.request_text(request).await.map(drop).map_err(|error| error.to_string())
        });
        ready.await?;
        Ok(access)
    }

    /// Makes the node's object, and waits until it has its share of the pods' addresses: the next node then gets the
    /// next one.
    async fn add_node(&self, client: &Client, node: &Node) -> Result<(), LabError> {
        let api = Api::<NodeObject>::all(client.clone());
        let created = api.create(&PostParams::default(), &node_object(node)).await;
        created.map_err(|source| LabError::Api {
            doing: format!("adding {} to the cluster", node.name),
            source: Box::new(source),
        })?;
        let has_range = self.waiting.until(&node.name, API_SERVER, async || {
            let object = api.get(&node.name).await.map_err(|error| error.to_string())?;
            let range = object.spec.and_then(|spec| spec.pod_cidr).filter(|range| !range.is_empty());
            range.ok_or_else(|| {
                "it has no range of addresses for pods: is --cluster-cidr too small?".to_owned()
            })
        });
        has_range.await.map(drop)
    }

    /// Waits until the node's agent says that the node is ready for pods.
    async fn agent(&self, client: &Client, node: &Node) -> Result<(), LabError> {
        let api = Api::<NodeObject>::all(client.clone());
        let part = format!("{}/agent", node.name);
        let ready = self.waiting.until(&node.name, &part, async || {
            let object = api.get(&node.name).await.map_err(|error| error.to_string())?;
            let conditions = object.status.and_then(|status| status.conditions).unwrap_or_default();
            match conditions.into_iter().find(|condition| condition.type_ == "Ready") {
                Some(ready) if ready.status == "True" => Ok(()),
                Some(other) => Err(other.message.unwrap_or_default()),
                None => Err("its agent has not said anything yet".to_owned()),
            }
        });
        ready.await
    }

    async fn proxy(&self, node: &Node) -> Result<(), LabError> {
        let part = format!("{}/proxy", node.name);
        let control = NamespaceFile::named(&namespace(&self.record.settings.name, CONTROL))?;
        let address = node.addresses.first().map(ipnet::IpNet::addr);
        let what = format!("the proxy of {}", node.name);
        let healthy = self.waiting.until(&what, &part, async || {
            let address = address.ok_or("the node has no address")?;
            control.run(|| proxy_health(address)).map_err(|error| error.to_string())?
        });
        healthy.await
    }
}

/// Starts the keeper, detached from the terminal, and gives the way to talk to it.
fn start_keeper(name: &str, folder: &Folder) -> Result<ChildStdin, LabError> {
    let binary = std::env::current_exe().map_err(doing("finding this program"))?;
    let plugins = folder.plugins();
    fs::create_dir_all(&plugins).map_err(doing_to("making the folder", &plugins))?;
    let plugin = plugins.join("switchyard-cni");
    symlink(&binary, &plugin).map_err(doing_to("making the link", &plugin))?;
    let log = state::open_log(&folder.log("keeper"))?;
    let mut command = Command::new(binary);
    command.args(["lab-keeper", "--name", name]).current_dir("/").stdin(Stdio::piped());
    command.stdout(log.try_clone().map_err(doing("sharing a log"))?).stderr(log);
    // What else is in this terminal's environment, a proxy for HTTP for example, is not meant for the lab.
    command.env_clear();
    for name in ["PATH", state::VARIABLE] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    let mut child = command.spawn().map_err(doing("starting the lab's keeper"))?;
    let input = child.stdin.take();
    let mut input = input.ok_or_else(|| LabError::Other("the lab's keeper has no input".to_owned()))?;
    let process = i32::try_from(child.id()).ok().and_then(Process::find);
    let process = process.ok_or_else(|| LabError::Other("the lab's keeper ended at once".to_owned()))?;
    folder.write_keeper(&keeper::record(process))?;
    tell(&mut input, keeper::START)?;
    Ok(input)
}

fn tell(keeper: &mut ChildStdin, what: &str) -> Result<(), LabError> {
    writeln!(keeper, "{what}").map_err(doing("talking to the lab's keeper"))
}

/// The node as its agent finds it: named, and where it is.
fn node_object(node: &Node) -> NodeObject {
    let labels = [
        ("kubernetes.io/hostname", node.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("topology.kubernetes.io/zone", node.zone.as_str()),
    ];
    let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
    let address = |type_: &str, address: String| NodeAddress { address, type_: type_.to_owned() };
    let internal = node.addresses.iter().map(|own| address("InternalIP", own.addr().to_string()));
    let addresses = internal.chain([address("Hostname", node.name.clone())]).collect();
    NodeObject {
        metadata: ObjectMeta {
            name: Some(node.name.clone()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        status: Some(NodeStatus { addresses: Some(addresses), ..NodeStatus::default() }),
        ..NodeObject::default()
    }
}

fn next(record: &LabRecord, begun: Instant) -> String {
    let LabRecord { settings: Settings { name, .. }, kubeconfig } = record;
    let context = kubeconfig::entry_name(name);
    let of_lab = if name == DEFAULT_NAME { String::new() } else { format!(" --name {name}") };
    format!(
        "\nLab {name} is up after {:.1} s. kubectl's context is {context}, in {}. What next:\n\n  \
         kubectl get nodes\n  \
         switchyard status\n  \
         switchyard shell node-1 -- ip address\n  \
         switchyard down{of_lab}\n",
        begun.elapsed().as_secs_f64(),
        kubeconfig.path.display(),
    )
}

fn names(nodes: &[Node]) -> String {
    match nodes {
        [first, .., last] => format!("{} to {}", first.name, last.name),
        _ => nodes.iter().map(|node| node.name.clone()).collect(),
    }
}

fn list(ranges: &[ipnet::IpNet]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
