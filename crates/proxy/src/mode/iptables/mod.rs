//! The iptables mode: plans from `plan::iptables`, carried out by the host's iptables programs.

pub mod flush;
mod settings;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use switchyard_kernel::iptables::{Iptables, IptablesError};
use switchyard_kernel::nfacct::PacketCounters;
use switchyard_model::{Forwarding, IpFamily, ServicePortName};
use switchyard_plan::iptables::{
    Counter, Found, Jump, Restore, RuleCounts, Settings, Table, Variant, chains_to_ensure, full, is_large,
    jumps, partial,
};

use super::{Mode, ModeError};
use crate::metrics::Metrics;
use crate::{klog_error, klog_info, logging};

pub use settings::{HostFeatures, NodeFacts, detect_local, serves_localhost, settings};

/// Gives the settings in force now: the node's interfaces may have got other addresses since the last sync.
pub type CurrentSettings = Box<dyn FnMut(HostFeatures) -> Settings + Send>;

/// One family's tables, and what they hold.
pub struct IptablesMode {
    programs: Box<dyn Iptables>,
    counters: Option<Box<dyn PacketCounters>>,
    current_settings: CurrentSettings,
    features: HostFeatures,
    metrics: Arc<Metrics>,
    /// What the last successful sync wrote; `None` where the kernel's state is not known.
    written: Option<Written>,
}

/// Chains and jumps that a listing of the nat table showed, so that nobody has to ask for each: with iptables-legacy
/// every question reads the whole table.
#[derive(Debug, Default)]
struct Present {
    /// `None` where nothing could be listed.
    family: Option<IpFamily>,
    chains: HashSet<String>,
    rules: HashSet<String>,
}

/// `KUBE-EXTERNAL-SERVICES`; the chains of service ports have longer names, for their hashes.
const LONGEST_SHARED_NAME: usize = 22;

impl Present {
    fn read(&mut self, line: &str) {
        if let Some(declaration) = line.strip_prefix(':') {
            let name = declaration.split(' ').next().unwrap_or_default();
            // Not those of service ports, of which there may be tens of thousands.
            if name.len() <= LONGEST_SHARED_NAME {
                self.chains.insert(name.to_owned());
            }
        } else if line.starts_with("-A ") && !line.starts_with("-A KUBE-") {
            self.rules.insert(line.to_owned());
        }
    }

    fn has_chain(&self, table: Table, chain: &str) -> bool {
        table == Table::Nat && self.chains.contains(chain)
    }

    fn has_jump(&self, jump: &Jump) -> bool {
        let Some(family) = self.family.filter(|_| jump.table == Table::Nat) else { return false };
        let mut line = format!("-A {}", jump.source);
        jump.rule.write_save(family, &mut line);
        self.rules.contains(&line)
    }
}

#[derive(Debug)]
struct Written {
    settings: Settings,
    forwarding: Forwarding,
    total: RuleCounts,
}

impl std::fmt::Debug for IptablesMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IptablesMode").field("features", &self.features).finish_non_exhaustive()
    }
}

impl IptablesMode {
    pub fn new(
        programs: Box<dyn Iptables>,
        counters: Option<Box<dyn PacketCounters>>,
        features: HostFeatures,
        current_settings: CurrentSettings,
        metrics: Arc<Metrics>,
    ) -> IptablesMode {
        IptablesMode { programs, counters, current_settings, features, metrics, written: None }
    }

    /// Writes everything, whatever is there.
    fn write_all(&mut self, target: &Forwarding) -> Result<Written, IptablesError> {
        // Before chains are ensured: their being there tells whether somebody may be using them.
        let (found, present) = self.look(target.family);
        self.ensure_chains(&present)?;
        self.ensure_counters();
        let settings = (self.current_settings)(self.features);
        let variant = self.programs.variant();
        // nf_tables checks all chains that packets can reach at every write, so the way in is opened last: three times as
        // fast with 5,000 services. Legacy replaces whole tables at every call, so there it comes while they are small.
        if variant == Variant::Legacy {
            self.ensure_jumps(&present)?;
        }
        let mut restores = full(&settings, target, variant, found);
        for restore in restores.by_ref() {
            run(self.programs.as_mut(), &restore)?;
        }
        let (total, last) = (restores.total(), restores.written());
        if variant == Variant::NfTables {
            self.ensure_jumps(&present)?;
        }
        self.report(target, total, last);
        Ok(Written { settings, forwarding: target.clone(), total })
    }

