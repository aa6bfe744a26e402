//! What the kernel tells of changes to nftables, as the nft and iptables programs make them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use switchyard_kernel::nft_events::{Listener, Loss, Notice, Transaction};
use switchyard_plan::IpFamily;

use common::{Installed, eventually, on_a_fresh_host, run, run_with_input};

fn loss(family: IpFamily, table: &str, chain: Option<&str>) -> Loss {
    Loss { family, table: table.to_owned(), chain: chain.map(str::to_owned) }
}

/// The next transaction that took something away.
fn next(listener: &mut Listener) -> Transaction {
    let mut waiting = Vec::new();
    eventually("a notice", || {
        waiting = listener.wait(Duration::from_millis(100)).unwrap();
        (!waiting.is_empty()).then_some(())
    });
    match <[Notice; 1]>::try_from(waiting) {
        Ok([Notice::Lost(transaction)]) => transaction,
        other => panic!("not one transaction: {other:?}"),
    }
}

#[test]
fn what_another_program_takes_away_is_told_with_its_name() {
    on_a_fresh_host(|| {
        run_with_input("nft -f -", "add table ip6 t\nadd chain ip6 t c\nadd rule ip6 t c accept\n");
        let mut listener = Listener::open().unwrap();
        run("nft flush chain ip6 t c");
        let flushed = next(&mut listener);
        assert_eq!(flushed.process_name, "nft");
        assert_eq!(flushed.losses, BTreeSet::from([loss(IpFamily::V6, "t", Some("c"))]));

        run("nft delete table ip6 t");
        assert!(next(&mut listener).losses.contains(&loss(IpFamily::V6, "t", None)));
    });
}

#[test]
fn what_is_added_is_no_loss() {
    on_a_fresh_host(|| {
        let mut listener = Listener::open().unwrap();
        run_with_input("nft -f -", "add table ip t\nadd chain ip t c\nadd rule ip t c accept\n");
        assert_eq!(listener.wait(Duration::from_millis(100)).unwrap(), []);
    });
}

#[test]
fn a_flush_by_iptables_is_heard_too() {
    on_a_fresh_host(|| {
        Installed::NfTables.choose();
        run("iptables -t nat -N KUBE-SERVICES");
        run("iptables -t nat -A KUBE-SERVICES -j ACCEPT");
        let mut listener = Listener::open().unwrap();
        run("iptables -t nat -F KUBE-SERVICES");
        assert_eq!(
            next(&mut listener).losses,
            BTreeSet::from([loss(IpFamily::V4, "nat", Some("KUBE-SERVICES"))])
        );
    });
}

#[test]
fn a_listener_hears_of_its_own_namespace_only() {
    on_a_fresh_host(|| {
        let mut listener = Listener::open().unwrap();
        on_a_fresh_host(|| {
            run("nft add table ip t");
            run("nft delete table ip t");
        });
        assert_eq!(listener.wait(Duration::from_millis(100)).unwrap(), []);
    });
}
