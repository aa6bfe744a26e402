//! Events: what happened to a pod or the node, where `kubectl describe` shows it.
//!
//! Whoever has something to tell hands it to a [`Recorder`] and goes on; a task writes it. What repeats itself is counted
//! instead of written again.

mod series;

use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;

use series::{Happening, Next, SeriesTable};

/// Kubelet's, so that people and tools find events where they are used to.
const COMPONENT: &str = "kubelet";
/// The longest message that the API takes, in bytes.
const LONGEST_MESSAGE: usize = 1024;
/// How many may wait to be written. When the API server is away for long, the rest is lost, as elsewhere.
const WAITING: usize = 1000;

/// Whether somebody should look after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Normal => "Normal",
            Kind::Warning => "Warning",
        }
    }
}

/// Takes events, from anywhere and without waiting.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Happening>,
}

impl Recorder {
    /// Starts writing events in the name of a node.
    pub(crate) fn start(client: Client, node: &str) -> Recorder {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(write(client, node.to_owned(), receiver));
        Recorder { sender }
    }

    pub(crate) fn pod(&self, pod: &Pod, kind: Kind, reason: &'static str, message: impl Into<String>) {
        self.record(pod.object_ref(&()), kind, reason, message.into());
    }

    /// About one of a pod's containers.
    pub(crate) fn container(
        &self,
        pod: &Pod,
        container: &str,
        kind: Kind,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let is_init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        let list = if is_init.into_iter().any(|init| init.name == container) {
            "initContainers"
        } else {
            "containers"
        };
        let field_path = Some(format!("spec.{list}{{{container}}}"));
        let object = ObjectReference { field_path, ..pod.object_ref(&()) };
        self.record(object, kind, reason, message.into());
    }

    /// Nodes are named by their name where others have a UID: kubelet's way, which `kubectl describe node` looks for.
    pub(crate) fn node(&self, name: &str, kind: Kind, reason: &'static str, message: impl Into<String>) {
        let node = Node {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                uid: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Node::default()
        };
        self.record(node.object_ref(&()), kind, reason, message.into());
    }

    fn record(&self, mut object: ObjectReference, kind: Kind, reason: &'static str, message: String) {
        // It changes with every write, and would keep events of one kind apart.
        object.resource_version = None;
        let message = message[..message.floor_char_boundary(LONGEST_MESSAGE)].to_owned();
        tracing::info!(kind = kind.as_str(), reason, object = object.name.as_deref(), "{message}");
        let happening = Happening { object, kind, reason, message };
        if self.sender.try_send(happening).is_err() {
            tracing::warn!("an event is lost: too many wait to be written");
        }
    }
}

async fn write(client: Client, node: String, mut receiver: mpsc::Receiver<Happening>) {
    let mut table = SeriesTable::default();
    while let Some(happening) = receiver.recv().await {
        let now = jiff::Timestamp::now();
        let next = table.next(&happening, now);
        let namespace = happening.object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api = Api::<Event>::namespaced(client.clone(), &namespace);
        let result = match &next {
            Next::First { name } => create(&api, &event(&happening, name, &namespace, &node, now)).await,
            Next::Again { name, count } => {
                let patch = json!({"count": count, "lastTimestamp": Time(now), "message": happening.message});
                match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                    // The API keeps events for an hour only.
                    Err(kube::Error::Api(status)) if status.code == 404 => {
                        create(&api, &event(&happening, name, &namespace, &node, now)).await
                    }
                    result => result.map(drop),
                }
            }
        };
        if let Err(error) = result {
            tracing::warn!(%error, reason = happening.reason, "cannot write an event");
            table.forget(&happening);
        }
    }
}

async fn create(api: &Api<Event>, event: &Event) -> Result<(), kube::Error> {
    api.create(&PostParams::default(), event).await.map(drop)
}

fn event(happening: &Happening, name: &str, namespace: &str, node: &str, now: jiff::Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: happening.object.clone(),
        type_: Some(happening.kind.as_str().to_owned()),
        reason: Some(happening.reason.to_owned()),
        message: Some(happening.message.clone()),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: Some(node.to_owned()) }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(node.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        ..Event::default()
    }
}
