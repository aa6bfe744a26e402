//! Events (`events.k8s.io/v1`) about the node and about Services, for `kubectl describe` and `kubectl get events`.
//!
//! Recording never waits: a full queue drops the event, and one that cannot be written is logged and forgotten.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use switchyard_api::manifest::MalformedObject;
use tokio::sync::mpsc;

use crate::client::ApiClient;
use crate::logging::error;
use crate::source::{Kind, Malformed};
use crate::{klog_error, klog_info};

/// Events that may wait to be written.
const QUEUE: usize = 100;
/// The API server refuses a longer note, or reason text.
const MAX_NOTE_BYTES: usize = 1024;
/// For one event to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const CONTROLLER: &str = "kube-proxy";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum EventType {
    Normal,
    Warning,
}

/// The object that an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Regarding {
    pub api_version: &'static str,
    pub kind: Box<str>,
    /// Empty for an object of the whole cluster.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub namespace: Box<str>,
    pub name: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<Box<str>>,
}

impl Regarding {
    /// Upstream's reference to the node carries no uid.
    pub fn node(name: &str) -> Regarding {
        Regarding {
            api_version: "v1",
            kind: "Node".into(),
            namespace: "".into(),
            name: name.into(),
            uid: None,
        }
    }

    pub fn service(namespace: &str, name: &str, uid: &str) -> Regarding {
        let uid = (!uid.is_empty()).then(|| uid.into());
        Regarding {
            api_version: "v1",
            kind: "Service".into(),
            namespace: namespace.into(),
            name: name.into(),
            uid,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub regarding: Regarding,
    pub event_type: EventType,
    /// One word in CamelCase, to filter by.
    pub reason: &'static str,
    /// What the proxy was doing.
    pub action: &'static str,
    /// For people.
    pub note: String,
}

impl Event {
    /// The proxy starts on this node.
    pub fn starting(node: &str) -> Event {
        Event {
            regarding: Regarding::node(node),
            event_type: EventType::Normal,
            reason: "Starting",
            action: "StartKubeProxy",
            note: String::new(),
        }
    }

    /// An object is left out because it cannot be read.
    pub fn malformed(node: &str, malformed: &Malformed) -> Event {
        let MalformedObject { kind, key, reason } = &malformed.object;
        let api_version = match Kind::parse(kind) {
            Some(Kind::EndpointSlice) => "discovery.k8s.io/v1",
            Some(Kind::ServiceCidr) => "networking.k8s.io/v1",
            _ => "v1",
        };
        let regarding = Regarding {
            api_version,
            kind: kind.clone(),
            namespace: (&*key.namespace).into(),
            name: (&*key.name).into(),
            uid: malformed.uid.clone(),
        };
        Event {
            regarding,
            event_type: EventType::Warning,
            reason: "MalformedObject",
            action: "Skip",
            note: format!("node {node} skips {kind} \"{key}\": {reason}"),
        }
    }
}

/// Takes events from anywhere in the process.
#[derive(Debug, Clone)]
pub struct EventRecorder {
    queue: Option<mpsc::Sender<Event>>,
}

impl EventRecorder {
    /// Without an API server: events become log lines.
    pub fn log_only() -> EventRecorder {
        EventRecorder { queue: None }
    }

    /// Writes events to the API server, one after the other, from a task that ends with the last recorder.
    pub fn start(client: ApiClient, host_name: &str) -> EventRecorder {
        let (queue, events) = mpsc::channel(QUEUE);
        let instance = format!("{CONTROLLER}-{host_name}");
        tokio::spawn(write_events(client, instance, events));
        EventRecorder { queue: Some(queue) }
    }

    pub fn record(&self, event: Event) {
        match &self.queue {
            Some(queue) => {
                if let Err(dropped) = queue.try_send(event) {
                    let event = dropped.into_inner();
                    klog_error!(
                        "Dropping an event, too many are waiting",
                        reason = event.reason,
                        note = event.note
                    );
                }
            }
            None => {
                let object = format!("{}/{}", event.regarding.kind, event.regarding.name);
                klog_info!("Event occurred", object = object, reason = event.reason, note = event.note);
            }
        }
    }
}

async fn write_events(client: ApiClient, instance: String, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        let written = tokio::time::timeout(WRITE_TIMEOUT, write(&client, &instance, &event)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => {
                klog_error!("Unable to write event", err = error(&reason), reason = event.reason);
            }
            Err(_) => klog_error!("Unable to write event in time", reason = event.reason, note = event.note),
        }
    }
}

async fn write(client: &ApiClient, instance: &str, event: &Event) -> Result<(), crate::client::RequestError> {
    let body = WrittenEvent::new(event, instance, Timestamp::now());
    let uri = format!("/apis/events.k8s.io/v1/namespaces/{}/events", body.metadata.namespace);
    // These are strings and numbers only: writing them as JSON cannot fail.
    let json = serde_json::to_vec(&body).unwrap_or_default();
    client.create(&uri, json).await
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenEvent<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: WrittenMetadata,
    event_time: String,
    reporting_controller: &'static str,
    reporting_instance: &'a str,
    action: &'a str,
    reason: &'a str,
    regarding: &'a Regarding,
    note: &'a str,
    #[serde(rename = "type")]
    event_type: EventType,
}

#[derive(Serialize)]
struct WrittenMetadata {
    namespace: String,
    name: String,
}

impl<'a> WrittenEvent<'a> {
    fn new(event: &'a Event, instance: &'a str, now: Timestamp) -> WrittenEvent<'a> {
        let Regarding { namespace, name, .. } = &event.regarding;
        let namespace = if namespace.is_empty() { "default" } else { namespace };
        WrittenEvent {
            api_version: "events.k8s.io/v1",
            kind: "Event",
            metadata: WrittenMetadata {
                namespace: namespace.to_owned(),
                name: format!("{name}.{:x}", now.as_nanosecond()),
            },
            event_time: format!("{now:.6}"),
            reporting_controller: CONTROLLER,
            reporting_instance: instance,
            action: event.action,
            reason: event.reason,
            regarding: &event.regarding,
            note: truncated(&event.note, MAX_NOTE_BYTES),
            event_type: event.event_type,
        }
    }
}

