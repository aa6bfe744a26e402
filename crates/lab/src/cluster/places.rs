//! The networks of a lab, for whoever wants to do something in one.

use std::net::IpAddr;

use switchyard_kernel::link::Links;
use switchyard_kernel::namespace::NamespaceFile;

use super::error::LabError;
use super::parts::{self, namespace};
use super::settings::{OUTSIDE, Settings};
use super::state::known_lab;
use super::{kubeconfig, leftovers};

/// Every place has addresses here, which tell nothing.
const LOOPBACK: &str = "lo";

/// The places of one lab: its machines and its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    lab: String,
    /// What its proxies decide by.
    proxy_flags: Vec<String>,
}

impl Places {
    pub(super) fn of(lab: &str, settings: &Settings) -> Places {
        Places { lab: lab.to_owned(), proxy_flags: parts::deciding_flags(settings) }
    }

    /// Those of the lab that kubectl's current context leads to; `None` if it leads elsewhere.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read, or the lab is gone.
    pub fn current() -> Result<Option<Places>, LabError> {
        let Some(lab) = kubeconfig::current_lab(&kubeconfig::default_path())? else { return Ok(None) };
        let (_, record) = known_lab(&lab)?;
        Ok(Some(Places::of(&lab, &record.settings)))
    }

    /// The flags of the lab's proxies that shape what they do with packets: for commands that explain it.
    pub fn proxy_flags(&self) -> &[String] {
        &self.proxy_flags
    }

    /// That of a machine: a node by its name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn machine(&self, name: &str) -> Result<NamespaceFile, LabError> {
        Ok(NamespaceFile::named(&namespace(&self.lab, name))?)
    }

    /// That of the client that is no part of the cluster.
    ///
    /// # Errors
    /// When it is gone.
    pub fn outside(&self) -> Result<NamespaceFile, LabError> {
        self.machine(OUTSIDE)
    }

    /// The one that has this address: that of a pod, or of its node where the pod shares that one's.
    ///
    /// # Errors
    /// When none has it.
    pub fn with_address(&self, address: IpAddr) -> Result<NamespaceFile, LabError> {
        for name in leftovers::namespaces(&self.lab)? {
            // One that goes away meanwhile is not the one.
            let Ok(namespace) = NamespaceFile::named(&name) else { continue };
            let links = Links::open_in(&namespace)?;
            for link in links.all()?.iter().filter(|link| link.name != LOOPBACK) {
                if links.addresses(&link.name)?.iter().any(|own| own.addr() == address) {
                    return Ok(namespace);
                }
            }
        }
        Err(LabError::Other(format!("no network of lab {} has the address {address}", self.lab)))
    }
}
