//! A real etcd for whole-system tests.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::wait::eventually;

/// Far more than a start takes on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// A member of its own, on this host; dropping it ends the process.
#[derive(Debug)]
pub struct Etcd {
    folder: TempDir,
    client_port: u16,
    peer_port: u16,
    process: Child,
}

impl Etcd {
    /// Starts an empty one and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start() -> Result<Etcd> {
        let free =
            || Ok::<_, std::io::Error>(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port());
        let (folder, client_port, peer_port) = (tempfile::tempdir()?, free()?, free()?);
        let process = spawn(&folder, client_port, peer_port)?;
        let etcd = Etcd { folder, client_port, peer_port, process };
        etcd.wait()?;
        Ok(etcd)
    }

    /// What `--etcd-servers` takes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// Kills it and starts it again with what is on its disk.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn kill_and_start_again(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        self.process = spawn(&self.folder, self.client_port, self.peer_port)?;
        self.wait()
    }

    fn wait(&self) -> Result<()> {
        let health = format!("{}/health", self.url());
        eventually(READY_LIMIT, || {
            let output = Command::new("curl").args(["-sf", "--max-time", "5", &health]).output()?;
            anyhow::ensure!(output.status.success(), "etcd does not answer at {health}");
            Ok(())
        })
    }
}

fn spawn(folder: &TempDir, client_port: u16, peer_port: u16) -> Result<Child> {
    let client = format!("http://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    Command::new("etcd")
        .arg("--data-dir")
        .arg(folder.path().join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting etcd (Debian package etcd-server)")
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end or to wait for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
