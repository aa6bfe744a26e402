//! The addresses of real interfaces, as they come and go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;

use switchyard_kernel::interfaces::addresses;

use common::{on_a_fresh_host, run};

fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

fn seen() -> BTreeSet<IpAddr> {
    addresses().unwrap().into_iter().collect()
}

#[test]
fn addresses_of_both_families_are_listed_as_they_come_and_go() {
    on_a_fresh_host(|| {
        assert_eq!(seen(), set(&["127.0.0.1", "::1"]));

        // One interface with several addresses, and one that is down: its address is this host's all the same.
        run("ip link add veth0 type veth peer veth1");
        run("ip link set veth0 addrgenmode none up");
        run("ip address add 192.0.2.1/24 dev veth0");
        run("ip address add 192.0.2.2/24 dev veth0");
        run("ip address add 2001:db8::1/64 dev veth0 nodad");
        run("ip address add 198.51.100.1/32 dev veth1");
        let all = ["127.0.0.1", "::1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "198.51.100.1"];
        assert_eq!(seen(), set(&all));

        run("ip address delete 192.0.2.2/24 dev veth0");
        assert!(!seen().contains(&"192.0.2.2".parse().unwrap()));
        run("ip link delete veth0");
        assert_eq!(seen(), set(&["127.0.0.1", "::1"]));
    });
}

#[test]
fn a_host_without_addresses_has_none() {
    on_a_fresh_host(|| {
        run("ip link set lo down");
        run("ip address flush dev lo");
        assert_eq!(seen(), set(&[]));
    });
}
