//! The real kernel's named packet counters: made once, counted by rules, read by name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod common;

use std::net::{Ipv4Addr, UdpSocket};

use switchyard_kernel::nfacct::{KernelCounters, PacketCounters};

use common::{on_a_fresh_host, run};

const NAME: &str = "ct_state_invalid_dropped_pkts";

fn counters() -> KernelCounters {
    KernelCounters::open().expect("these tests need a kernel with nfnetlink_acct")
}

#[test]
fn a_counter_is_missing_until_it_is_made_and_then_starts_at_zero() {
    on_a_fresh_host(|| {
        let mut counters = counters();
        assert_eq!(counters.packets(NAME).unwrap(), None);
        counters.ensure(NAME).unwrap();
        assert_eq!(counters.packets(NAME).unwrap(), Some(0));
        assert_eq!(counters.packets("another").unwrap(), None);
    });
}

#[test]
fn what_a_rule_counts_is_read_and_kept_when_the_counter_is_made_sure_of_again() {
    on_a_fresh_host(|| {
        counters().ensure(NAME).unwrap();
        run(&format!("iptables-legacy -w -A OUTPUT -p udp -m nfacct --nfacct-name {NAME}"));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..7 {
            socket.send_to(b"!", socket.local_addr().unwrap()).unwrap();
        }
        assert_eq!(counters().packets(NAME).unwrap(), Some(7));
        // As the next start of the proxy does.
        counters().ensure(NAME).unwrap();
        assert_eq!(counters().packets(NAME).unwrap(), Some(7));
    });
}

#[test]
fn a_name_that_is_too_long_is_refused() {
    on_a_fresh_host(|| {
        let mut counters = counters();
        counters.ensure(&"n".repeat(31)).unwrap();
        let error = counters.ensure(&"n".repeat(32)).unwrap_err();
        assert!(!error.is_not_found() && !error.exists(), "{error}");
    });
}

#[test]
fn every_host_has_counters_of_its_own() {
    on_a_fresh_host(|| counters().ensure(NAME).unwrap());
    on_a_fresh_host(|| assert_eq!(counters().packets(NAME).unwrap(), None));
}
