//! Puts the server together, and takes it apart again.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::Request;
use ipnet::IpNet;
use jiff::Timestamp;
use kube::Client;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::bootstrap::Bootstrap;
use crate::authentication::token_file::TokenFile;
use crate::authentication::tokens::Tokens;
use crate::authentication::{Authenticator, ClientVerifier, Peer};
use crate::certificates::{self, Certificates, Pair, ServerNames, kubeconfig};
use crate::controllers::{self, ControllerSettings};
use crate::flags::{Settings, StoreSettings};
use crate::forward::AgentTls;
use crate::handlers::{Handlers, expiry};
use crate::http::objects::Objects;
use crate::http::server::{self, Tls};
use crate::http::{Front, Parts};
use crate::object::Object;
use crate::registry::Registry;
use crate::selectors::Indexer;
use crate::store::{Cache, CacheSettings, Embedded, Etcd, Indexed, Key, Store};

/// Commits that watches and pages can go back to: a few minutes of a busy cluster.
const HISTORY: usize = 20_000;
/// Events that may wait for one watcher.
const WATCH_BUFFER: usize = 1000;
const COMPACT_EVERY: Duration = Duration::from_secs(300);

/// A server that runs.
pub struct Server {
    address: SocketAddr,
    client: Client,
    stopping: CancellationToken,
    bootstrap: Bootstrap,
    /// One a socket.
    serving: Vec<JoinHandle<()>>,
    /// Ended by dropping it.
    tasks: JoinSet<()>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts a server; when this returns, it answers, and the objects of a new cluster are there.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn start(mut settings: Settings) -> Result<Server, RunError> {
        let bind = SocketAddr::new(settings.bind_address, settings.cluster.secure_port);
        let failed = |cause| RunError::Listen { address: bind.to_string(), cause };
        let listener = server::listen(bind).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let inherited = server::inherited().map_err(|cause| RunError::Listen {
            address: "a socket passed in LISTEN_FDS".to_owned(),
            cause,
        })?;
        settings.cluster.secure_port = address.port();

        let certificates = certificates::prepare(&settings.cert_dir, &names(&settings), Timestamp::now())?;
        let cache = cache(&settings).await?;
        let registry = Arc::new(registry());
        let stopping = CancellationToken::new();
        let front = Arc::new(front(&settings, &certificates, &registry, &cache, &stopping)?);
        let tls = tls(&settings, &certificates)?;

        let client = in_process_client(front.clone());
        let bootstrap = Bootstrap::new(client.clone(), &settings);
        bootstrap.run_once().await.map_err(|error| RunError::Bootstrap(error.to_string()))?;
        front.health().set_started();
        write_kubeconfig(&settings, &certificates)?;

        let mut tasks = JoinSet::new();
        tasks.spawn(bootstrap.clone().run());
        tasks.spawn(expiry::run(registry, cache.clone(), settings.event_ttl));
        tasks.spawn(compact(cache));
        tasks.spawn(controllers::run(
            client.clone(),
            ControllerSettings {
                cluster_cidrs: settings.cluster.cluster_cidrs.clone(),
                root_ca_pem: root_ca(&settings, &certificates)?,
            },
        ));
        let mut serving = Vec::new();
        for listener in std::iter::once(listener).chain(inherited) {
            tracing::info!(address = %listener.local_addr().map_err(failed)?, "serving");
            serving.push(tokio::spawn(server::serve(listener, tls.clone(), front.clone(), stopping.clone())));
        }
        Ok(Server { address, client, stopping, bootstrap, serving, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As an administrator, without a connection.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Ends watches, lets other requests come to their end, and closes the store.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.bootstrap.leave().await;
        self.stopping.cancel();
        for serving in self.serving {
            if let Err(error) = serving.await {
                tracing::error!(%error, "serving ended");
            }
        }
    }
}

/// A client for the server's own controllers: everything is as for others, but for the connection.
pub fn in_process_client(front: Arc<Front>) -> Client {
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(request, &Peer::InProcess).await) }
    });
    Client::new(service, "default")
}

fn registry() -> Registry {
    Registry::new(crate::resources::all())
}

fn index(key: &Key, object: &Object) -> Indexed {
    static INDEXER: LazyLock<Indexer> = LazyLock::new(|| Indexer::new(&registry()));
    INDEXER.index(key, object)
}

async fn cache(settings: &Settings) -> Result<Arc<Cache>, RunError> {
    let store: Arc<dyn Store> = match &settings.store {
        StoreSettings::Embedded => {
            fs::create_dir_all(&settings.data_dir).map_err(|cause| {
                let directory = settings.data_dir.display();
                RunError::Other(format!("making the directory {directory}: {cause}; name another --data-dir"))
            })?;
            Arc::new(Embedded::open(&settings.data_dir)?)
        }
        StoreSettings::Etcd(settings) => Arc::new(Etcd::new(settings)?),
    };
    let settings = CacheSettings { history: HISTORY, watch_buffer: WATCH_BUFFER };
    Ok(Cache::start(store, index, settings).await?)
}

