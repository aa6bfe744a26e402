//! Kill -9 under load, on both stores: every acknowledged write is there, no address or port is given twice, and no watch
//! misses or repeats a change.
//!
//! `SWITCHYARD_KILLS` says how often (15 times for each store if it is not set), `SWITCHYARD_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::Signal;
use serde_json::json;
use switchyard_tests::api_server::ApiServer;
use switchyard_tests::etcd::Etcd;
use switchyard_tests::random::Random;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const WRITERS: usize = 4;
/// Services of one writer at a time: there are 2,768 node ports for all.
const MOST_KNOWN: usize = 100;
/// A kill comes after at most so many acknowledged writes.
const MOST_WRITES: u64 = 80;
/// Far more than a request takes, even while etcd is away.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(default),
    };
    let (kills, seed) = (number("SWITCHYARD_KILLS", 15)?, number("SWITCHYARD_SEED", 1)?);
    type Test = fn(u64, u64) -> Result<()>;
    let tests: [(&str, Test); 2] = [
        ("nothing_acknowledged_is_lost_in_a_file", embedded),
        ("nothing_acknowledged_is_lost_in_etcd", etcd),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test(kills, seed).map_err(|error| Failed::from(format!("seed {seed}: {error:#}")))
        })
    });
    Ok(libtest_mimic::run(&args, trials.into()).exit_code())
}

fn embedded(kills: u64, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let mut server = ApiServer::start(&["--service-cluster-ip-range=10.96.0.0/16"])?;
    let runtime = Runtime::new()?;
    let mut world = World::default();
    for round in 0..kills {
        let client = || runtime.block_on(server.client());
        let clients = (0..WRITERS).map(|_| client()).collect::<Result<Vec<_>>>()?;
        let life = Life::begin(&runtime, round, &world, clients, client()?, &mut random)?;
        life.wait(&runtime, 1 + random.below(MOST_WRITES))?;
        server.end(Signal::SIGKILL)?;
        let told = life.end(&runtime)?;
        server.start_again()?;
        runtime.block_on(async { world.check(server.client().await?, told).await })?;
    }
    Ok(())
}

/// Two servers on one etcd; whoever is killed, the others go on.
fn etcd(kills: u64, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let mut store = Etcd::start()?;
    let keys = tempfile::tempdir()?;
    let (urls, cert_dir) =
        (format!("--etcd-servers={}", store.url()), format!("--cert-dir={}", keys.path().display()));
    let args = ["--service-cluster-ip-range=10.96.0.0/16", &urls, &cert_dir];
    let mut servers = [ApiServer::start(&args)?, ApiServer::start(&args)?];
    let runtime = Runtime::new()?;
    let mut world = World::default();
    for round in 0..kills {
        let client = |index: usize| runtime.block_on(servers[index].client());
        let clients = (0..WRITERS).map(|writer| client(writer % 2)).collect::<Result<Vec<_>>>()?;
        let life = Life::begin(&runtime, round, &world, clients, client(0)?, &mut random)?;
        life.wait(&runtime, 1 + random.below(MOST_WRITES))?;
        let victim = random.below(3) as usize;
        match servers.get_mut(victim) {
            Some(server) => drop(server.end(Signal::SIGKILL)?),
            None => store.kill_and_start_again()?,
        }
        let told = life.end(&runtime).with_context(|| {
            let logs = servers.iter().map(ApiServer::log).collect::<Vec<_>>();
            format!("round {round}, without {victim}; the servers logged:\n{}", logs.join("\n--\n"))
        })?;
        if let Some(server) = servers.get_mut(victim) {
            server.start_again()?;
        }
        runtime.block_on(async {
            for server in &servers {
                server.ready(LIMIT)?;
            }
            world.check(servers[round as usize % 2].client().await?, told).await
        })?;
    }
    Ok(())
}

/// What a service says, as far as it counts here; `None` if there is none.
type State = Option<u64>;

/// What must be so, by name.
#[derive(Default)]
struct World {
    acknowledged: BTreeMap<String, u64>,
}

/// What a writer was told.
#[derive(Default)]
struct Told {
    /// In order: the name, what it is now, and at which revision, where the answer says so.
    acknowledged: Vec<(String, State, Option<u64>)>,
    /// What became of the last request is not known.
    uncertain: Option<(String, State)>,
}

/// An event of a watch: revision, name, and what the service is now.
type Seen = (u64, String, State);

/// Writers and a watcher, until somebody is killed.
struct Life {
    writers: Vec<JoinHandle<Result<Told>>>,
    watcher: JoinHandle<Result<Vec<Seen>>>,
    count: Arc<AtomicUsize>,
    stopping: tokio_util::sync::CancellationToken,
}

