//! The two address families: which of them this host supports, and the threads that serve each.

use std::sync::Arc;

use switchyard_kernel::conntrack::{Conntrack, KernelConntrack};
use switchyard_kernel::interfaces;
use switchyard_kernel::iptables::command::{OwnProcesses, Programs};
use switchyard_kernel::iptables::{Iptables, IptablesError};
use switchyard_kernel::nfacct::{KernelCounters, PacketCounters as Counters};
use switchyard_kernel::sysctl::{Sysctls, ipv6_unusable};
use switchyard_model::IpFamily;
use switchyard_plan::iptables::{Counter, Variant};
use tokio::runtime::Handle;

use super::kernel_settings::{allow_routing_of_localnet, conntrack_is_liberal};
use super::start::StartError;
use crate::config::Configuration;
use crate::control::FamilyHandle;
use crate::events::EventRecorder;
use crate::flags::KUBERNETES_VERSION;
use crate::health::ProxyHealth;
use crate::metrics::{BuildInfo, Metrics, PacketCounters};
use crate::mode::iptables::flush::{self, Repair};
use crate::mode::iptables::{
    CurrentSettings, HostFeatures, IptablesMode, NodeFacts, serves_localhost, settings,
};
use crate::node::Families;
use crate::runner::{self, Intervals, Request};
use crate::service_health::{ListenAddresses, ServiceHealth};
use crate::sync::{FULL_SYNC_PERIOD, FamilySync, Progress, SharedTable, Signals};
use crate::{klog_error, klog_info, klog_warning, logging};

/// What both families' threads and the control task share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) table: SharedTable,
    pub(super) health: Arc<ProxyHealth>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: EventRecorder,
    pub(super) node: String,
}

/// The programs of each family, or why there are none.
#[derive(Debug)]
pub(super) struct Host {
    v4: Result<Programs, String>,
    v6: Result<Programs, String>,
}

/// Looks which families this host can serve. An error if it is none.
pub(super) fn detect() -> Result<Host, StartError> {
    let v4 = Programs::detect(IpFamily::V4);
    let v6 = match ipv6_unusable() {
        Some(reason) => Err(reason.to_owned()),
        None => Programs::detect(IpFamily::V6).map_err(|error| describe(&error)),
    };
    match (v4, &v6) {
        (Err(error), Err(_)) => Err(StartError::NoIptables(error)),
        (v4, _) => Ok(Host { v4: v4.map_err(|error| describe(&error)), v6 }),
    }
}

fn describe(error: &IptablesError) -> String {
    error.to_string()
}

impl Host {
    fn programs(&self, family: IpFamily) -> &Result<Programs, String> {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    /// The families to serve. The node's own has to be among them.
    pub(super) fn families(&self, primary: IpFamily) -> Result<Families, StartError> {
        for family in IpFamily::BOTH {
            if let Err(reason) = self.programs(family) {
                klog_info!("No iptables support for family", ipFamily = family, err = reason);
                if family == primary {
                    return Err(StartError::PrimaryFamily {
                        family: family.as_str(),
                        reason: reason.clone(),
                    });
                }
            }
        }
        let dual_stack = self.v4.is_ok() && self.v6.is_ok();
        if dual_stack {
            klog_info!("kube-proxy running in dual-stack mode", "primary ipFamily" = primary);
        } else {
            klog_info!("kube-proxy running in single-stack mode", ipFamily = primary);
        }
        Ok(Families { primary, dual_stack })
    }

    /// Prepares every family, and unless only the preparation was asked for, starts its threads. They write nothing
    /// before they are told that all objects have arrived.
    pub(super) fn start(
        &self,
        config: &Configuration,
        families: Families,
        facts: &NodeFacts,
        shared: &Shared,
        sysctls: &mut dyn Sysctls,
    ) -> Result<Vec<FamilyHandle>, StartError> {
        klog_info!("Using iptables Proxier");
        if families.iter().any(|family| serves_localhost(family, config, facts)) {
            allow_routing_of_localnet(sysctls).map_err(StartError::RouteLocalnet)?;
        }
        let features = HostFeatures {
            random_fully: true,
            conntrack_is_liberal: conntrack_is_liberal(sysctls),
            count_invalid: false,
            count_localhost_node_ports: false,
        };
        if features.conntrack_is_liberal {
            klog_info!("nf_conntrack_tcp_be_liberal set, not installing DROP rules for INVALID packets");
        }
        if config.actions.init_only {
            return Ok(Vec::new());
        }
        let mut handles = Vec::new();
        let mut watched = Vec::new();
        for family in families.iter() {
            let Ok(programs) = self.programs(family) else { continue };
            let start = FamilyStart { family, config, facts, features, programs, shared };
            let handle = start.run()?;
            watched.push(programs.clone());
            handles.push(handle);
        }
        watch_for_flushes(config, &handles, watched)?;
        Ok(handles)
    }
}

struct FamilyStart<'a> {
    family: IpFamily,
    config: &'a Configuration,
    facts: &'a NodeFacts,
    features: HostFeatures,
    programs: &'a Programs,
    shared: &'a Shared,
}

