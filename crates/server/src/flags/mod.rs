//! The command line of `switchyard apiserver`: kube-apiserver's names, as far as they mean something here.
//!
//! Flags are read in two steps: what was typed ([`ServeFlags`]), then what is meant, checked ([`Settings`]).

mod settings;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use settings::{FlagError, Settings, StoreSettings};

/// The embedded Kubernetes API server: everything that services need, in one process and one file.
#[derive(Debug, Parser)]
#[command(name = "switchyard apiserver", disable_version_flag = true, max_term_width = 100)]
pub struct Flags {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: ServeFlags,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write the whole state to a file, or make a new state out of one
    Snapshot {
        #[command(subcommand)]
        action: SnapshotAction,
    },
}

#[derive(Debug, Subcommand)]
pub enum SnapshotAction {
    /// Write the state in a data directory to a file
    Save(SnapshotFlags),
    /// Make the state in an empty data directory out of a file
    Restore(SnapshotFlags),
}

#[derive(Debug, Args)]
pub struct SnapshotFlags {
    pub file: PathBuf,
    /// Where the server keeps its state; the server must not be running
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// What was typed.
#[derive(Debug, Clone, Args)]
pub struct ServeFlags {
    /// Addresses for services: one CIDR, or two of different families separated by a comma
    #[arg(long, value_name = "CIDRS", default_value = "10.0.0.0/24")]
    pub service_cluster_ip_range: String,
    /// Ports for services of type NodePort, both ends included
    #[arg(long, value_name = "RANGE", default_value = "30000-32767")]
    pub service_node_port_range: String,
    /// Addresses for pods: one CIDR, or two of different families. Nodes get their share if it is set
    #[arg(long, value_name = "CIDRS", default_value = "")]
    pub cluster_cidr: String,
    /// Port for HTTPS; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub secure_port: u16,
    /// Address to listen on; 0.0.0.0 and :: are all addresses of both families
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub bind_address: std::net::IpAddr,
    /// Address at which pods reach the server; default: the bind address, or that of the interface of the default route
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<std::net::IpAddr>,
    /// Certificate to serve with, in PEM; default: one of an authority of its own
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// Key of the certificate to serve with, in PEM
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Authorities whose client certificates are good, in PEM, besides the server's own
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Who signs the certificates of node agents; without it any is accepted
    #[arg(long, value_name = "FILE")]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Lines of token,user,uid,"group1,group2"
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Whether requests without credentials are those of system:anonymous, who may see health and version
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub anonymous_auth: bool,
    /// URLs of an etcd to keep the state in, separated by commas; default: a file in the data directory
    #[arg(long, value_name = "URLS", default_value = "")]
    pub etcd_servers: String,
    /// Authorities that etcd is trusted by, in PEM
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// Client certificate for etcd, in PEM
    #[arg(long, value_name = "FILE")]
    pub etcd_certfile: Option<PathBuf>,
    /// Key of the client certificate for etcd, in PEM
    #[arg(long, value_name = "FILE")]
    pub etcd_keyfile: Option<PathBuf>,
    /// What all keys in etcd begin with
    #[arg(long, value_name = "PREFIX", default_value = "/registry")]
    pub etcd_prefix: String,
    /// Where the state is kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/switchyard")]
    pub data_dir: PathBuf,
    /// Where certificates and keys are kept; default: DATA-DIR/pki
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// Where the administrator's kubeconfig is written; default: DATA-DIR/admin.kubeconfig
    #[arg(long, value_name = "FILE")]
    pub kubeconfig_out: Option<PathBuf>,
    /// How long events are kept: 1h0m0s
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub event_ttl: Duration,
    /// How much is logged: 0 to 10; from 4 every request
    #[arg(short = 'v', value_name = "LEVEL", default_value_t = 0)]
    pub verbosity: u8,
}

/// A duration as Go writes it: `1h0m0s`, `90s`, `1.5h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration; write one as 1h30m or 90s");
    let mut rest = text;
    let mut seconds = 0.0_f64;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, unit) = rest.split_at_checked(end).ok_or_else(bad)?;
        let number: f64 = number.parse().map_err(|_| bad())?;
        let units = [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, length) = units.into_iter().find(|(name, _)| unit.starts_with(name)).ok_or_else(bad)?;
        seconds += number * length;
        rest = rest.get(end.saturating_add(unit.len())..).unwrap_or_default();
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

#[cfg(test)]
mod tests;
