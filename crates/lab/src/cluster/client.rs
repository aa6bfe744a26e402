//! Asking the lab's API server, through the port of this machine as everybody does.

use std::path::Path;
use std::time::Duration;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::error::{LabError, doing};

/// A client for this kubeconfig.
pub(super) async fn connect(path: &Path) -> Result<Client, LabError> {
    let bad = |why: String| LabError::Other(format!("reading {}: {why}", path.display()));
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| bad(error.to_string()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| bad(error.to_string()))?;
    // Whatever this terminal's environment says, there is nothing between this machine and itself.
    config.proxy_url = None;
    Client::try_from(config).map_err(|error| bad(error.to_string()))
}

/// An answer, or what was asked.
pub(super) fn told<T>(asked: &str, answer: Result<T, kube::Error>) -> Result<T, LabError> {
    answer.map_err(|source| LabError::Api { doing: asked.to_owned(), source: Box::new(source) })
}

/// Runs questions to their end on this thread, or to the limit: while the API server starts again, nobody refuses them.
pub(super) fn block_on<T>(
    limit: Duration,
    questions: impl Future<Output = Result<T, LabError>>,
) -> Result<T, LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let limited = async { tokio::time::timeout(limit, questions).await };
    runtime.map_err(doing("starting"))?.block_on(limited).unwrap_or_else(|_| {
        let seconds = limit.as_secs();
        Err(LabError::Other(format!(
            "the API server does not answer within {seconds} s; see `switchyard status`"
        )))
    })
}
