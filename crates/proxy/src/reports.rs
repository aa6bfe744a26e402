//! Which events the proxy's findings become.

use switchyard_model::Problem;

use crate::events::{Event, EventType, Regarding};
use crate::service_health::ListenError;

/// A part of an object had to be left out.
pub(crate) fn problem(node: &str, problem: &Problem) -> Event {
    let (kind, key) = problem.object();
    let api_version = if kind == "EndpointSlice" { "discovery.k8s.io/v1" } else { "v1" };
    Event {
        regarding: Regarding {
            api_version,
            kind: kind.into(),
            namespace: (&*key.namespace).into(),
            name: (&*key.name).into(),
            uid: None,
        },
        event_type: EventType::Warning,
        reason: "MalformedObject",
        action: "Skip",
        note: format!("node {node}: {problem}"),
    }
}

/// The port on which load balancers ask about a Service could not be opened.
pub(crate) fn health_check_failed(error: &ListenError) -> Event {
    Event {
        regarding: Regarding::service(&error.service.namespace, &error.service.name, ""),
        event_type: EventType::Warning,
        reason: "FailedToStartServiceHealthcheck",
        action: "Listen",
        note: error.to_string(),
    }
}
