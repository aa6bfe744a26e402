//! A proxy process on a node of a scene.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use switchyard_lab::scene::Scene;

/// Where the proxy serves its metrics by default, in its node's namespace.
const METRICS: &str = "127.0.0.1:10249";
/// The time of the last successful sync, one line a family.
const LAST_SYNC: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";
/// Far more than a first sync takes on a busy machine.
const SYNC_LIMIT: Duration = Duration::from_secs(30);
/// How often to look whether a condition holds.
const INTERVAL: Duration = Duration::from_millis(20);

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
        let log = File::create(&launch.log).with_context(|| format!("creating {}", launch.log.display()))?;
        let mut command = Command::new(binary()?);
        command
            .arg("proxy")
            .arg("--manifests")
            .arg(launch.manifests)
            .args(launch.args)
            .env("PATH", launch.search_path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // A child process belongs to the namespace of the thread that started it.
        let process = scene.run(launch.node, move || command.spawn())?.context("starting the proxy")?;
        let mut proxy = Proxy { scene, node: launch.node.to_owned(), log: launch.log.clone(), process };
        let synced = proxy.wait_until_synced();
        proxy.explain(synced)?;
        Ok(proxy)
    }

    /// Adds the end of the proxy's log to an error.
    ///
    /// # Errors
    /// The one given.
    pub fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n");
            anyhow!("{error:#}\nThe proxy's log ends with:\n{last}")
        })
    }

    fn wait_until_synced(&mut self) -> Result<()> {
        let deadline = Instant::now() + SYNC_LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait()? {
                bail!("the proxy ended: {status}");
            }
            // Until its server listens, asking is refused.
            if self.scene.run(&self.node, metrics)?.is_ok_and(|metrics| has_synced(&metrics)) {
                return Ok(());
            }
            std::thread::sleep(INTERVAL);
        }
        bail!("the proxy has not synced both families within {SYNC_LIMIT:?}")
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
    let test = std::env::current_exe()?;
    // Tests are built into the folder `deps` beside the programs.
    let path = test.ancestors().nth(2).map(|profile| profile.join("switchyard")).unwrap_or_default();
    if path.exists() {
        return Ok(path.into());
    }
    Err(anyhow!("{} does not exist: run `cargo build -p switchyard-cli` first", path.display()))
}

fn metrics() -> std::io::Result<String> {
    let mut connection = TcpStream::connect(METRICS)?;
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

fn has_synced(metrics: &str) -> bool {
    ["IPv4", "IPv6"].iter().all(|family| {
        let series = format!("{LAST_SYNC}{{ip_family=\"{family}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.and_then(|value| value.trim().parse::<f64>().ok()).is_some_and(|time| time > 0.0)
    })
}
