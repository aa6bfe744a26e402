//! Taking everything away again (`--cleanup`).

use super::base::{Jump, jumps};
use super::full::delete_chains;
use super::names::deletion_rank;
use super::{Chain, Purpose, Restore, Table, Variant};

const FILTER_CHAINS: [Chain; 6] = [
    Chain::KubeServices,
    Chain::KubeExternalServices,
    Chain::KubeForward,
    Chain::KubeNodePorts,
    Chain::KubeProxyFirewall,
    Chain::KubeProxyCanary,
];

const NAT_CHAINS: [Chain; 4] =
    [Chain::KubeServices, Chain::KubeNodePorts, Chain::KubePostrouting, Chain::KubeProxyCanary];

/// The jumps to delete first. Those to KUBE-FIREWALL stay with their chain: they are the kubelet's too.
pub fn cleanup_jumps() -> Vec<Jump> {
    jumps().into_iter().filter(|jump| jump.target != Chain::KubeFirewall).collect()
}

/// The restores that delete all our chains of a table (filter or nat), given the names of the chains in it.
pub fn cleanup<'a>(
    variant: Variant,
    table: Table,
    existing: impl IntoIterator<Item = &'a str>,
) -> impl Iterator<Item = Restore> {
    let existing: Vec<&str> = existing.into_iter().collect();
    let fixed: &[Chain] = match table {
        Table::Filter => &FILTER_CHAINS,
        Table::Nat => &NAT_CHAINS,
        Table::Mangle => &[],
    };
    let mut names: Vec<String> = fixed.iter().map(Chain::to_string).collect();
    names.retain(|name| existing.contains(&name.as_str()));
    if table == Table::Nat {
        let mut own: Vec<&str> =
            existing.iter().copied().filter(|name| deletion_rank(name).is_some()).collect();
        own.sort_by_key(|name| deletion_rank(name));
        names.extend(own.into_iter().map(str::to_owned));
        // Last, as chains of all kinds jump to it.
        let mark = Chain::KubeMarkMasq.to_string();
        names.extend(existing.contains(&mark.as_str()).then_some(mark));
    }
    delete_chains(variant, table, names)
        .map(|(count, text)| Restore { text, purpose: Purpose::StaleChains(count) })
}