    /// Reads the nat table, the one that grows large. What cannot be read counts as neither there nor stale.
    fn look(&mut self, family: IpFamily) -> (Found, Present) {
        let (mut found, mut present) =
            (Found::default(), Present { family: Some(family), ..Present::default() });
        let listed = self.programs.list(Table::Nat, &mut |line| {
            found.read(line);
            present.read(line);
        });
        if let Err(error) = listed {
            klog_error!(
                "Failed to list the nat table; chains that are stale stay",
                err = logging::error(&error)
            );
            return (Found::unknown(), Present::default());
        }
        (found, present)
    }

    /// Writes what differs from what was written last.
    fn write_changes(
        &mut self,
        target: &Forwarding,
        changed: &BTreeSet<ServicePortName>,
        before: Written,
    ) -> Result<Written, IptablesError> {
        let settings = before.settings;
        let variant = self.programs.variant();
        let mut restores =
            partial(&settings, &before.forwarding, target, changed.iter().cloned(), variant, before.total);
        for restore in restores.by_ref() {
            run(self.programs.as_mut(), &restore)?;
        }
        let (total, last) = (restores.total(), restores.written());
        self.report(target, total, last);
        Ok(Written { settings, forwarding: target.clone(), total })
    }

    /// True if a chain was missing.
    fn ensure_chains(&mut self, present: &Present) -> Result<bool, IptablesError> {
        let mut was_missing = false;
        for place in chains_to_ensure() {
            let chain = place.chain.to_string();
            if !present.has_chain(place.table, &chain) {
                was_missing |= self.programs.ensure_chain(place.table, &chain)?;
            }
        }
        Ok(was_missing)
    }

    fn ensure_jumps(&mut self, present: &Present) -> Result<(), IptablesError> {
        for jump in jumps() {
            if !present.has_jump(&jump) {
                self.programs.ensure_rule(jump.table, &jump.source.to_string(), &jump.rule.arguments())?;
            }
        }
        Ok(())
    }

    /// Rules may only name counters that exist: the kernel refuses them otherwise.
    fn ensure_counters(&mut self) {
        let mut ensure = |name| match &mut self.counters {
            None => false,
            Some(counters) => match counters.ensure(name) {
                Ok(()) => true,
                Err(error) => {
                    klog_error!(
                        "Failed to create a packet counter; its metric stays away",
                        err = logging::error(&error),
                        counter = name
                    );
                    false
                }
            },
        };
        self.features.count_invalid = ensure(Counter::InvalidDropped.name());
        self.features.count_localhost_node_ports = ensure(Counter::LocalhostNodePortsAccepted.name());
    }

    fn report(&self, target: &Forwarding, total: RuleCounts, last: RuleCounts) {
        self.metrics.set_iptables_rules(target.family, "filter", total.filter, last.filter);
        self.metrics.set_iptables_rules(target.family, "nat", total.nat, last.nat);
        klog_info!(
            v = 2,
            "Reloading service iptables data",
            ipFamily = target.family,
            numServices = target.ports.len(),
            numEndpoints = target.endpoint_count(),
            numFilterRules = last.filter,
            numNATRules = last.nat,
        );
    }
}

impl Mode for IptablesMode {
    fn name(&self) -> &'static str {
        "iptables"
    }

    fn sync(
        &mut self,
        target: &Forwarding,
        changed: &BTreeSet<ServicePortName>,
        full: bool,
    ) -> Result<(), ModeError> {
        // Taken, so that a failure leaves nothing to build on.
        let before = self.written.take().filter(|_| !full);
        let before = before.filter(|written| written.settings == (self.current_settings)(self.features));
        let is_partial = before.is_some();
        let result = match before {
            Some(before) => self.write_changes(target, changed, before),
            None => self.write_all(target),
        };
        match result {
            Ok(written) => {
                self.written = Some(written);
                Ok(())
            }
            Err(error) => {
                if is_partial {
                    self.metrics.partial_sync_failed(target.family);
                }
                self.metrics.restore_failed(target.family);
                Err(error.into())
            }
        }
    }

    fn check(&mut self) -> Result<bool, ModeError> {
        let unknown = Present::default();
        let was_missing = self.ensure_chains(&unknown)?;
        self.ensure_jumps(&unknown)?;
        Ok(!was_missing)
    }

    /// In a large cluster a full sync costs seconds, and what it would mend is noticed by other means.
    fn skips_periodic_full_sync(&self) -> bool {
        self.written.as_ref().is_some_and(|written| is_large(&written.forwarding))
    }
}

fn run(programs: &mut dyn Iptables, restore: &Restore) -> Result<(), IptablesError> {
    klog_info!(v = 9, "Restoring iptables", purpose = restore.purpose.to_string(), rules = &restore.text);
    programs.restore(&restore.text).inspect_err(|error| {
        klog_error!(
            "Failed to execute iptables-restore",
            err = logging::error(error),
            purpose = restore.purpose.to_string()
        );
    })
}
