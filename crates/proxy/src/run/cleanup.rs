//! `--cleanup`: taking away what proxies left on this node.

use switchyard_kernel::iptables::command::Programs;
use switchyard_kernel::iptables::{Iptables, IptablesError};
use switchyard_kernel::nft_program;
use switchyard_model::IpFamily;
use switchyard_plan::iptables::{self, Chain, Table, cleanup_jumps};
use thiserror::Error;

use crate::{klog_error, klog_info, logging};

#[derive(Debug, Error)]
#[error("encountered an error while tearing down rules")]
pub struct CleanupError;

/// Removes the rules of every mode, going on after errors. What is not there, or cannot be there because its tool is
/// missing, is no error.
pub(super) fn cleanup() -> Result<(), CleanupError> {
    let iptables_clean = IpFamily::BOTH.map(clean_iptables);
    let nftables_clean = clean_nftables();
    if iptables_clean.into_iter().all(|clean| clean) && nftables_clean { Ok(()) } else { Err(CleanupError) }
}

/// Removes upstream's nftables tables, so that two modes do not forward the same packet. False if that failed.
pub(super) fn clean_nftables() -> bool {
    let mut clean = true;
    for family in IpFamily::BOTH {
        if let Err(error) = nft_program::delete_table(family, "kube-proxy") {
            klog_error!("Error cleaning up nftables rules", err = logging::error(&error), ipFamily = family);
            clean = false;
        }
    }
    clean
}

fn clean_iptables(family: IpFamily) -> bool {
    let mut programs = match Programs::detect(family) {
        Ok(programs) => programs,
        Err(error) => {
            klog_info!("No iptables support for family", ipFamily = family, err = logging::error(&error));
            return true;
        }
    };
    let failures = remove_iptables_rules(&mut programs);
    for error in &failures {
        klog_error!("Error cleaning up iptables rules", err = logging::error(error), ipFamily = family);
    }
    failures.is_empty()
}

/// Jumps first, or the chains could not be deleted.
fn remove_iptables_rules(programs: &mut impl Iptables) -> Vec<IptablesError> {
    let mut failures = Vec::new();
    for jump in cleanup_jumps() {
        let removed = programs.delete_rule(jump.table, &jump.source.to_string(), &jump.rule.arguments());
        failures.extend(removed.err());
    }
    for table in [Table::Nat, Table::Filter] {
        let emptied = programs.chain_names(table).and_then(|names| {
            let mut restores = iptables::cleanup(programs.variant(), table, names.iter().map(String::as_str));
            restores.try_for_each(|restore| programs.restore(&restore.text))
        });
        failures.extend(emptied.err());
    }
    // Somebody may have put a rule of theirs into it; it is not ours to insist.
    let _ = programs.delete_chain(Table::Mangle, &Chain::KubeProxyCanary.to_string());
    failures
}

#[cfg(test)]
mod tests {
    use switchyard_kernel::iptables::fake::FakeIptables;
    use switchyard_plan::iptables::{Variant, chains_to_ensure, jumps};

    use super::*;

    #[test]
    fn nothing_of_ours_is_left_but_what_the_kubelet_shares() {
        let mut programs = FakeIptables::new(Variant::NfTables);
        for place in chains_to_ensure() {
            programs.ensure_chain(place.table, &place.chain.to_string()).unwrap();
        }
        for jump in jumps() {
            programs.ensure_rule(jump.table, &jump.source.to_string(), &jump.rule.arguments()).unwrap();
        }
        for table in [Table::Mangle, Table::Nat, Table::Filter] {
            programs.ensure_chain(table, "KUBE-PROXY-CANARY").unwrap();
        }
        programs.ensure_chain(Table::Nat, "KUBE-SVC-R2CEXK5KF4QS4EYR").unwrap();
        programs.ensure_chain(Table::Nat, "CNI-HOSTPORT-DNAT").unwrap();
        assert!(remove_iptables_rules(&mut programs).is_empty());
        let tables = programs.tables();
        let left =
            |table| tables.chain_names(table).filter(|name| name.contains('-')).map(str::to_owned).collect();
        let nat: Vec<String> = left(Table::Nat);
        let filter: Vec<String> = left(Table::Filter);
        assert_eq!((nat, filter), (vec!["CNI-HOSTPORT-DNAT".to_owned()], vec!["KUBE-FIREWALL".to_owned()]));
        assert_eq!(tables.rules(Table::Filter, "INPUT").map(<[String]>::len), Some(1));
        assert!(left(Table::Mangle).is_empty());
    }
}