impl Life {
    fn begin(
        runtime: &Runtime,
        round: u64,
        world: &World,
        clients: Vec<Client>,
        watching: Client,
        random: &mut Random,
    ) -> Result<Life> {
        let count = Arc::new(AtomicUsize::new(0));
        let stopping = tokio_util::sync::CancellationToken::new();
        let watching = Api::<Service>::default_namespaced(watching);
        let from = runtime.block_on(watching.list(&ListParams::default()))?.metadata.resource_version;
        let watcher = runtime.spawn(watch(watching, from.unwrap_or_default(), stopping.clone()));
        let writers = clients.into_iter().enumerate().map(|(index, client)| {
            // Nobody else writes these names.
            let own = format!("w{index}-");
            let known = world.acknowledged.iter().filter(|(name, _)| name.starts_with(&own));
            let writer = Writer {
                api: Api::default_namespaced(client),
                prefix: own.clone(),
                first: round * 1_000_000,
                known: known.map(|(name, state)| (name.clone(), *state)).collect(),
                random: Random::new(random.below(u64::MAX)),
                count: count.clone(),
                stopping: stopping.clone(),
            };
            runtime.spawn(writer.run())
        });
        Ok(Life { writers: writers.collect(), watcher, count, stopping })
    }

    /// Until so many writes have been acknowledged.
    fn wait(&self, runtime: &Runtime, writes: u64) -> Result<()> {
        runtime.block_on(async {
            let come = async {
                while (self.count.load(Ordering::Acquire) as u64) < writes {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(LIMIT, come).await.context("the writers do not get on")
        })
    }

    fn end(self, runtime: &Runtime) -> Result<(Vec<Told>, Vec<Seen>)> {
        self.stopping.cancel();
        runtime.block_on(async {
            let mut told = Vec::new();
            for writer in self.writers {
                told.push(tokio::time::timeout(LIMIT, writer).await.context("a writer hangs")???);
            }
            let seen = tokio::time::timeout(LIMIT, self.watcher).await.context("the watcher hangs")???;
            Ok((told, seen))
        })
    }
}

struct Writer {
    api: Api<Service>,
    prefix: String,
    /// The first of the states that it writes; no other round has them.
    first: u64,
    known: BTreeMap<String, u64>,
    random: Random,
    count: Arc<AtomicUsize>,
    stopping: tokio_util::sync::CancellationToken,
}

impl Writer {
    /// Writes until something goes wrong, which is how a kill looks from here.
    async fn run(mut self) -> Result<Told> {
        let mut told = Told::default();
        // A state that a service has already would change nothing.
        for number in self.first.. {
            if self.stopping.is_cancelled() {
                break;
            }
            let existing: Vec<String> = self.known.keys().cloned().collect();
            let (name, wanted, outcome) =
                if existing.is_empty() || (existing.len() < MOST_KNOWN && self.random.once_in(2)) {
                    let name = format!("{}{number}", self.prefix);
                    (name.clone(), Some(number), self.create(&name, number).await)
                } else {
                    let name = self.random.choose(&existing);
                    match self.random.once_in(3) {
                        true => (name.clone(), None, self.delete(&name).await),
                        false => (name.clone(), Some(number), self.patch(&name, number).await),
                    }
                };
            match outcome {
                Ok(revision) => {
                    match wanted {
                        Some(state) => drop(self.known.insert(name.clone(), state)),
                        None => drop(self.known.remove(&name)),
                    }
                    told.acknowledged.push((name, wanted, revision));
                    self.count.fetch_add(1, Ordering::Release);
                }
                // Refused, which nothing that is written here should be.
                Err(kube::Error::Api(status)) if status.code < 500 => bail!("{name}: {status:?}"),
                Err(_) => {
                    told.uncertain = Some((name, wanted));
                    break;
                }
            }
        }
        Ok(told)
    }

    async fn create(&self, name: &str, state: u64) -> Result<Option<u64>, kube::Error> {
        let service = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"state": state.to_string()}},
            "spec": {"type": "NodePort", "ports": [{"port": 80}]},
        }));
        let service: Service = service.map_err(kube::Error::SerdeError)?;
        self.api.create(&PostParams::default(), &service).await.map(|created| revision(&created))
    }

    async fn patch(&self, name: &str, state: u64) -> Result<Option<u64>, kube::Error> {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"state": state.to_string()}}}));
        self.api.patch(name, &PatchParams::default(), &patch).await.map(|patched| revision(&patched))
    }

    async fn delete(&self, name: &str) -> Result<Option<u64>, kube::Error> {
        self.api.delete(name, &DeleteParams::default()).await.map(|_| None)
    }
}

fn revision(service: &Service) -> Option<u64> {
    service.resource_version()?.parse().ok()
}

fn state(service: &Service) -> State {
    service.labels().get("state")?.parse().ok()
}

