//! The server process from start to end.

mod bootstrap;
mod endpoints;
mod snapshot;
mod start;

use std::io::{self, Write};
use std::net::{IpAddr, UdpSocket};
use std::process::ExitCode;

use clap::Parser;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

pub use start::{Server, in_process_client};

use crate::certificates::CertificateError;
use crate::flags::{Command, FlagError, Flags, Settings};
use crate::store::StoreError;

/// Why the server did not start. Each is one line that names what was done, to what, and the way out.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Flags(#[from] FlagError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    #[error("reading --{flag} {file}: {cause}")]
    File { flag: &'static str, file: String, cause: String },
    #[error("listening on {address}: {cause}; choose another --secure-port or --bind-address")]
    Listen { address: String, cause: io::Error },
    #[error("creating the objects of a new cluster: {0}")]
    Bootstrap(String),
    #[error("{0}")]
    Other(String),
}

/// Runs `switchyard apiserver`. `install_logging` is given the level of `-v`.
pub fn main(program: &str, arguments: &[String], install_logging: impl FnOnce(u8)) -> ExitCode {
    let arguments = std::iter::once(program).chain(arguments.iter().map(String::as_str));
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // A closed stream is no reason to do anything else.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(flags, install_logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags, install_logging: impl FnOnce(u8)) -> Result<(), RunError> {
    if let Some(Command::Snapshot { action }) = flags.command {
        return snapshot::run(&action);
    }
    let settings = Settings::check(&flags.serve, &own_addresses())?;
    install_logging(settings.verbosity);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| RunError::Other(format!("starting threads: {cause}")))?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), RunError> {
    let failed = |cause| RunError::Other(format!("listening to signals: {cause}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let kubeconfig = settings.kubeconfig.clone();
    let server = tokio::select! {
        server = Server::start(settings) => server?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let _ = writeln!(io::stdout(), "ready; use it with: export KUBECONFIG={}", kubeconfig.display());
    tokio::select! {
        _ = terminate.recv() => tracing::info!("ending because of SIGTERM"),
        _ = interrupt.recv() => tracing::info!("ending because of SIGINT"),
    }
    server.stop().await;
    Ok(())
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
