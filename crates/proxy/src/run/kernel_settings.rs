//! Putting kernel settings in force.
//!
//! Upstream ends when conntrack cannot be set up. In a network namespace some of these settings cannot be written by
//! anybody, and a proxy that forwards with the kernel's own sizes is better than none: such a setting is a warning.

use std::time::Duration;

use switchyard_kernel::sysctl::{NF_CONNTRACK_HASHSIZE, SysctlError, Sysctls, cpu_count};

use super::conntrack_settings::{conntrack_max, hashsize_for, timeout_seconds};
use crate::config::Conntrack;
use crate::{klog_info, klog_warning, logging};

const CONNTRACK_MAX: &str = "net/netfilter/nf_conntrack_max";
const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";
const BE_LIBERAL: &str = "net/netfilter/nf_conntrack_tcp_be_liberal";

/// Sizes and time-outs of connection tracking.
pub(super) fn apply_conntrack(wanted: &Conntrack, sysctls: &mut dyn Sysctls) {
    if let Some(max) = conntrack_max(wanted.max_per_core, wanted.min, cpu_count()) {
        klog_info!("Setting nf_conntrack_max", nfConntrackMax = max);
        ensure(sysctls, CONNTRACK_MAX, max);
        enlarge_hash_table(sysctls, max);
    }
    let timeouts = [
        ("net/netfilter/nf_conntrack_tcp_timeout_established", wanted.tcp_established_timeout),
        ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", wanted.tcp_close_wait_timeout),
        ("net/netfilter/nf_conntrack_udp_timeout", wanted.udp_timeout),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", wanted.udp_stream_timeout),
    ];
    for (name, timeout) in timeouts {
        if let Some(seconds) = timeout_seconds(timeout.unwrap_or(Duration::ZERO)) {
            ensure(sysctls, name, seconds);
        }
    }
    if wanted.tcp_be_liberal {
        ensure(sysctls, BE_LIBERAL, 1);
    }
}

fn enlarge_hash_table(sysctls: &mut dyn Sysctls, max: u64) {
    let current = sysctls.get(NF_CONNTRACK_HASHSIZE).ok().and_then(|text| text.parse().ok());
    if let Some(size) = current.and_then(|current| hashsize_for(max, current)) {
        klog_info!("Setting conntrack hashsize", conntrackHashsize = size);
        ensure(sysctls, NF_CONNTRACK_HASHSIZE, size);
    }
}

fn ensure(sysctls: &mut dyn Sysctls, name: &str, value: u64) {
    match sysctls.ensure(name, value) {
        Ok(None) => {}
        Ok(Some(before)) => {
            klog_info!("Set sysctl", entry = name, value = value);
            klog_info!(v = 1, "Changed sysctl", name = name, before = before, after = value);
        }
        Err(error) => klog_warning!(
            "Could not set a kernel setting; the kernel's own value stays in force",
            err = logging::error(&error),
        ),
    }
}

/// Whether the kernel lets TCP packets outside the window pass.
pub(crate) fn conntrack_is_liberal(sysctls: &dyn Sysctls) -> bool {
    sysctls.get(BE_LIBERAL).is_ok_and(|value| value != "0")
}

/// Lets the kernel route packets from and to 127.0.0.0/8, without which a node port on localhost goes nowhere.
pub(super) fn allow_routing_of_localnet(sysctls: &mut dyn Sysctls) -> Result<(), SysctlError> {
    klog_info!(
        "Setting route_localnet=1 to allow node-ports on localhost; to change this either disable \
         iptables.localhostNodePorts (--iptables-localhost-nodeports) or set nodePortAddresses \
         (--nodeport-addresses) to filter loopback addresses",
        ipFamily = "IPv4",
    );
    sysctls.ensure(ROUTE_LOCALNET, 1).map(drop)
}

#[cfg(test)]
mod tests {
    use switchyard_kernel::sysctl::fake::FakeSysctls;

    use super::*;

    #[test]
    fn a_setting_that_cannot_be_written_leaves_the_others_in_force() {
        let mut sysctls = FakeSysctls { read_only: vec![CONNTRACK_MAX.to_owned()], ..FakeSysctls::default() };
        sysctls.values.insert(NF_CONNTRACK_HASHSIZE.to_owned(), "1024".to_owned());
        let wanted = Conntrack {
            max_per_core: 32_768,
            min: 131_072,
            tcp_established_timeout: Some(Duration::from_secs(86_400)),
            tcp_close_wait_timeout: None,
            tcp_be_liberal: true,
            udp_timeout: Some(Duration::from_millis(1_500)),
            udp_stream_timeout: None,
        };
        apply_conntrack(&wanted, &mut sysctls);
        let value = |name: &str| sysctls.values.get(name).map(String::as_str);
        assert_eq!(value(CONNTRACK_MAX), None);
        assert_eq!(value("net/netfilter/nf_conntrack_tcp_timeout_established"), Some("86400"));
        assert_eq!(value("net/netfilter/nf_conntrack_udp_timeout"), Some("1"));
        assert_eq!(value("net/netfilter/nf_conntrack_udp_timeout_stream"), None);
        assert!(conntrack_is_liberal(&sysctls));
        assert!(value(NF_CONNTRACK_HASHSIZE).unwrap().parse::<u64>().unwrap() >= 131_072 / 4);
    }
}
