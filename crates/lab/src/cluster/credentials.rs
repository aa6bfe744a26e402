//! Who the lab's programs are to the API server: tokens that `up` makes up, and kubeconfigs that hold them.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rand::RngCore;

use super::error::{LabError, doing_to};
use super::kubeconfig::{self, Access, Identity};
use super::settings::Settings;
use super::state::{Folder, write_private};

/// The port of every API server.
pub(super) const API_PORT: u16 = 6443;
const PROXY_USER: &str = "system:kube-proxy";

/// A program's user with its token.
#[derive(Debug)]
struct Credential {
    user: String,
    group: &'static str,
    token: String,
}

/// Tokens for everybody, made before the API server starts and reads them.
#[derive(Debug)]
pub(super) struct Credentials {
    nodes: Vec<(String, Credential)>,
    proxy: Credential,
}

impl Credentials {
    /// One user for each node, and one for all proxies, as in every cluster.
    pub(super) fn make(settings: &Settings) -> Credentials {
        let node = |name: String| {
            let user = format!("system:node:{name}");
            (name, Credential { user, group: "system:nodes", token: token() })
        };
        let proxy = Credential { user: PROXY_USER.to_owned(), group: "system:node-proxier", token: token() };
        Credentials { nodes: settings.node_names().map(node).collect(), proxy }
    }

    /// Writes them for the API server.
    pub(super) fn write_tokens(&self, folder: &Folder) -> Result<(), LabError> {
        let all = self.nodes.iter().map(|(_, node)| node).chain([&self.proxy]);
        let line =
            |Credential { user, group, token }: &Credential| format!("{token},{user},{user},{group}\n");
        write_private(&folder.tokens(), all.map(line).collect::<String>().as_bytes())
    }

    /// Writes kubeconfigs for everybody, now that the API server has made the certificates; gives what the user's own
    /// kubeconfig needs. `port` is that on this machine.
    pub(super) fn write_kubeconfigs(
        &self,
        lab: &str,
        folder: &Folder,
        inside: IpAddr,
        port: u16,
    ) -> Result<Access, LabError> {
        let pki = folder.api_server().join("pki");
        let data = |name: &str| {
            let path = pki.join(name);
            fs::read(&path).map(|pem| BASE64_STANDARD.encode(pem)).map_err(doing_to("reading", &path))
        };
        let authority = data("ca.crt")?;
        let admin = Identity::Certificate { certificate: data("admin.crt")?, key: data("admin.key")? };
        let server = inner_server(inside);
        let inner = |identity| Access { server: server.clone(), authority: authority.clone(), identity };
        let write = |path: PathBuf, access| write_private(&path, kubeconfig::alone(lab, &access).as_bytes());
        for (name, credential) in &self.nodes {
            let folder = folder.node(name);
            write(folder.join("agent.kubeconfig"), inner(Identity::Token(credential.token.clone())))?;
            write(folder.join("proxy.kubeconfig"), inner(Identity::Token(self.proxy.token.clone())))?;
        }
        write(folder.inner_kubeconfig(), inner(admin.clone()))?;
        let outer = Access { server: format!("https://127.0.0.1:{port}"), ..inner(admin) };
        write(folder.kubeconfig(), outer.clone())?;
        Ok(outer)
    }
}

/// Where the lab's own machines reach the API server.
pub(super) fn inner_server(address: IpAddr) -> String {
    format!("https://{}", SocketAddr::new(address, API_PORT))
}

fn token() -> String {
    let mut bytes = [0; 24];
    rand::rng().fill_bytes(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
