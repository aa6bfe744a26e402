//! A real etcd for tests.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Etcd, EtcdSettings};
use crate::store::Store;

/// A member of its own, on this host; dropping it ends the process.
pub(in crate::store) struct Server {
    folder: PathBuf,
    client_port: u16,
    peer_port: u16,
    process: Child,
}

impl Server {
    pub(in crate::store) async fn start(folder: PathBuf) -> Server {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let (client_port, peer_port) = (free(), free());
        let process = Server::spawn(&folder, client_port, peer_port);
        let server = Server { folder, client_port, peer_port, process };
        server.wait().await;
        server
    }

    fn spawn(folder: &PathBuf, client_port: u16, peer_port: u16) -> Child {
        let client = format!("http://127.0.0.1:{client_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(folder);
        for (flag, value) in [
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
        ] {
            command.args([flag, value]);
        }
        command.args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap_or_else(|error| {
            panic!("starting etcd: {error}; these tests need Debian's package etcd-server")
        })
    }

    async fn wait(&self) {
        let limit = Instant::now() + Duration::from_secs(30);
        let store = self.store();
        while let Err(error) = store.latest().await {
            assert!(Instant::now() < limit, "etcd does not answer: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(in crate::store) fn store(&self) -> Etcd {
        Etcd::new(&EtcdSettings {
            // The first one leads nowhere.
            urls: vec!["http://127.0.0.1:1".to_owned(), format!("http://127.0.0.1:{}", self.client_port)],
            authority: None,
            client: None,
            prefix: "/registry".to_owned(),
        })
        .unwrap()
    }

    /// Kills it, and starts it again with what is on its disk.
    pub(in crate::store) async fn restart(&mut self) {
        self.end();
        self.process = Server::spawn(&self.folder, self.client_port, self.peer_port);
        self.wait().await;
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