/// The longest prefix of whole characters that fits.
fn truncated(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

#[cfg(test)]
mod tests {
    use switchyard_api::ObjectKey;

    use super::*;

    fn written(event: &Event) -> serde_json::Value {
        let now = Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap();
        serde_json::to_value(WrittenEvent::new(event, "kube-proxy-host", now)).unwrap()
    }

    #[test]
    fn the_start_is_an_event_of_the_node_as_upstream_writes_it() {
        let expected = serde_json::json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": "default", "name": "node-1.17979cfe3d85cd15"},
            "eventTime": "2023-11-14T22:13:20.123456Z",
            "reportingController": "kube-proxy",
            "reportingInstance": "kube-proxy-host",
            "action": "StartKubeProxy",
            "reason": "Starting",
            "regarding": {"apiVersion": "v1", "kind": "Node", "name": "node-1"},
            "note": "",
            "type": "Normal"
        });
        assert_eq!(written(&Event::starting("node-1")), expected);
    }

    #[test]
    fn a_malformed_service_is_named_in_its_own_namespace() {
        let object = MalformedObject {
            kind: "Service".into(),
            key: ObjectKey::new("shop", "db"),
            reason: "é".repeat(1024),
        };
        let event = Event::malformed("node-1", &Malformed { object, uid: Some("u1".into()) });
        let json = written(&event);
        assert_eq!(json["metadata"]["namespace"], "shop");
        assert_eq!(json["regarding"]["uid"], "u1");
        assert_eq!(
            (json["reason"].as_str(), json["type"].as_str()),
            (Some("MalformedObject"), Some("Warning"))
        );
        let note = json["note"].as_str().unwrap();
        assert!(note.starts_with("node node-1 skips Service \"shop/db\": é"));
        assert!(note.len() > MAX_NOTE_BYTES - 2 && note.len() <= MAX_NOTE_BYTES);
    }

    #[tokio::test]
    async fn a_full_queue_drops_events_and_never_waits() {
        let (queue, mut events) = mpsc::channel(1);
        let recorder = EventRecorder { queue: Some(queue) };
        for _ in 0..3 {
            recorder.record(Event::starting("n"));
        }
        drop(recorder);
        assert!(events.recv().await.is_some());
        assert!(events.recv().await.is_none());
    }
}
