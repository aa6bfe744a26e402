//! Options that the proxy has once and the file has in a section for each mode.

use super::file::KubeProxyConfiguration;
use crate::flags::GoDuration;

/// The fields that exist once inside the proxy, and once a mode's section in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModeBound {
    pub(super) sync_period: GoDuration,
    pub(super) min_sync_period: GoDuration,
    pub(super) masquerade_all: bool,
}

impl KubeProxyConfiguration {
    /// Reads the sections of the mode. ipvs has no masqueradeAll of its own and uses that of iptables.
    pub(super) fn mode_bound(&self) -> ModeBound {
        let (iptables, ipvs, nftables) = (&self.iptables, &self.ipvs, &self.nftables);
        let (sync_period, min_sync_period, masquerade_all) = match self.mode.as_str() {
            "ipvs" => (ipvs.sync_period, ipvs.min_sync_period, iptables.masquerade_all),
            "nftables" => (nftables.sync_period, nftables.min_sync_period, nftables.masquerade_all),
            _ => (iptables.sync_period, iptables.min_sync_period, iptables.masquerade_all),
        };
        ModeBound { sync_period, min_sync_period, masquerade_all }
    }

    /// Writes them to the sections of the mode, and zeroes to the others.
    pub(super) fn set_mode_bound(&mut self, bound: ModeBound) {
        let ModeBound { sync_period, min_sync_period, masquerade_all } = bound;
        let (mut iptables, mut ipvs, mut nftables) = <((_, _), (_, _), (_, _))>::default();
        let periods = match self.mode.as_str() {
            "ipvs" => &mut ipvs,
            "nftables" => &mut nftables,
            _ => &mut iptables,
        };
        *periods = (sync_period, min_sync_period);
        (self.iptables.sync_period, self.iptables.min_sync_period) = iptables;
        (self.ipvs.sync_period, self.ipvs.min_sync_period) = ipvs;
        (self.nftables.sync_period, self.nftables.min_sync_period) = nftables;
        let nftables = self.mode == "nftables";
        self.iptables.masquerade_all = masquerade_all && !nftables;
        self.nftables.masquerade_all = masquerade_all && nftables;
    }
}
