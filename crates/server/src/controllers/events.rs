//! What controllers tell of their work, for `kubectl describe` and `kubectl get events`.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// An event that cannot be written in this time is let go: it is for people, and must hold up nothing.
const LIMIT: Duration = Duration::from_secs(5);

/// Writes the events of one controller.
#[derive(Clone)]
pub(super) struct Events(Recorder);

impl Events {
    pub(super) fn new(client: Client, controller: &str) -> Events {
        Events(Recorder::new(client, Reporter { controller: controller.to_owned(), instance: None }))
    }

    pub(super) async fn normal(&self, about: &ObjectReference, reason: &str, note: &str) {
        self.write(EventType::Normal, about, reason, note).await;
    }

    pub(super) async fn warning(&self, about: &ObjectReference, reason: &str, note: &str) {
        self.write(EventType::Warning, about, reason, note).await;
    }

    async fn write(&self, kind: EventType, about: &ObjectReference, reason: &str, note: &str) {
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note.to_owned()),
            action: reason.to_owned(),
            secondary: None,
        };
        if let Ok(Err(error)) = tokio::time::timeout(LIMIT, self.0.publish(&event, about)).await {
            tracing::debug!(%error, reason, "an event could not be written");
        }
    }
}
