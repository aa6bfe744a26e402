//! The start of the daemon, step by step, and its end.
//!
//! Nothing is written to the kernel before every check has passed, and neither server listens before that: a supervisor
//! that sees the health port open knows that the configuration fits this node.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use switchyard_api::Node;
use switchyard_api::address::parse_cidr;
use switchyard_kernel::interfaces;
use switchyard_kernel::iptables::IptablesError;
use switchyard_kernel::sysctl::{KernelSysctls, SysctlError, set_oom_score_adj};
use switchyard_model::{ServiceTable, TableOptions};
use thiserror::Error;
use tokio::runtime;
use tokio::sync::mpsc;

use super::config_watch::{self, ConfigWatchError};
use super::servers::{self, ServerError};
use super::{cleanup, families, kernel_settings};
use crate::config::{self, Configuration, DetectLocalMode, ProxyMode};
use crate::control::{Control, Ended};
use crate::events::Event;
use crate::flags::Parsed;
use crate::health::{self, ProxyHealth};
use crate::metrics::{Metrics, MetricsError};
use crate::mode::iptables::NodeFacts;
use crate::node::{
    Mismatch, NameError, NodeAddresses, NodeWatch, family_mismatches, node_name, node_port_warning,
};
use crate::source::opened::{Source, SourceError};
use crate::source::{CHANNEL_CAPACITY, NodeWaitError};
use crate::status_pages::{self, Facts};
use crate::{klog_error, klog_info, klog_warning, logging};

