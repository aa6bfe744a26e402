//! An API server, an agent with a runtime that runs nothing, and a network plugin that joins nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use k8s_openapi::api::core::v1::{Event, Node, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::{Value, json};
use switchyard_agent::flags::{Flags, Host, Settings};
use switchyard_agent::run::Agent;
use switchyard_agent::runtime::fake::FakeRuntime;
use switchyard_server::flags as server_flags;
use switchyard_server::run::Server;
use tempfile::TempDir;

/// Far more than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) runtime: Arc<FakeRuntime>,
    agent: Option<Agent>,
    server: Server,
    folder: TempDir,
}

/// Gives out addresses in the order of the calls, and writes down who calls.
const PLUGIN: &str = r#"#!/bin/sh
cat >/dev/null
dir=$(dirname "$0")
[ -e "$dir/broken" ] && { cat "$dir/broken"; exit 1; }
echo "$CNI_COMMAND" >> "$dir/calls"
[ "$CNI_COMMAND" = ADD ] || exit 0
echo "{\"cniVersion\": \"1.0.0\", \"ips\": [{\"address\": \"10.244.1.$(($(grep -c ADD "$dir/calls") + 1))/24\"}]}"
"#;

impl World {
    /// A cluster whose only node is `node-1`, ready.
    pub(crate) async fn start() -> World {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let folder = tempfile::tempdir().unwrap();
        let server = start_server(folder.path()).await;
        let root = folder.path();
        for name in ["bin", "net.d", "logs"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        fs::write(root.join("bin/fake"), PLUGIN).unwrap();
        fs::set_permissions(root.join("bin/fake"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("net.d/10.conf"), r#"{"cniVersion": "1.0.0", "name": "pods", "type": "fake"}"#)
            .unwrap();
        let runtime = Arc::new(FakeRuntime::with_logs(root.join("logs")));
        let mut world = World { client: server.client(), runtime, agent: None, server, folder };
        world.start_agent().await;
        world.wait_for_node().await;
        world.wait_for_account().await;
        world
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn start_agent(&mut self) {
        let root = self.folder.path();
        let path = |name: &str| root.join(name).display().to_string();
        let flags = Flags::try_parse_from([
            "agent",
            "--kubeconfig",
            &path("data/admin.kubeconfig"),
            "--hostname-override=node-1",
            "--node-ip=127.0.0.1",
            "--address=127.0.0.1",
            "--port=0",
            "--network=none",
            "--root-dir",
            &path("agent"),
            "--cni-conf-dir",
            &path("net.d"),
            "--cni-bin-dir",
            &path("bin"),
        ]);
        let settings = Settings::check(&flags.unwrap(), &Host::default()).unwrap();
        self.agent = Some(Agent::start(settings, self.runtime.clone()).await.unwrap());
    }

    /// As by `kill -9`: nothing is told to anybody.
    pub(crate) async fn kill_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.stop().await;
        }
    }

    async fn wait_for_node(&self) {
        let api = Api::<Node>::all(self.client.clone());
        eventually("the node is ready", async || {
            let node = api.get_opt("node-1").await.unwrap()?;
            let conditions = node.status?.conditions?;
            conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True").then_some(())
        })
        .await;
    }

    /// Pods are not taken before it is there.
    async fn wait_for_account(&self) {
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), "default");
        eventually("the service account", async || api.get_opt("default").await.unwrap()).await;
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates a pod that is bound to the node; its UID.
    pub(crate) async fn create(&self, name: &str, mut spec: Value) -> String {
        spec["nodeName"] = json!("node-1");
        let pod = json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec});
        let pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap().metadata.uid.unwrap()
    }

    pub(crate) async fn delete(&self, name: &str, grace: u32) {
        let params = DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() };
        self.pods().delete(name, &params).await.unwrap();
    }

    /// Waits until a pod is as it is to be, and gives it.
    pub(crate) async fn pod(&self, what: &str, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let (api, last) = (self.pods(), std::cell::RefCell::new(Value::Null));
        let found = try_eventually(async || {
            let pod = serde_json::to_value(api.get_opt(name).await.unwrap()?).unwrap();
            last.replace(pod.clone());
            is(&pod).then_some(pod)
        })
        .await;
        found.unwrap_or_else(|| panic!("{name} is not {what}: {:#}", last.borrow()["status"]))
    }

    pub(crate) async fn ready(&self, name: &str) -> Value {
        self.pod("ready", name, |pod| condition(pod, "Ready") == "True").await
    }

    pub(crate) async fn gone(&self, name: &str) {
        let api = self.pods();
        eventually("the pod is gone", async || api.get_opt(name).await.unwrap().is_none().then_some(()))
            .await;
    }

    /// Waits for an event of this reason about this pod, and gives its message.
    pub(crate) async fn event(&self, pod: &str, reason: &str) -> String {
        let api = Api::<Event>::namespaced(self.client.clone(), "default");
        eventually(&format!("event {reason} of {pod}"), async || {
            let events = api.list(&ListParams::default()).await.unwrap();
            let of_pod =
                events.items.into_iter().filter(|one| one.involved_object.name.as_deref() == Some(pod));
            of_pod.filter(|one| one.reason.as_deref() == Some(reason)).find_map(|one| one.message)
        })
        .await
    }

    /// A client of the agent's own server, as an administrator of the cluster.
    pub(crate) async fn agent_client(&self) -> Client {
        Client::try_from(self.agent_config().await).unwrap()
    }

    pub(crate) async fn agent_config(&self) -> kube::Config {
        let kubeconfig = Kubeconfig::read_from(self.folder().join("data/admin.kubeconfig")).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.unwrap();
        let port = self.agent.as_ref().unwrap().port();
        config.cluster_url = format!("https://127.0.0.1:{port}").parse().unwrap();
        config.accept_invalid_certs = true;
        config
    }

    pub(crate) fn cni_calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder().join("bin/calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) async fn end(self) {
        if let Some(agent) = self.agent {
            agent.stop().await;
        }
        self.server.stop().await;
    }
}

async fn start_server(root: &Path) -> Server {
    let data = root.join("data");
    let flags = server_flags::Flags::try_parse_from([
        "apiserver",
        "--secure-port=0",
        "--bind-address=127.0.0.1",
        "--advertise-address=192.0.2.1",
        "--cluster-cidr=10.244.0.0/16",
        "--data-dir",
        &data.display().to_string(),
    ])
    .unwrap();
    let settings = server_flags::Settings::check(&flags.serve, &[]).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    Server::start(settings).await.unwrap()
}

pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> &'a str {
    let conditions = pod["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|one| one["type"] == kind);
    found.and_then(|one| one["status"].as_str()).unwrap_or_default()
}

pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    try_eventually(look).await.unwrap_or_else(|| panic!("not within {LIMIT:?}: {what}"))
}

async fn try_eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if tokio::time::Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
