//! Whatever happens to the connection with the API server, a reader of the updates ends up with the server's state.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use support::api_server::ApiServer;
use support::world::World;
use switchyard_api::Service;
use switchyard_proxy::client::{ApiClient, ClientSettings};
use switchyard_proxy::source::api::{ApiSource, ApiSourceSettings, BackoffPolicy};
use switchyard_proxy::source::{Change, Kind, Update};
use tokio::sync::mpsc;
use tokio::time::timeout;

const SERVICES: &str = "/api/v1/services";
const PATIENCE: Duration = Duration::from_secs(20);

fn service(port: u16) -> Value {
    json!({"spec": {"clusterIP": "10.0.0.1", "ports": [{"port": port}]}})
}

/// One that no slim type can hold.
fn malformed_service() -> Value {
    json!({"spec": {"clusterIP": 7}})
}

async fn client(server: &ApiServer) -> ApiClient {
    let settings = ClientSettings { master: server.url(), qps: -1.0, ..ClientSettings::default() };
    ApiClient::new(settings, None).await.unwrap()
}

/// Delays that a test does not notice.
fn fast() -> ApiSourceSettings {
    let milliseconds = Duration::from_millis;
    ApiSourceSettings {
        backoff: BackoffPolicy {
            first: milliseconds(1),
            longest: milliseconds(20),
            reset: milliseconds(120_000),
        },
        ..ApiSourceSettings::default()
    }
}

/// Follows one kind and holds what the updates say.
struct Reader {
    updates: mpsc::Receiver<Update>,
    services: BTreeMap<String, Service>,
    synced: usize,
    malformed: Vec<String>,
    _source: ApiSource,
}

impl Reader {
    fn follow(client: &ApiClient, kind: Kind, settings: ApiSourceSettings) -> Reader {
        // A small channel, so that the source has to wait for the reader now and then.
        let (sender, updates) = mpsc::channel(2);
        let mut source = ApiSource::new(client.clone(), "node-1", settings, sender);
        source.watch(kind);
        Reader { updates, services: BTreeMap::new(), synced: 0, malformed: Vec::new(), _source: source }
    }

    async fn services(server: &ApiServer) -> Reader {
        Reader::follow(&client(server).await, Kind::Service, fast())
    }

    fn apply(&mut self, update: Update) {
        match update {
            Update::Service(Change::Set(service)) => {
                let key = service.metadata.key().to_string();
                let before = self.services.insert(key, service.clone());
                assert_ne!(before, Some(service), "nothing is told twice");
            }
            Update::Service(Change::Removed(key)) => {
                assert!(self.services.remove(&key.to_string()).is_some(), "{key} was not there");
            }
            Update::Synced(_) => self.synced += 1,
            Update::Malformed(malformed) => self.malformed.push(malformed.object.key.to_string()),
            other => panic!("unexpected {other:?}"),
        }
    }

    async fn until(&mut self, what: &str, condition: impl Fn(&Reader) -> bool) {
        while !condition(self) {
            let update = timeout(PATIENCE, self.updates.recv()).await;
            let update = update.unwrap_or_else(|_| panic!("still waiting: {what}; have {:?}", self.services));
            self.apply(update.expect("a source never ends by itself"));
        }
    }

    /// Waits until the reader holds what the server holds, but for objects that cannot be read.
    async fn until_same_as(&mut self, server: &ApiServer, what: &str) {
        let wanted = readable(&server.world());
        self.until(what, |reader| reader.synced == 1 && reader.services == wanted).await;
    }
}

fn readable(world: &World) -> BTreeMap<String, Service> {
    let objects = world.list(SERVICES, world.revision()).into_iter();
    let services = objects.filter_map(|object| serde_json::from_value::<Service>(object).ok());
    services.map(|service| (service.metadata.key().to_string(), service)).collect()
}

