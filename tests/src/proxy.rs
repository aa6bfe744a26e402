//! A proxy process on a node of a scene.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use switchyard_lab::scene::Scene;

use crate::http::{self, Reply};
use crate::wait::eventually;

/// The port on which the proxy serves its metrics by default, in its node's namespace.
const METRICS: u16 = 10249;
/// The time of the last successful sync, one line a family.
const LAST_SYNC: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";
/// Far more than a first sync takes on a busy machine.
const SYNC_LIMIT: Duration = Duration::from_secs(30);
/// Far more than a process takes to end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How to start a proxy.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The node it runs on, by its name in the scene.
    pub node: &'a str,
    /// The folder of manifests.
    pub manifests: &'a Path,
    /// Further flags.
    pub args: &'a [String],
    /// The PATH on which it finds iptables.
    pub search_path: &'a OsStr,
    /// The file that iptables-legacy locks, so that the scenes of other tests do not wait for this one's lock.
    pub lock_file: &'a Path,
    /// The file for its log.
    pub log: PathBuf,
}

/// A running proxy; dropping it kills the process.
#[derive(Debug)]
pub struct Proxy<'a> {
    scene: &'a Scene,
    node: String,
    log: PathBuf,
    process: Child,
}

impl<'a> Proxy<'a> {
    /// Starts the proxy and waits until it has synced both families.
    ///
    /// # Errors
    /// When it cannot be started, or ends or does not sync in time; the error holds the end of its log.
    pub fn start(scene: &'a Scene, launch: &Launch<'_>) -> Result<Proxy<'a>> {
        let mut proxy = Proxy::spawn(scene, launch)?;
        let synced = proxy.wait_until_synced();
        proxy.explain(synced)?;
        Ok(proxy)
    }

    /// Starts the proxy and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(scene: &'a Scene, launch: &Launch<'_>) -> Result<Proxy<'a>> {
        let log = File::create(&launch.log).with_context(|| format!("creating {}", launch.log.display()))?;
        let mut command = Command::new(binary()?);
        command
            .arg("proxy")
            .arg("--manifests")
            .arg(launch.manifests)
            .args(launch.args)
            .env("PATH", launch.search_path)
            .env("XTABLES_LOCKFILE", launch.lock_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Proxy::run(scene, launch.node, command, launch.log.clone())
    }

    /// Starts any command line of the program on a node; its output goes wherever the command says, and is
    /// expected in `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(scene: &'a Scene, node: &str, mut command: Command, log: PathBuf) -> Result<Proxy<'a>> {
        // A child process belongs to the namespace of the thread that started it.
        let process = scene.run(node, move || command.spawn())?.context("starting the proxy")?;
        Ok(Proxy { scene, node: node.to_owned(), log, process })
    }

    /// Waits until every family was synced once.
    ///
    /// # Errors
    /// When the process ends, or does not sync in time.
    pub fn wait_until_synced(&mut self) -> Result<()> {
        // Until its server listens, asking is refused.
        let synced = eventually(SYNC_LIMIT, || match self.process.try_wait()? {
            Some(status) => Ok(Err(anyhow!("the proxy ended: {status}"))),
            None => {
                ensure!(has_synced(&self.metrics()?), "the proxy has not synced both families");
                Ok(Ok(()))
            }
        });
        synced?
    }

    /// What it answers on a port of its node's 127.0.0.1.
    ///
    /// # Errors
    /// When nobody listens or the answer is no HTTP.
    pub fn get(&self, port: u16, path: &str) -> Result<Reply> {
        self.scene.run(&self.node, || http::get(port, path))?
    }

    /// Its metrics, as text.
    ///
    /// # Errors
    /// When it does not serve them.
    pub fn metrics(&self) -> Result<String> {
        let reply = self.get(METRICS, "/metrics")?;
        ensure!(reply.status == 200, "/metrics answers {}", reply.status);
        Ok(reply.body)
    }

    /// The sum over all series of a metric.
    ///
    /// # Errors
    /// When it does not serve its metrics.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let metrics = self.metrics()?;
        let values = metrics.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
        });
        Ok(values.sum())
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal to the process and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        signal::kill(Pid::from_raw(i32::try_from(self.process.id())?), signal)?;
        self.wait_for_end()
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus> {
        eventually(END_LIMIT, || match self.process.try_wait()? {
            Some(status) => Ok(status),
            None => bail!("the process has not ended"),
        })
    }

    /// Whether the process still runs.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.try_wait()?.is_none())
    }

    /// Adds the end of the proxy's log to an error.
    ///
    /// # Errors
    /// The one given.
    pub fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n");
            anyhow!("{error:#}\nThe proxy's log ends with:\n{last}")
        })
    }
}

impl Drop for Proxy<'_> {
    fn drop(&mut self) {
        // A process that has already ended can neither be killed nor needs to be.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program under test: what SWITCHYARD_BIN names, else the build that this test belongs to.
///
/// # Errors
/// When it has not been built.
pub fn binary() -> Result<OsString> {
    if let Some(path) = std::env::var_os("SWITCHYARD_BIN") {
        return Ok(path);
    }
    let own = std::env::current_exe()?;
    // A program stands beside it, a test in the folder `deps` beside the programs.
    let candidates = own.ancestors().skip(1).take(2).map(|folder| folder.join("switchyard"));
    let found = candidates.into_iter().find(|path| path.exists());
    found.map(PathBuf::into_os_string).ok_or_else(|| {
        anyhow!(
            "there is no program switchyard near {}: run `cargo build -p switchyard-cli` first",
            own.display()
        )
    })
}

fn has_synced(metrics: &str) -> bool {
    ["IPv4", "IPv6"].iter().all(|family| {
        let series = format!("{LAST_SYNC}{{ip_family=\"{family}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.and_then(|value| value.trim().parse::<f64>().ok()).is_some_and(|time| time > 0.0)
    })
}