impl FamilyStart<'_> {
    fn run(self) -> Result<FamilyHandle, StartError> {
        let family = self.family;
        klog_info!(
            v = 2,
            "Using iptables mark for masquerade",
            ipFamily = family,
            mark = format!("{:#010x}", 1u32 << self.config.masquerade_bit)
        );
        klog_info!(
            v = 2,
            "Iptables sync params",
            ipFamily = family,
            minSyncPeriod = self.config.min_sync_period,
            syncPeriod = self.config.sync_period,
            maxSyncPeriod = FULL_SYNC_PERIOD
        );
        let (request, signals) = (Request::default(), Signals::default());
        let mut sync = self.sync(&signals);
        sync.health.updated(family);
        let intervals = Intervals {
            min: self.config.min_sync_period,
            retry: self.config.sync_period,
            max: FULL_SYNC_PERIOD,
        };
        let name = format!("sync-{family}");
        runner::spawn(name, intervals, request.clone(), move || sync.run()).map_err(StartError::Thread)?;
        Ok(FamilyHandle { family, request, signals })
    }

    fn sync(&self, signals: &Signals) -> FamilySync {
        let Shared { table, health, metrics, events, node } = self.shared;
        let features = HostFeatures { random_fully: self.programs.random_fully(), ..self.features };
        let mode = IptablesMode::new(
            Box::new(self.programs.clone()),
            open_counters(),
            features,
            self.current_settings(),
            metrics.clone(),
        );
        FamilySync {
            family: self.family,
            table: table.clone(),
            mode: Box::new(mode),
            signals: signals.clone(),
            conntrack: open_conntrack(self.family),
            health: health.clone(),
            service_health: ServiceHealth::new(
                self.family,
                &self.health_check_addresses(),
                node,
                Handle::current(),
                health.clone(),
            ),
            metrics: metrics.clone(),
            events: events.clone(),
            retry_after: self.config.sync_period,
            since: jiff::Timestamp::now(),
            progress: Progress::default(),
        }
    }

    /// The addresses of the interfaces are read anew for each sync: they come and go.
    fn current_settings(&self) -> CurrentSettings {
        let (family, config, mut facts) = (self.family, self.config.clone(), self.facts.clone());
        Box::new(move |features| {
            if !facts.node_port_addresses.matches_all(family) {
                match interfaces::addresses() {
                    Ok(addresses) => facts.local_addresses = addresses,
                    Err(error) => klog_error!(
                        "Failed to list this node's addresses; node ports stay on those known",
                        err = logging::error(&error)
                    ),
                }
            }
            settings(family, &config, &facts, features)
        })
    }

    fn health_check_addresses(&self) -> ListenAddresses {
        let wanted = &self.facts.node_port_addresses;
        if wanted.matches_all(self.family) {
            return ListenAddresses::Wildcard;
        }
        let ranges = wanted.of_family(self.family);
        let inside =
            self.facts.local_addresses.iter().filter(|ip| ranges.iter().any(|range| range.contains(*ip)));
        ListenAddresses::These(inside.copied().collect())
    }
}

fn open_counters() -> Option<Box<dyn Counters>> {
    match KernelCounters::open() {
        Ok(counters) => Some(Box::new(counters)),
        Err(error) => {
            klog_warning!(
                "The kernel has no named packet counters; their metrics stay away",
                err = logging::error(&error)
            );
            None
        }
    }
}

fn open_conntrack(family: IpFamily) -> Option<Box<dyn Conntrack>> {
    match KernelConntrack::open(family) {
        Ok(conntrack) => Some(Box::new(conntrack)),
        Err(error) => {
            klog_warning!(
                "Connection tracking cannot be reached; stale UDP flows end by their time-out",
                err = logging::error(&error),
                ipFamily = family
            );
            None
        }
    }
}

fn watch_for_flushes(
    config: &Configuration,
    handles: &[FamilyHandle],
    programs: Vec<Programs>,
) -> Result<(), StartError> {
    let repairs: Vec<Repair> = handles
        .iter()
        .map(|handle| Repair {
            family: handle.family,
            request: handle.request.clone(),
            signals: handle.signals.clone(),
        })
        .collect();
    if programs.iter().any(|programs| programs.variant() == Variant::NfTables) {
        let own: Vec<OwnProcesses> = programs.iter().map(Programs::own_processes).collect();
        if let Err(error) = flush::listen(repairs.clone(), own) {
            klog_warning!(
                "Cannot hear of changes to iptables; the canary is left",
                err = logging::error(&error)
            );
        }
    }
    for (programs, repair) in programs.into_iter().zip(repairs) {
        flush::watch_canary(programs, config.sync_period, repair).map_err(StartError::Thread)?;
    }
    Ok(())
}

/// Reads the kernel's packet counters at each scrape, in the namespace of this process.
pub(super) fn packet_counters() -> PacketCounters {
    let read = |counter: Counter| -> Box<dyn Fn() -> Option<u64> + Send + Sync> {
        Box::new(move || KernelCounters::open().ok()?.packets(counter.name()).ok()?)
    };
    PacketCounters {
        ct_state_invalid_dropped: read(Counter::InvalidDropped),
        localhost_node_ports_accepted: read(Counter::LocalhostNodePortsAccepted),
    }
}

/// The metrics that say which program this is and how it is configured.
pub(super) fn describe_build(metrics: &Metrics, config: &Configuration) {
    metrics.set_build_info(&BuildInfo {
        git_version: KUBERNETES_VERSION,
        git_commit: "",
        git_tree_state: "",
        build_date: "",
        compiler_version: env!("CARGO_PKG_RUST_VERSION"),
    });
    for (gate, enabled) in config.feature_gates.all() {
        metrics.set_feature(gate.name, gate.stage.label(), enabled);
    }
}
