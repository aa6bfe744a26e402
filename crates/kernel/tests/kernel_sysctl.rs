//! Real kernel settings: those of this network namespace are read and set, and a refusal names the setting.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod common;

use switchyard_kernel::sysctl::{
    KernelSysctls, NF_CONNTRACK_HASHSIZE, SysctlError, Sysctls, ipv6_unusable, set_oom_score_adj,
};

use common::{on_a_fresh_host, run};

const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";
/// Settable only from the first network namespace.
const CONNTRACK_MAX: &str = "net/netfilter/nf_conntrack_max";

#[test]
fn a_setting_is_set_in_this_namespace_only() {
    on_a_fresh_host(|| {
        let mut sysctls = KernelSysctls::default();
        assert_eq!(sysctls.get(ROUTE_LOCALNET).unwrap(), "0");
        sysctls.set(ROUTE_LOCALNET, "1").unwrap();
        assert_eq!(sysctls.get(ROUTE_LOCALNET).unwrap(), "1");
        on_a_fresh_host(|| assert_eq!(sysctls.get(ROUTE_LOCALNET).unwrap(), "0"));
        assert_eq!(run("sysctl -n net.ipv4.conf.all.route_localnet").trim(), "1");
    });
}

#[test]
fn what_is_set_already_is_not_written() {
    on_a_fresh_host(|| {
        let mut sysctls = KernelSysctls::default();
        assert_eq!(sysctls.ensure(ROUTE_LOCALNET, 1).unwrap(), Some("0".to_owned()));
        assert_eq!(sysctls.ensure(ROUTE_LOCALNET, 1).unwrap(), None);
        assert_eq!(sysctls.get(ROUTE_LOCALNET).unwrap(), "1");
        // Writing this one is forbidden: no error means that nothing was written.
        let now = sysctls.get(CONNTRACK_MAX).unwrap().parse().unwrap();
        assert_eq!(sysctls.ensure(CONNTRACK_MAX, now).unwrap(), None);
    });
}

#[test]
fn a_forbidden_or_senseless_value_is_an_error_that_names_setting_value_and_reason() {
    on_a_fresh_host(|| {
        let mut sysctls = KernelSysctls::default();
        let before = sysctls.get(CONNTRACK_MAX).unwrap();
        let error = sysctls.ensure(CONNTRACK_MAX, 77_777).unwrap_err();
        assert!(matches!(error, SysctlError::Write { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            "can't set sysctl net/netfilter/nf_conntrack_max to 77777 \
             (/proc/sys/net/netfilter/nf_conntrack_max): Permission denied (os error 13)"
        );
        assert_eq!(sysctls.get(CONNTRACK_MAX).unwrap(), before);

        let error = sysctls.set(ROUTE_LOCALNET, "perhaps").unwrap_err().to_string();
        assert!(error.contains(ROUTE_LOCALNET) && error.contains("perhaps"), "{error}");
        assert_eq!(sysctls.get(ROUTE_LOCALNET).unwrap(), "0");
    });
}

#[test]
fn a_setting_that_the_kernel_lacks_is_named() {
    let mut sysctls = KernelSysctls::default();
    let name = "net/ipv4/no_such_setting";
    let read = sysctls.get(name).unwrap_err();
    assert!(matches!(read, SysctlError::Read { .. }), "{read}");
    let written = sysctls.ensure(name, 1).unwrap_err();
    assert!(matches!(written, SysctlError::Write { .. }), "{written}");
    for error in [read, written] {
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn the_size_of_the_conntrack_table_is_read_where_the_kernel_keeps_it() {
    let size = KernelSysctls::default().get(NF_CONNTRACK_HASHSIZE).unwrap();
    let buckets = KernelSysctls::default().get("net/netfilter/nf_conntrack_buckets").unwrap();
    assert_eq!(size, buckets);
}

#[test]
fn ipv6_that_is_switched_off_is_unusable() {
    on_a_fresh_host(|| {
        assert_eq!(ipv6_unusable(), None, "these tests need a kernel with IPv6");
        run("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1");
        assert_eq!(ipv6_unusable(), Some("net.ipv6.conf.all.disable_ipv6 is 1"));
    });
}

#[test]
fn the_score_for_running_out_of_memory_is_set() {
    let read = || std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse::<i32>().unwrap();
    // Up and back again is allowed without CAP_SYS_RESOURCE, too.
    let before = read();
    set_oom_score_adj(before + 1).unwrap();
    let set = read();
    set_oom_score_adj(before).unwrap();
    assert_eq!((set, read()), (before + 1, before));
    assert!(set_oom_score_adj(1_001).is_err());
}
