//! Noticing that somebody else took rules of ours away.
//!
//! With iptables-nft the kernel itself tells, at once ([`listen`]). With either variant an empty canary chain is looked
//! at now and then ([`watch_canary`]): slower, but it works everywhere and misses nothing that empties a whole table.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use switchyard_kernel::iptables::command::OwnProcesses;
use switchyard_kernel::iptables::{Iptables, IptablesError};
use switchyard_kernel::nft_events::{Listener, Loss, Notice, Transaction};
use switchyard_model::IpFamily;
use switchyard_plan::iptables::{Chain, Table};

use crate::runner::Request;
use crate::sync::Signals;
use crate::{klog_error, klog_info, logging};

/// How to make a family's next sync repair what is gone.
#[derive(Debug, Clone)]
pub struct Repair {
    pub family: IpFamily,
    pub request: Request,
    pub signals: Signals,
}

impl Repair {
    /// Write everything anew.
    fn rewrite(&self) {
        self.signals.ask_for_full_sync();
        self.request.poke();
    }

    /// Look whether the way into our rules is still there.
    fn check(&self) {
        self.signals.ask_for_check();
        self.request.poke();
    }
}

/// What a transaction of somebody else means for one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    /// A rule of a built-in chain went. It may have been a jump of ours; most often it was not.
    PerhapsJump,
    /// Chains or rules of ours went.
    Rules,
}

/// Chains that start like ours and belong to the kubelet.
const KUBELETS: [&str; 3] = ["KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT", "KUBE-FIREWALL"];
const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

fn damage(family: IpFamily, losses: &BTreeSet<Loss>) -> Option<Damage> {
    let ours = losses
        .iter()
        .filter(|loss| loss.family == family && matches!(&*loss.table, "nat" | "filter" | "mangle"));
    ours.filter_map(|loss| match loss.chain.as_deref() {
        None => Some(Damage::Rules),
        Some(chain) if KUBELETS.contains(&chain) => None,
        Some(chain) if chain.starts_with("KUBE-") => Some(Damage::Rules),
        Some(chain) if BUILT_IN.contains(&chain) => Some(Damage::PerhapsJump),
        Some(_) => None,
    })
    .max()
}

/// Tells our own changes from those of others.
#[derive(Debug)]
struct Ourselves {
    processes: Vec<OwnProcesses>,
    /// The kernel numbers processes as the host does, so that ids compare only where we share the host's numbering.
    ids_compare: bool,
}

/// For how long after the end of a program of ours a notice may still be its.
const NOTICE_DELAY: Duration = Duration::from_millis(200);

impl Ourselves {
    fn made(&self, transaction: &Transaction) -> bool {
        if self.ids_compare {
            self.processes.iter().any(|own| own.contains(transaction.process))
        } else {
            self.processes.iter().any(|own| own.active_within(NOTICE_DELAY))
        }
    }
}

fn shares_process_ids_with_host() -> bool {
    /// The inode number of the first process id namespace is fixed in the kernel.
    const HOST: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == HOST)
}

/// Starts a thread that hears the kernel's notices for all families. An error means that only the canary is left.
pub fn listen(repairs: Vec<Repair>, processes: Vec<OwnProcesses>) -> std::io::Result<()> {
    let mut listener = Listener::open().map_err(std::io::Error::other)?;
    let ourselves = Ourselves { processes, ids_compare: shares_process_ids_with_host() };
    thread::Builder::new().name("flush-listener".to_owned()).spawn(move || {
        loop {
            match listener.wait(Duration::from_secs(3600)) {
                Ok(notices) => notices.iter().for_each(|notice| react(notice, &repairs, &ourselves)),
                Err(error) => {
                    klog_error!(
                        "Cannot hear of changes to iptables any more; the canary is left",
                        err = logging::error(&error)
                    );
                    return;
                }
            }
        }
    })?;
    Ok(())
}