/// All events until the connection is lost, or everything is over.
async fn watch(
    api: Api<Service>,
    from: String,
    stopping: tokio_util::sync::CancellationToken,
) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut events = std::pin::pin!(api.watch(&WatchParams::default(), &from).await?);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = stopping.cancelled() => break,
        };
        let (service, now) = match event {
            Some(Ok(WatchEvent::Added(service) | WatchEvent::Modified(service))) => {
                let now = state(&service);
                (service, now)
            }
            Some(Ok(WatchEvent::Deleted(service))) => (service, None),
            Some(Ok(WatchEvent::Bookmark(_))) => continue,
            Some(Ok(WatchEvent::Error(error))) => bail!("the watch ended: {error:?}"),
            Some(Err(_)) | None => break,
        };
        seen.push((revision(&service).context("an event without a revision")?, service.name_any(), now));
    }
    Ok(seen)
}

impl World {
    /// Holds what is there against what was acknowledged, and takes it over.
    async fn check(&mut self, client: Client, (told, seen): (Vec<Told>, Vec<Seen>)) -> Result<()> {
        check_watch(&told, &seen)?;
        for (name, state, _) in told.iter().flat_map(|told| &told.acknowledged) {
            match state {
                Some(state) => drop(self.acknowledged.insert(name.clone(), *state)),
                None => drop(self.acknowledged.remove(name)),
            }
        }
        let services =
            Api::<Service>::default_namespaced(client.clone()).list(&ListParams::default()).await?.items;
        let uncertain: BTreeMap<&String, State> = told
            .iter()
            .filter_map(|told| told.uncertain.as_ref())
            .map(|(name, state)| (name, *state))
            .collect();
        let found: BTreeMap<String, u64> =
            services.iter().filter_map(|service| Some((service.name_any(), state(service)?))).collect();
        let names: BTreeSet<&String> = found.keys().chain(self.acknowledged.keys()).collect();
        for name in names {
            let (is, acknowledged) = (found.get(name).copied(), self.acknowledged.get(name).copied());
            let may_be = uncertain.get(name).is_some_and(|state| *state == is);
            ensure!(is == acknowledged || may_be, "{name} is {is:?}; acknowledged was {acknowledged:?}");
        }
        check_addresses(&services, &client).await?;
        self.acknowledged = found;
        Ok(())
    }
}

/// Every acknowledged write up to the last event was seen once, and nothing else was.
fn check_watch(told: &[Told], seen: &[Seen]) -> Result<()> {
    let revisions: Vec<u64> = seen.iter().map(|(revision, ..)| *revision).collect();
    ensure!(revisions.is_sorted_by(|a, b| a < b), "events are out of order or repeated: {revisions:?}");
    let last = revisions.last().copied().unwrap_or_default();
    let by_revision: BTreeMap<u64, (&String, State)> =
        seen.iter().map(|(revision, name, state)| (*revision, (name, *state))).collect();
    let mut expected = 0;
    for (name, state, revision) in told.iter().flat_map(|told| &told.acknowledged) {
        let Some(revision) = revision.filter(|revision| *revision <= last) else { continue };
        let event = by_revision.get(&revision);
        ensure!(
            event == Some(&(name, *state)),
            "{name} became {state:?} at {revision}, and the watch told {event:?}"
        );
        expected += 1;
    }
    let writes = seen.iter().filter(|(_, _, state)| state.is_some()).count();
    let uncertain = told.iter().filter(|told| told.uncertain.is_some()).count();
    ensure!(
        writes <= expected + uncertain,
        "the watch told of {writes} writes, of {expected} that were made"
    );
    Ok(())
}

/// No address and no port has two owners, and the IPAddress objects say the same.
async fn check_addresses(services: &[Service], client: &Client) -> Result<()> {
    let specs = || services.iter().filter_map(|service| service.spec.as_ref());
    let addresses: Vec<&String> = specs().filter_map(|spec| spec.cluster_ip.as_ref()).collect();
    let unique: BTreeSet<&String> = addresses.iter().copied().collect();
    ensure!(unique.len() == addresses.len(), "an address was given twice: {addresses:?}");
    let ports: Vec<i32> =
        specs().flat_map(|spec| spec.ports.iter().flatten()).filter_map(|port| port.node_port).collect();
    ensure!(ports.iter().collect::<BTreeSet<_>>().len() == ports.len(), "a port was given twice: {ports:?}");
    let objects = Api::<IPAddress>::all(client.clone()).list(&ListParams::default()).await?.items;
    let owned: BTreeSet<String> = objects.iter().map(ResourceExt::name_any).collect();
    let taken: BTreeSet<String> = unique.into_iter().cloned().collect();
    ensure!(owned == taken, "IPAddresses differ from the addresses of services: {owned:?} {taken:?}");
    Ok(())
}
