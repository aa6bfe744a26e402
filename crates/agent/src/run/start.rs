//! Puts the agent together, and takes it apart again.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use switchyard_kernel::sysctl::{KernelSysctls, Sysctls};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::RunError;
use crate::core::{Core, DnsSettings, one_line};
use crate::events::Recorder;
use crate::flags::{PodNetwork, Settings};
use crate::network::{Cni, NetworkKeeper};
use crate::node::NodeKeeper;
use crate::pod::{Manager, Pods};
use crate::runtime::Runtime;
use crate::server::{self, Trust};

/// An agent that runs. Dropping it ends the agent, and nothing of what it runs.
#[derive(Debug)]
pub struct Agent {
    pods: Pods,
    port: u16,
    stopping: CancellationToken,
    tasks: JoinSet<()>,
}

impl Agent {
    /// Starts an agent in the calling thread's network namespace, which has to be the node's, for all threads of the
    /// asynchronous runtime. The API server need not be there yet.
    ///
    /// # Errors
    /// What is in the way on this machine.
    pub async fn start(settings: Settings, runtime: Arc<dyn Runtime>) -> Result<Agent, RunError> {
        // The only error is that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = config(&settings.kubeconfig).await?;
        let trust = trust(&settings, &config)?;
        let address = SocketAddr::new(settings.address, settings.port);
        let listener = server::bind(address).await.map_err(|source| RunError::Io {
            doing: format!("listening on {address}; choose another --port or --address"),
            source,
        })?;
        let port = listener.local_addr().map_or(settings.port, |address| address.port());
        let client = Client::try_from(config).map_err(|error| unusable(&settings.kubeconfig, &error))?;
        let stopping = CancellationToken::new();
        let core = Arc::new(Core {
            cni: Cni::new(&settings.cni_conf_dir, &settings.cni_bin_dirs, &settings.root_dir)?,
            events: Recorder::start(client.clone(), &settings.node_name),
            node_name: settings.node_name.clone(),
            node_ips: settings.node_ips.clone(),
            root_dir: settings.root_dir.clone(),
            dns: DnsSettings {
                servers: settings.cluster_dns.clone(),
                domain: settings.cluster_domain.clone(),
            },
            ends: watch::Sender::new(0),
            stopping: stopping.clone(),
            runtime,
            client,
        });
        if settings.network != PodNetwork::None {
            forward();
        }
        let pods = Pods::default();
        let (network, health) = NetworkKeeper::new(core.clone(), settings.clone());
        let node = NodeKeeper::new(core.clone(), settings.clone(), port, health);
        let manager = Manager::new(core.clone(), pods.clone());
        let server = server::serve(listener, core, pods.clone(), &trust);
        let server = server.map_err(|error| RunError::Tls(one_line(&error)))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(network.run());
        tasks.spawn(node.run());
        tasks.spawn(manager.run());
        tasks.spawn(server);
        Ok(Agent { pods, port, stopping, tasks })
    }

    /// The pods that it looks after.
    pub fn pods(&self) -> &Pods {
        &self.pods
    }

    /// Where it answers the API server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the agent. Its containers go on.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        self.tasks.shutdown().await;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

async fn config(path: &Path) -> Result<Config, RunError> {
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| unusable(path, &error))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    config.map_err(|error| unusable(path, &error))
}

/// Who signs the certificates of API servers: by default whoever signed those that they serve with.
fn trust(settings: &Settings, config: &Config) -> Result<Trust, RunError> {
    let file = settings.client_ca_file.as_ref().or(config.root_cert_file.as_ref());
    match file {
        None => Ok(Trust::in_der(config.root_cert.as_deref().unwrap_or_default())),
        Some(path) => {
            let pem = std::fs::read(path);
            let doing = || format!("reading the authority of clients {}", path.display());
            pem.map(|pem| Trust::in_pem(&pem)).map_err(|source| RunError::Io { doing: doing(), source })
        }
    }
}

fn unusable(path: &Path, error: &(dyn std::error::Error + 'static)) -> RunError {
    RunError::Kubeconfig { path: path.to_owned(), cause: one_line(error) }
}

/// A node passes packets on between its pods and the world. Where this may not be set, somebody else has to.
fn forward() {
    let mut sysctls = KernelSysctls::default();
    for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        if let Err(error) = sysctls.ensure(name, 1) {
            tracing::warn!("{error}");
        }
    }
}