/// What stops the proxy, at the start or later.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("starting the runtime: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Node(#[from] NodeWaitError),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("mode {0} is not part of this version; use --proxy-mode=iptables")]
    ModeMissing(&'static str),
    #[error("iptables is not available on this host: {0}")]
    NoIptables(IptablesError),
    #[error("no support for primary IP family {family:?}: {reason}")]
    PrimaryFamily { family: &'static str, reason: String },
    #[error(
        "unable to create proxier: unable to create ipv4 proxier: {0}; or start with --iptables-localhost-nodeports=false"
    )]
    RouteLocalnet(SysctlError),
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    ConfigWatch(#[from] ConfigWatchError),
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Runs until there is a reason to end; there is no good one but a signal, which ends the process by itself.
pub(super) fn run(config: &Configuration, parsed: &Parsed) -> Result<(), StartError> {
    // One thread: watching and answering are light work, and everything heavy has a thread of its own.
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    runtime.block_on(serve(config, parsed))
}

async fn serve(config: &Configuration, parsed: &Parsed) -> Result<(), StartError> {
    if config.mode != ProxyMode::Iptables {
        return Err(StartError::ModeMissing(config.mode.name()));
    }
    if config.mode_was_blank {
        klog_info!("Using iptables proxy");
    }
    // Another mode's rules would forward the same packets a second time.
    cleanup::clean_nftables();
    let host = families::detect()?;
    let node = node_name(config.hostname_override.as_deref())?;
    let metrics = Arc::new(Metrics::new(families::packet_counters())?);
    families::describe_build(&metrics, config);

    let (sender, mut updates) = mpsc::channel(CHANNEL_CAPACITY);
    let mut source = Source::open(config, &node, sender, Some(metrics.clone())).await?;
    source.watch_node();
    let events = source.event_recorder();
    let waited = source.wait_for_node(&mut updates, &node, config).await?;
    let facts = live_facts(config, waited.node.as_ref());
    klog_info!(
        "Successfully retrieved NodeIPs",
        NodeIPs = logging::json(waited.node.as_ref().map(Node::ips).unwrap_or_default())
    );

    let families = host.families(facts.addresses.primary)?;
    warn_about_node_ports(config, &facts, families.primary);
    for note in family_mismatches(config, &facts.pod_cidrs, families)? {
        klog_error!("Kube-proxy configuration may be incomplete or incorrect", err = note);
    }
    let mut sysctls = KernelSysctls::default();
    kernel_settings::apply_conntrack(&config.conntrack, &mut sysctls);

    let table = ServiceTable::new(TableOptions {
        node_name: node.as_str().into(),
        allow_external_ips: config.feature_gates.enabled("AllowServiceExternalIPs"),
    });
    let shared = families::Shared {
        table: Arc::new(Mutex::new(table)),
        health: Arc::new(ProxyHealth::new(config.sync_period)),
        metrics: metrics.clone(),
        events: events.clone(),
        node: node.clone(),
    };
    if config.manifests.is_some() && waited.node.is_none() {
        // Files without this node's object cannot say that it is going away, so it is not.
        shared.health.node_seen(&Node::default());
    }
    let handles = host.start(config, families, &facts, &shared, &mut sysctls)?;
    if config.actions.init_only {
        klog_info!("System initialized and --init-only specified");
        return Ok(());
    }
    announce(config, parsed);
    start_servers(config, parsed, &shared)?;
    events.record(Event::starting(&node));

    let control = Control {
        table: shared.table,
        families: handles,
        node_name: node,
        node_watch: NodeWatch::new(
            waited.node.as_ref(),
            config.detect_local_mode == DetectLocalMode::NodeCidr,
        ),
        health: shared.health,
        metrics,
        events,
        synced: BTreeSet::new(),
    };
    source.watch_services();
    let (stop, mut stopped) = mpsc::channel(1);
    if let Some(path) = &config.loaded_from {
        config_watch::watch(path, stop.clone())?;
    }
    tokio::select! {
        ended = control.run(waited.received, updates) => Err(ended.into()),
        Some(reason) = stopped.recv() => Err(reason.into()),
    }
}

/// A node's facts, from its Node object and from this host.
pub(crate) fn live_facts(config: &Configuration, node: Option<&Node>) -> NodeFacts {
    let ips = node.map(Node::ips).unwrap_or_default();
    let addresses = NodeAddresses::new(&ips, config.bind_address);
    if addresses.of(addresses.primary).is_loopback() {
        klog_info!(
            "Can't determine this node's IP, assuming loopback; if this is incorrect, please set the --bind-address flag"
        );
    }
    let pod_cidrs = node.map_or(&[][..], |node| &node.spec.pod_cidrs);
    let own: Vec<IpAddr> = switchyard_model::IpFamily::BOTH.map(|family| addresses.of(family)).into();
    NodeFacts {
        addresses,
        pod_cidrs: pod_cidrs.iter().filter_map(|text| parse_cidr(text)).collect::<Vec<IpNet>>(),
        node_port_addresses: config.node_port_addresses.resolve(&own),
        local_addresses: interfaces::addresses().unwrap_or_default(),
    }
}

fn warn_about_node_ports(config: &Configuration, facts: &NodeFacts, primary: switchyard_model::IpFamily) {
    let ranges = match &facts.node_port_addresses {
        config::NodePortAddresses::Cidrs(ranges) => ranges.as_slice(),
        _ => &[],
    };
    let others: [&[IpNet]; 3] =
        [&config.detect_local.cluster_cidrs, &config.ipvs.exclude_cidrs, &facts.pod_cidrs];
    if let Some(warning) = node_port_warning(ranges, &others, primary) {
        klog_error!("Kube-proxy configuration may be incomplete or incorrect", err = warning);
    }
}

fn announce(config: &Configuration, parsed: &Parsed) {
    klog_info!("Version info", version = &parsed.version);
    for warning in config.feature_gates.warnings() {
        klog_warning!(warning);
    }
    if let Err(error) = set_oom_score_adj(config.oom_score_adj) {
        klog_info!(v = 2, "Failed to apply OOMScore", err = logging::error(&error));
    }
}

fn start_servers(
    config: &Configuration,
    parsed: &Parsed,
    shared: &families::Shared,
) -> Result<(), StartError> {
    let hard_fail = config.bind_address_hard_fail;
    if let Some(address) = config.healthz_bind_address {
        let handler = health::handler(shared.health.clone(), shared.metrics.clone());
        servers::start("healthz", address, hard_fail, handler)?;
    }
    let facts = Facts {
        mode: config.mode.name().to_owned(),
        configz: config::configz(&config.file).to_string(),
        flags: parsed.all().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        profiling: config.enable_profiling,
        version: parsed.version.trim_start_matches('v').to_owned(),
        compiler_version: env!("CARGO_PKG_RUST_VERSION").to_owned(),
        started: jiff::Timestamp::now(),
    };
    let handler = status_pages::handler(facts, shared.metrics.clone());
    Ok(servers::start("metrics", config.metrics_bind_address, hard_fail, handler)?)
}
