//! An API server process with a folder of its own, and kubectl pointed at it.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::proxy::binary;
use crate::wait::{eventually, eventually_every};

/// Far more than a start takes on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// Far more than a request takes; kubectl itself would wait for ever.
const REQUEST_LIMIT: &str = "--request-timeout=20s";

/// A running server on a port of 127.0.0.1; dropping it kills the process.
#[derive(Debug)]
pub struct ApiServer {
    folder: TempDir,
    args: Vec<String>,
    port: u16,
    process: Child,
    kubectl: PathBuf,
}

/// The kubectl programs of this machine: its own, and an old one that the set-up puts beside it.
#[must_use]
pub fn kubectls() -> Vec<PathBuf> {
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/usr/bin/kubectl");
    let own = PathBuf::from("kubectl");
    if old.exists() { vec![own, old] } else { vec![own] }
}

impl ApiServer {
    /// Starts a server on an empty folder and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready; the error holds its log.
    pub fn start(args: &[&str]) -> Result<ApiServer> {
        ApiServer::start_in(&std::env::temp_dir(), args)
    }

    /// The same with its folder in another one.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_in(parent: &Path, args: &[&str]) -> Result<ApiServer> {
        let server = ApiServer::spawned(parent, args)?;
        server.wait_until_ready()?;
        Ok(server)
    }

    fn spawned(parent: &Path, args: &[&str]) -> Result<ApiServer> {
        let folder = tempfile::tempdir_in(parent)?;
        // Free now, and nobody else on this machine is told of it; the kernel does not hand it out again at once.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = spawn(&folder, port, &args)?;
        Ok(ApiServer { folder, args, port, process, kubectl: PathBuf::from("kubectl") })
    }

    /// Starts a server on an empty folder, and says how long it took until it said that it is ready.
    ///
    /// # Errors
    /// When it does not within the limit.
    pub fn start_timed(args: &[&str]) -> Result<(ApiServer, Duration)> {
        let begun = Instant::now();
        let server = ApiServer::spawned(&std::env::temp_dir(), args)?;
        eventually_every(Duration::from_millis(1), READY_LIMIT, || {
            ensure!(server.log().lines().any(|line| line.starts_with("ready")), "it is not ready");
            Ok(())
        })?;
        Ok((server, begun.elapsed()))
    }

    /// The same server for another kubectl.
    #[must_use]
    pub fn with_kubectl(mut self, kubectl: &Path) -> ApiServer {
        kubectl.clone_into(&mut self.kubectl);
        self
    }

    /// Starts it again on the same folder and port, after it has ended.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.folder, self.port, &self.args)?;
        self.wait_until_ready()
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When the process is not there.
    pub fn end(&mut self, with: Signal) -> Result<ExitStatus> {
        signal::kill(Pid::from_raw(self.process.id().try_into()?), with)?;
        Ok(self.process.wait()?)
    }

    /// The process, for its memory and its time.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The kubeconfig that it wrote.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("data/admin.kubeconfig")
    }

    /// The certificate of the authority that signed its own.
    #[must_use]
    pub fn certificate_authority(&self) -> PathBuf {
        self.folder.path().join("data/pki/ca.crt")
    }

    /// The port of 127.0.0.1 that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A folder of the test's own.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    /// Runs kubectl and gives what it printed.
    ///
    /// # Errors
    /// When it fails; the error holds what it complained of.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(args, "")
    }

    /// The same with something on its standard input.
    ///
    /// # Errors
    /// When it fails.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        let Output { status, stdout, stderr } = self.run(args, input)?;
        let complaint = String::from_utf8_lossy(&stderr);
        ensure!(status.success(), "kubectl {}: {complaint}", args.join(" "));
        Ok(String::from_utf8(stdout)?)
    }

    /// Runs a kubectl that is to fail, and gives what it complained of.
    ///
    /// # Errors
    /// When it succeeds.
    pub fn kubectl_refused(&self, args: &[&str], input: &str) -> Result<String> {
        let Output { status, stdout, stderr } = self.run(args, input)?;
        ensure!(
            !status.success(),
            "kubectl {} succeeded: {}",
            args.join(" "),
            String::from_utf8_lossy(&stdout)
        );
        Ok(String::from_utf8(stderr)?)
    }

    /// An object or a list as JSON.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get"], args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("reading {text}"))
    }

    /// Any GET, by its path.
    ///
    /// # Errors
    /// When it is not answered with 200.
    pub fn raw(&self, path: &str) -> Result<String> {
        self.kubectl(&["get", "--raw", path])
    }

    /// A client as kube-rs makes it from the kubeconfig.
    ///
    /// # Errors
    /// When the kubeconfig is none.
    pub async fn client(&self) -> Result<kube::Client> {
        let kubeconfig = kube::config::Kubeconfig::read_from(self.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it does not within the limit.
    pub fn ready(&self, limit: Duration) -> Result<()> {
        eventually(limit, || self.raw("/readyz")).map(drop)
    }

    fn run(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut kubectl = Command::new(&self.kubectl)
            .args(["--kubeconfig"])
            .arg(self.kubeconfig())
            .arg(REQUEST_LIMIT)
            .arg("--cache-dir")
            .arg(self.folder.path().join("cache"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting kubectl (Debian package kubernetes-client)")?;
        if let Some(mut stdin) = kubectl.stdin.take() {
            // One that does not read its input has ended, and says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        Ok(kubectl.wait_with_output()?)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let ready = eventually(READY_LIMIT, || {
            ensure!(self.kubeconfig().exists(), "there is no kubeconfig");
            self.raw("/readyz")
        });
        match ready {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error:#}\n{}", self.log()),
        }
    }
}

fn spawn(folder: &TempDir, port: u16, args: &[String]) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.path().join("server.log"))?;
    let mut command = Command::new(binary()?);
    command
        .arg("apiserver")
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .args(["--bind-address", "127.0.0.1", "--advertise-address", "192.0.2.1", "--secure-port"])
        .arg(port.to_string())
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command.spawn().context("starting the API server")
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end or to wait for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
