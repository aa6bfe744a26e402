//! Which API server, with which credentials: kubeconfig, `--master`, or the pod's service account.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderValue, Uri};
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::http_proxy::ProxyEnvironment;
use super::token_file::TokenFile;

/// Where the API server is and how to talk to it.
#[derive(Debug, Clone, Default)]
pub struct ClientSettings {
    /// Path of a kubeconfig; empty for none.
    pub kubeconfig: PathBuf,
    /// URL that overrides the one of the kubeconfig, or stands alone; empty for none.
    pub master: String,
    /// Requests a second, 0 for client-go's default, negative for no limit.
    pub qps: f32,
    /// Requests at once, 0 for client-go's default.
    pub burst: u32,
    /// What to call ourselves; see [`user_agent`].
    pub user_agent: String,
}

/// Each is one line that ends with the way out, so the causes are a part of the text.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
    )]
    NotInCluster,
    #[error("unable to load in-cluster configuration: {0}; check the pod's service account token volume")]
    InCluster(InClusterError),
    #[error(
        "cannot read the kubeconfig {path}: {cause}; name an existing file with --kubeconfig, or none inside a pod"
    )]
    KubeconfigFile { path: String, cause: std::io::Error },
    #[error(
        "the kubeconfig {path} cannot be used: {reason}; `kubectl --kubeconfig {path} get nodes` shows whether it works"
    )]
    Kubeconfig { path: String, reason: String },
    #[error(
        "cannot read the API token {path}: {cause}; check tokenFile in the kubeconfig, or the pod's token volume"
    )]
    TokenFile { path: String, cause: std::io::Error },
    #[error("--master {0:?} is not the address of an API server; give one such as https://10.0.0.1:6443")]
    Master(String),
    #[error(
        "cannot prepare the connection to the API server {host}: {reason}; check the credentials in the kubeconfig"
    )]
    Transport { host: String, reason: String },
}

/// `kube-proxy/<version> (<os>/<arch>) switchyard`.
pub fn user_agent(version: &str) -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("kube-proxy/{version} ({}/{arch}) switchyard", std::env::consts::OS)
}

/// Makes ring the TLS provider of the process. Doing it again changes nothing.
pub fn install_crypto() {
    // The only error is that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl ClientSettings {
    /// Whether the pod's service account is to be used.
    pub(super) fn is_in_cluster(&self) -> bool {
        self.kubeconfig.as_os_str().is_empty() && self.master.is_empty()
    }

    pub(super) fn user_agent_header(&self) -> HeaderValue {
        let agent = if self.user_agent.is_empty() { "kube-proxy" } else { &self.user_agent };
        HeaderValue::from_str(agent).unwrap_or(HeaderValue::from_static("kube-proxy"))
    }

    /// Reads files and environment; runs no plugin and sends nothing.
    pub(super) async fn load(&self) -> Result<kube::Config, ClientError> {
        let master = self.master_url()?;
        let mut config = match (self.kubeconfig.as_os_str().is_empty(), master) {
            (true, None) => in_cluster()?,
            (true, Some(url)) => kube::Config::new(url),
            (false, master) => {
                let mut config = from_kubeconfig(&self.kubeconfig).await?;
                if let Some(url) = master {
                    config.cluster_url = url;
                }
                config
            }
        };
        // A watch resumes by its own rules; a second layer of retries would hide refusals from them.
        config.default_retry = false;
        if config.proxy_url.is_none() {
            config.proxy_url = ProxyEnvironment::read().proxy_for(&config.cluster_url);
        }
        Ok(config)
    }

    fn master_url(&self) -> Result<Option<Uri>, ClientError> {
        if self.master.is_empty() {
            return Ok(None);
        }
        let text =
            if self.master.contains("://") { self.master.clone() } else { format!("http://{}", self.master) };
        let url: Option<Uri> = text.parse().ok();
        let usable = url.filter(|url| {
            // The parser lets `host:word` pass as a host without a port.
            let whole = url.port_u16().is_some() || url.host() == Some(&super::host_of(url));
            matches!(url.scheme_str(), Some("http" | "https")) && whole
        });
        usable.map(Some).ok_or_else(|| ClientError::Master(self.master.clone()))
    }
}

fn in_cluster() -> Result<kube::Config, ClientError> {
    kube::Config::incluster_env().map_err(|error| match error {
        InClusterError::ReadEnvironmentVariable(_) => ClientError::NotInCluster,
        other => ClientError::InCluster(other),
    })
}

async fn from_kubeconfig(path: &Path) -> Result<kube::Config, ClientError> {
    let shown = path.display().to_string();
    let unusable = |error: KubeconfigError| match error {
        KubeconfigError::ReadConfig(cause, _) => ClientError::KubeconfigFile { path: shown.clone(), cause },
        other => ClientError::Kubeconfig { path: shown.clone(), reason: one_line(&other.to_string()) },
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(&unusable)?;
    let names_proxy = names_proxy(&kubeconfig);
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(&unusable)?;
    if !names_proxy {
        // Then it is from the environment, whose exceptions kube matches against the proxy and not the server.
        config.proxy_url = None;
    }
    Ok(config)
}

/// Whether the current cluster of the kubeconfig says itself through which proxy it is reached.
fn names_proxy(kubeconfig: &Kubeconfig) -> bool {
    let current = kubeconfig.current_context.as_deref();
    let context = kubeconfig.contexts.iter().find(|context| Some(context.name.as_str()) == current);
    let cluster =
        context.and_then(|context| context.context.as_ref()).map(|context| context.cluster.as_str());
    let cluster = kubeconfig.clusters.iter().find(|named| Some(named.name.as_str()) == cluster);
    let proxy =
        cluster.and_then(|named| named.cluster.as_ref()).and_then(|cluster| cluster.proxy_url.as_deref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}

/// What carries requests, and the token that goes with them if it is in a file.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: kube::Client,
    pub(super) token_file: Option<Arc<TokenFile>>,
}

impl Connection {
    /// Runs an exec plugin, if the credentials come from one.
    pub(super) fn new(mut config: kube::Config) -> Result<Connection, ClientError> {
        let host = super::host_of(&config.cluster_url);
        // Read by ourselves: kube takes a line end for a part of the token, and a token beside the file for newer.
        let token_file = config.auth_info.token_file.take();
        let token_file = token_file.filter(|path| !path.is_empty()).map(|path| {
            config.auth_info.token = None;
            TokenFile::open(Path::new(&path)).map_err(|cause| ClientError::TokenFile { path, cause })
        });
        let token_file = token_file.transpose()?.map(Arc::new);
        match kube::Client::try_from(config) {
            Ok(client) => Ok(Connection { client, token_file }),
            Err(error) => {
                let reason = one_line(&super::root_cause(error).to_string());
                Err(ClientError::Transport { host, reason })
            }
        }
    }
}

/// A YAML error shows the place in a picture of several lines; the first line says what and where.
fn one_line(text: &str) -> String {
    text.split_whitespace().take(60).collect::<Vec<_>>().join(" ")
}