fn react(notice: &Notice, repairs: &[Repair], ourselves: &Ourselves) {
    let transaction = match notice {
        // Our own large writes can cause this; looking is cheap.
        Notice::Overflow => return repairs.iter().for_each(Repair::check),
        Notice::Lost(transaction) if ourselves.made(transaction) => return,
        Notice::Lost(transaction) => transaction,
    };
    for repair in repairs {
        match damage(repair.family, &transaction.losses) {
            Some(Damage::Rules) => {
                klog_info!(
                    "Another program removed iptables rules; writing them anew",
                    ipFamily = repair.family,
                    process = &transaction.process_name,
                    pid = transaction.process,
                );
                repair.rewrite();
            }
            Some(Damage::PerhapsJump) => repair.check(),
            None => {}
        }
    }
}

/// The tables that hold a canary; the first is looked at, since it is nearly empty on most hosts and cheap to read.
const CANARY_TABLES: [Table; 3] = [Table::Mangle, Table::Nat, Table::Filter];
/// How long somebody who flushes may take from the first table to the last.
const FLUSH_TAKES: Duration = Duration::from_secs(5);
const FLUSH_POLL: Duration = Duration::from_millis(100);

/// Starts a thread that looks for the canary every `interval`.
pub fn watch_canary(
    mut programs: impl Iptables + 'static,
    interval: Duration,
    repair: Repair,
) -> std::io::Result<()> {
    let name = format!("canary-{}", repair.family);
    thread::Builder::new().name(name).spawn(move || {
        loop {
            place_canaries(&mut programs, interval);
            while !canary_is_gone(&mut programs, CANARY_TABLES[0]) {
                thread::sleep(interval);
            }
            klog_info!(
                v = 2,
                "IPTables canary deleted",
                ipFamily = repair.family,
                table = "mangle",
                chain = "KUBE-PROXY-CANARY"
            );
            wait_for_end_of_flush(&mut programs);
            klog_info!(v = 2, "Reloading after iptables flush", ipFamily = repair.family);
            repair.rewrite();
        }
    })?;
    Ok(())
}

fn place_canaries(programs: &mut impl Iptables, interval: Duration) {
    let canary = Chain::KubeProxyCanary.to_string();
    let mut place =
        || CANARY_TABLES.iter().try_for_each(|table| programs.ensure_chain(*table, &canary).map(drop));
    while let Err(error) = place() {
        klog_error!("Could not set up iptables canary", err = logging::error(&error), chain = &canary);
        thread::sleep(interval);
    }
}

/// A lock that is busy says nothing about the canary.
fn canary_is_gone(programs: &mut impl Iptables, table: Table) -> bool {
    let looked: Result<bool, IptablesError> =
        programs.chain_exists(table, &Chain::KubeProxyCanary.to_string());
    match looked {
        Ok(exists) => !exists,
        Err(error) => {
            klog_error!(
                "Could not check for iptables canary",
                err = logging::error(&error),
                table = table.as_str()
            );
            false
        }
    }
}

/// Writing into the middle of somebody's flush would be in vain.
fn wait_for_end_of_flush(programs: &mut impl Iptables) {
    let mut waited = Duration::ZERO;
    while waited < FLUSH_TAKES && !CANARY_TABLES[1..].iter().all(|table| canary_is_gone(programs, *table)) {
        thread::sleep(FLUSH_POLL);
        waited += FLUSH_POLL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(all: &[(&str, Option<&str>)]) -> BTreeSet<Loss> {
        let loss = |(table, chain): &(&str, Option<&str>)| Loss {
            family: IpFamily::V4,
            table: (*table).to_owned(),
            chain: chain.map(str::to_owned),
        };
        all.iter().map(loss).collect()
    }

    #[test]
    fn only_losses_of_ours_lead_to_a_rewrite() {
        let of = |all: &[_]| damage(IpFamily::V4, &losses(all));
        assert_eq!(of(&[("nat", None)]), Some(Damage::Rules));
        assert_eq!(of(&[("filter", Some("INPUT")), ("nat", Some("KUBE-SERVICES"))]), Some(Damage::Rules));
        assert_eq!(of(&[("filter", Some("FORWARD"))]), Some(Damage::PerhapsJump));
        for foreign in
            [("nat", Some("CNI-HOSTPORT-DNAT")), ("mangle", Some("KUBE-KUBELET-CANARY")), ("raw", None)]
        {
            assert_eq!(of(&[foreign]), None, "{foreign:?}");
        }
        assert_eq!(damage(IpFamily::V6, &losses(&[("nat", None)])), None);
    }
}
