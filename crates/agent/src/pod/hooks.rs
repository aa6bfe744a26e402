//! Hooks of a container: what it wants done after its start and before its end.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use super::perform::Subject;
use super::spec;
use crate::probe::{self, Target};

/// A hook may take as long as the container has to end; one after the start has no limit but this.
const LIMIT: Duration = Duration::from_secs(3600);

/// Runs a hook to its end.
///
/// # Errors
/// Why it failed, in words for an event.
pub(super) async fn run(subject: &Subject, container: &str, hook: &LifecycleHandler) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default())).await;
        return Ok(());
    }
    let own = spec::container(&subject.pod, container).map(|(_, container)| container);
    let address = subject.pod_ips.first().copied();
    let target = Target {
        runtime: subject.core.runtime.clone(),
        uid: spec::name(&subject.pod).uid,
        container: container.to_owned(),
        address,
    };
    let ports = own.and_then(|container| container.ports.as_deref()).unwrap_or_default();
    let outcome = if let Some(exec) = &hook.exec {
        probe::exec(&target, exec.command.as_deref().unwrap_or_default(), LIMIT).await
    } else if let Some(http) = &hook.http_get {
        probe::http_get(&target, http, ports, LIMIT).await
    } else if let Some(tcp) = &hook.tcp_socket {
        probe::tcp_connect(&target, tcp, ports, LIMIT).await
    } else {
        return Ok(());
    };
    outcome.map(drop)
}
