//! The agent's process from start to end.

mod start;

use std::io::{self, Write};
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::core::one_line;
use crate::flags::{FlagError, Flags, Host, Settings};
use crate::network::CniError;
use crate::runtime::{Runtime, RuntimeError};

pub use start::Agent;

/// Why the agent did not start.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Flags(#[from] FlagError),
    #[error("using the kubeconfig {}: {cause}; name another with --kubeconfig", path.display())]
    Kubeconfig { path: PathBuf, cause: String },
    #[error(transparent)]
    Network(#[from] CniError),
    #[error("starting the container runtime")]
    Runtime(#[from] RuntimeError),
    #[error("securing the agent's own server: {0}")]
    Tls(String),
    #[error("{doing}")]
    Io { doing: String, source: io::Error },
}

/// Runs `switchyard agent`. `install_logging` is given the level of `-v`, and `open_runtime` what the flags say.
pub fn main(
    program: &str,
    arguments: &[String],
    install_logging: impl FnOnce(u8),
    open_runtime: impl FnOnce(&Settings) -> Result<Arc<dyn Runtime>, RuntimeError>,
) -> ExitCode {
    let arguments = std::iter::once(program).chain(arguments.iter().map(String::as_str));
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // A closed stream is no reason to do anything else.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(&flags, install_logging, open_runtime) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "Error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(
    flags: &Flags,
    install_logging: impl FnOnce(u8),
    open_runtime: impl FnOnce(&Settings) -> Result<Arc<dyn Runtime>, RuntimeError>,
) -> Result<(), RunError> {
    let settings = Settings::check(flags, &host())?;
    install_logging(settings.verbosity);
    // Before there are other threads: a runtime may start processes.
    let containers = open_runtime(&settings)?;
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let threads = threads.map_err(|source| RunError::Io { doing: "starting threads".to_owned(), source })?;
    let result = threads.block_on(serve(settings, containers));
    // What blocks still is left behind: containers outlive the agent anyway.
    threads.shutdown_background();
    result
}

async fn serve(settings: Settings, runtime: Arc<dyn Runtime>) -> Result<(), RunError> {
    let failed = |source| RunError::Io { doing: "listening to signals".to_owned(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let node = settings.node_name.clone();
    let agent = Agent::start(settings, runtime).await?;
    tracing::info!(node, "running");
    tokio::select! {
        _ = terminate.recv() => tracing::info!("ending because of SIGTERM; containers go on"),
        _ = interrupt.recv() => tracing::info!("ending because of SIGINT; containers go on"),
    }
    agent.stop().await;
    Ok(())
}

fn host() -> Host {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Host { name: name.trim().to_owned(), addresses: own_addresses() }
}

/// This host's addresses on the way to anywhere else, one a family at most. Nothing is sent.
fn own_addresses() -> Vec<IpAddr> {
    let towards = |local: &str, remote: &str| -> Option<IpAddr> {
        let socket = UdpSocket::bind(local).ok()?;
        socket.connect(remote).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    let all = [towards("0.0.0.0:0", "192.0.2.1:9"), towards("[::]:0", "[2001:db8::1]:9")];
    all.into_iter().flatten().filter(|address| !address.is_unspecified() && !address.is_loopback()).collect()
}