fn front(
    settings: &Settings,
    certificates: &Certificates,
    registry: &Arc<Registry>,
    cache: &Arc<Cache>,
    stopping: &CancellationToken,
) -> Result<Front, RunError> {
    let token_file = match &settings.token_file {
        Some(path) => {
            let text = read("token-auth-file", path)?;
            TokenFile::parse(&text).map_err(|cause| bad_file("token-auth-file", path, cause))?
        }
        None => TokenFile::default(),
    };
    let tokens = Tokens::new(&certificates.token_key).map_err(|cause| {
        let path = settings.cert_dir.join("service-account.key");
        RunError::Other(format!("reading {}: {cause}; remove it to have a new one", path.display()))
    })?;
    let cluster = &settings.cluster;
    let parts = Parts {
        registry: registry.clone(),
        cache: cache.clone(),
        handlers: Handlers::new(cache.clone(), cluster.clone()),
        authenticator: Authenticator {
            token_file,
            tokens: Arc::new(tokens),
            accounts: Arc::new(Objects { cache: cache.clone(), registry: registry.clone() }),
            allows_anonymous: settings.allows_anonymous,
        },
        server_address: SocketAddr::new(cluster.advertise_address, cluster.secure_port).to_string(),
        agent_tls: agent_tls(settings, certificates)?,
        stopping: stopping.clone(),
    };
    Front::new(parts).map_err(|error| RunError::Other(format!("setting up the metrics: {error}")))
}

/// How node agents are reached.
fn agent_tls(settings: &Settings, certificates: &Certificates) -> Result<AgentTls, RunError> {
    let roots = match &settings.agent_ca {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let flag = "kubelet-certificate-authority";
            add_roots(&mut roots, &read(flag, path)?, flag, path)?;
            Some(roots)
        }
        None => None,
    };
    let place = settings.cert_dir.join("apiserver-kubelet-client.crt");
    let (chain, key) = certificates.agent_client.to_der(&place)?;
    AgentTls::new(chain, key, roots)
        .map_err(|error| RunError::Other(format!("using the certificate {}: {error}", place.display())))
}

fn tls(settings: &Settings, certificates: &Certificates) -> Result<Tls, RunError> {
    let mut roots = RootCertStore::empty();
    let own = certificates.authority.as_str();
    add_roots(&mut roots, own, "cert-dir", &settings.cert_dir.join("ca.crt"))?;
    if let Some(path) = &settings.client_ca {
        add_roots(&mut roots, &read("client-ca-file", path)?, "client-ca-file", path)?;
    }
    let verifier = ClientVerifier::new(roots).map_err(RunError::Other)?;
    let (pair, place) = match &settings.tls {
        Some((certificate, key)) => {
            let pair = Pair {
                certificate: read("tls-cert-file", certificate)?,
                key: read("tls-private-key-file", key)?,
            };
            (pair, certificate.clone())
        }
        None => (certificates.serving.clone(), settings.cert_dir.join("apiserver.crt")),
    };
    let (chain, key) = pair.to_der(&place)?;
    Tls::new(chain, key, verifier)
        .map_err(|error| RunError::Other(format!("using the certificate {}: {error}", place.display())))
}

fn add_roots(roots: &mut RootCertStore, pem: &str, flag: &'static str, path: &Path) -> Result<(), RunError> {
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| bad_file(flag, path, error))?;
        roots.add(certificate).map_err(|error| bad_file(flag, path, error))?;
    }
    Ok(())
}

fn read(flag: &'static str, path: &PathBuf) -> Result<String, RunError> {
    fs::read_to_string(path).map_err(|error| bad_file(flag, path, error))
}

fn bad_file(flag: &'static str, path: &Path, cause: impl ToString) -> RunError {
    RunError::File { flag, file: path.display().to_string(), cause: cause.to_string() }
}

/// What clients trust the server by: the authority of its own, or whatever signed the certificate that it was given.
fn root_ca(settings: &Settings, certificates: &Certificates) -> Result<String, RunError> {
    match &settings.tls {
        // The last of the chain stands for the authority; a certificate that signed itself is both.
        Some((certificate, _)) => read("tls-cert-file", certificate),
        None => Ok(certificates.authority.clone()),
    }
}

fn write_kubeconfig(settings: &Settings, certificates: &Certificates) -> Result<(), RunError> {
    let host: IpAddr = match settings.bind_address {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(address) if address.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    let server = format!("https://{}", SocketAddr::new(host, settings.cluster.secure_port));
    let authority = root_ca(settings, certificates)?;
    Ok(kubeconfig::write(&settings.kubeconfig, &server, &authority, &certificates.admin)?)
}

fn names(settings: &Settings) -> ServerNames {
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let service_addresses = settings.cluster.service_ranges.iter().map(first_address);
    let own = [settings.cluster.advertise_address, settings.bind_address];
    ServerNames::new(host_name.trim(), service_addresses.chain(own))
}

/// That of the Service `kubernetes`.
pub(super) fn first_address(range: &IpNet) -> IpAddr {
    match range.network() {
        IpAddr::V4(address) => IpAddr::V4(u32::from(address).saturating_add(1).into()),
        IpAddr::V6(address) => IpAddr::V6(u128::from(address).saturating_add(1).into()),
    }
}

/// Gives up history that nobody here can ask for any more.
async fn compact(cache: Arc<Cache>) {
    loop {
        tokio::time::sleep(COMPACT_EVERY).await;
        if let Err(error) = cache.compact().await {
            tracing::warn!(%error, "cannot give up old history");
        }
    }
}