/// A history with every kind of change after revision 2.
async fn server_with_history() -> ApiServer {
    let server = ApiServer::start().await;
    server.change(|world| {
        world.put(SERVICES, "ns/a", service(1));
        world.put(SERVICES, "ns/b", service(2));
        world.put(SERVICES, "ns/a", service(3));
        world.put(SERVICES, "ns/c", service(4));
        world.delete(SERVICES, "ns/b");
    });
    server
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_is_resumed() {
    let server = server_with_history().await;
    let client = client(&server).await;
    // The initial objects are those of revision 2; the other changes follow on the same stream.
    let whole = support::answer::stream_from(&server.world(), SERVICES, 2);
    for cut in 0..=whole.len() {
        *server.faults() =
            support::answer::Faults { cuts: vec![cut], list_at: Some(2), ..Default::default() };
        let mut reader = Reader::follow(&client, Kind::Service, fast());
        reader.until_same_as(&server, &format!("cut at {cut}")).await;
    }
}

#[tokio::test]
async fn a_paged_list_and_its_watch_cut_at_any_byte_are_resumed() {
    let server = server_with_history().await;
    let client = client(&server).await;
    let watch = support::answer::stream_from(&server.world(), SERVICES, 2);
    for cut in 0..=watch.len() {
        *server.faults() = support::answer::Faults {
            // One for the refusal, which is left whole, one for the first page, the second page and the watch.
            cuts: vec![usize::MAX, cut, cut, cut],
            list_at: Some(2),
            no_streamed_lists: true,
            page: Some(1),
            ..Default::default()
        };
        let mut reader = Reader::follow(&client, Kind::Service, fast());
        reader.until_same_as(&server, &format!("cut at {cut}")).await;
    }
}

#[tokio::test]
async fn a_watch_from_a_revision_that_is_gone_is_listed_anew() {
    for gone_as_event in [true, false] {
        let mut server = server_with_history().await;
        server.faults().gone_as_event = gone_as_event;
        let mut reader = Reader::services(&server).await;
        reader.until_same_as(&server, "at the start").await;
        server.stop().await;
        server.change(|world| {
            world.delete(SERVICES, "ns/a");
            world.put(SERVICES, "ns/d", service(5));
            world.compacted = world.revision();
        });
        server.serve().await;
        reader.until_same_as(&server, "after the gap").await;
    }
}

#[tokio::test]
async fn repeated_and_reordered_events_do_no_harm() {
    let server = server_with_history().await;
    server.faults().shuffle = true;
    server.faults().list_at = Some(2);
    let mut reader = Reader::follow(&client(&server).await, Kind::Service, fast());
    reader.until("the start", |reader| reader.synced == 1).await;
    server.change(|world| {
        world.put(SERVICES, "ns/e", service(6));
        world.delete(SERVICES, "ns/e");
        world.put(SERVICES, "ns/f", service(7));
        world.put(SERVICES, "ns/f", service(8));
        world.put(SERVICES, "ns/g", service(9));
        world.put(SERVICES, "ns/end", service(10));
    });
    reader.until_same_as(&server, "after the shuffle").await;
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_and_later_is_waited_for() {
    let mut server = ApiServer::stopped().await;
    server.change(|world| world.put(SERVICES, "ns/a", service(1)));
    let mut reader = Reader::services(&server).await;
    server.serve().await;
    reader.until_same_as(&server, "once it is up").await;
    for round in 2..5 {
        server.stop().await;
        server.change(|world| {
            world.put(SERVICES, "ns/a", service(round));
            world.put(SERVICES, &format!("ns/b{round}"), service(round));
        });
        assert_eq!(reader.services.len(), usize::from(round) - 1, "what was known stays while it is away");
        server.serve().await;
        reader.until_same_as(&server, "after it was down").await;
    }
}

#[tokio::test]
async fn a_malformed_object_is_skipped_in_lists_and_in_watches() {
    for no_streamed_lists in [false, true] {
        let server = server_with_history().await;
        server.faults().no_streamed_lists = no_streamed_lists;
        server.change(|world| world.put(SERVICES, "ns/bad", malformed_service()));
        let mut reader = Reader::services(&server).await;
        reader.until_same_as(&server, "the others").await;
        assert_eq!(reader.malformed, ["ns/bad"]);
        server.change(|world| {
            world.put(SERVICES, "ns/worse", malformed_service());
            world.put(SERVICES, "ns/bad", service(5));
        });
        reader.until_same_as(&server, "the repaired one").await;
        assert_eq!(reader.malformed, ["ns/bad", "ns/worse"]);
    }
}

#[tokio::test]
async fn a_server_that_never_heard_of_streamed_lists_is_listed() {
    let server = server_with_history().await;
    server.faults().ignore_streamed_lists = true;
    let settings = ApiSourceSettings { listing_silence: Duration::from_millis(50), ..fast() };
    let mut reader = Reader::follow(&client(&server).await, Kind::Service, settings);
    reader.until_same_as(&server, "listed").await;
    server.change(|world| world.put(SERVICES, "ns/z", service(9)));
    reader.until_same_as(&server, "watched").await;
}

#[tokio::test]
async fn a_connection_that_went_silent_is_given_up() {
    let server = server_with_history().await;
    let settings = ApiSourceSettings { watch_silence: Duration::from_millis(20), ..fast() };
    let mut reader = Reader::follow(&client(&server).await, Kind::Service, settings);
    reader.until_same_as(&server, "at the start").await;
    let watched_twice = server.until(|requests| {
        requests.iter().filter(|request| request.parameter("resourceVersion") == "5").count() == 2
    });
    timeout(PATIENCE, watched_twice).await.expect("the watch is opened again");
}

#[tokio::test]
async fn an_absent_service_cidr_api_does_not_block_the_start() {
    let server = ApiServer::start().await;
    server.faults().absent.push("/apis/networking.k8s.io/v1/servicecidrs".to_owned());
    let mut reader = Reader::follow(&client(&server).await, Kind::ServiceCidr, fast());
    reader.until("synced", |reader| reader.synced == 1).await;
}

#[tokio::test]
async fn requests_select_what_a_proxy_needs() {
    let server = ApiServer::start().await;
    let client = client(&server).await;
    for kind in Kind::ALL {
        Reader::follow(&client, kind, fast()).until("synced", |reader| reader.synced == 1).await;
    }
    let requests = server.requests();
    let selectors: Vec<_> = requests
        .iter()
        .map(|request| {
            (request.path.as_str(), request.parameter("labelSelector"), request.parameter("fieldSelector"))
        })
        .collect();
    assert_eq!(
        selectors,
        [
            ("/api/v1/nodes", "", "metadata.name=node-1"),
            (SERVICES, "!service.kubernetes.io/service-proxy-name", "spec.clusterIP!=None"),
            ("/apis/discovery.k8s.io/v1/endpointslices", "!service.kubernetes.io/headless", ""),
            ("/apis/networking.k8s.io/v1/servicecidrs", "", ""),
        ]
    );
    for request in requests.iter() {
        assert_eq!(request.headers["accept"], "application/json");
        let seconds: u64 = request.parameter("timeoutSeconds").parse().unwrap();
        assert!((300..=600).contains(&seconds));
    }
}
