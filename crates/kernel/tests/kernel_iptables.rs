//! The host's iptables programs, in both variants and families: what the proxy asks of them is what the kernel then holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod common;

use switchyard_kernel::iptables::command::Programs;
use switchyard_kernel::iptables::{Iptables, IptablesError};
use switchyard_plan::IpFamily;
use switchyard_plan::iptables::{Table, Variant};

use common::{Installed, on_a_fresh_host, remove_programs, run, write_program};

/// Runs a test for both variants and both families, each on a host of its own.
fn on_every_host(test: impl Fn(Programs, IpFamily) + Send + Sync) {
    for installed in Installed::BOTH {
        for family in [IpFamily::V4, IpFamily::V6] {
            on_a_fresh_host(|| {
                installed.choose();
                let programs =
                    Programs::detect(family).unwrap_or_else(|error| panic!("{installed:?} {error}"));
                let variant = match installed {
                    Installed::NfTables => Variant::NfTables,
                    Installed::Legacy => Variant::Legacy,
                };
                assert_eq!(programs.variant(), variant);
                test(programs, family);
            });
        }
    }
}

fn saved(family: IpFamily) -> String {
    run(match family {
        IpFamily::V4 => "iptables-save -t nat",
        IpFamily::V6 => "ip6tables-save -t nat",
    })
}

fn rule(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}

#[test]
fn chains_and_rules_are_made_once_and_deleted_once() {
    on_every_host(|mut programs, family| {
        assert!(!programs.chain_exists(Table::Nat, "KUBE-SERVICES").unwrap());
        assert!(programs.ensure_chain(Table::Nat, "KUBE-SERVICES").unwrap());
        assert!(!programs.ensure_chain(Table::Nat, "KUBE-SERVICES").unwrap());
        assert!(programs.chain_exists(Table::Nat, "KUBE-SERVICES").unwrap());

        let jump = rule("-m comment --comment portals -j KUBE-SERVICES");
        assert!(programs.ensure_rule(Table::Nat, "OUTPUT", &jump).unwrap());
        assert!(!programs.ensure_rule(Table::Nat, "OUTPUT", &jump).unwrap());
        // A later rule goes before it.
        assert!(programs.ensure_rule(Table::Nat, "OUTPUT", &rule("-p tcp -j ACCEPT")).unwrap());
        let saved_now = saved(family);
        let rules: Vec<&str> = saved_now.lines().filter(|line| line.starts_with("-A OUTPUT")).collect();
        assert_eq!(
            rules,
            ["-A OUTPUT -p tcp -j ACCEPT", "-A OUTPUT -m comment --comment portals -j KUBE-SERVICES"]
        );

        let error = programs.delete_chain(Table::Nat, "KUBE-SERVICES").unwrap_err();
        assert!(matches!(error, IptablesError::Failed { .. }), "a chain in use went away: {error}");
        for _ in 0..2 {
            programs.delete_rule(Table::Nat, "OUTPUT", &jump).unwrap();
            programs.delete_chain(Table::Nat, "KUBE-SERVICES").unwrap();
        }
        programs.delete_rule(Table::Nat, "NO-SUCH-CHAIN", &rule("-j ACCEPT")).unwrap();
        assert!(!saved(family).contains("KUBE-SERVICES"));
    });
}

#[test]
fn a_restore_rewrites_the_chains_that_it_names_and_no_others() {
    on_every_host(|mut programs, family| {
        programs
            .restore("*nat\n:ONE - [0:0]\n:TWO - [0:0]\n-A ONE -j ACCEPT\n-A TWO -j ACCEPT\nCOMMIT\n")
            .unwrap();
        programs.restore("*nat\n:ONE - [0:0]\n-A ONE -p udp -j ACCEPT\nCOMMIT\n").unwrap();
        let saved = saved(family);
        let own = |line: &&str| line.starts_with("-A ONE") || line.starts_with("-A TWO");
        let rules: Vec<&str> = saved.lines().filter(own).collect();
        assert_eq!(rules, ["-A ONE -p udp -j ACCEPT", "-A TWO -j ACCEPT"]);

        // What is listed is what is there.
        let mut listed = Vec::new();
        programs.list(Table::Nat, &mut |line| listed.push(line.to_owned())).unwrap();
        assert!(listed.iter().any(|line| line == "-A TWO -j ACCEPT"), "{listed:?}");
        let names = programs.chain_names(Table::Nat).unwrap();
        assert!(
            ["POSTROUTING", "ONE", "TWO"].iter().all(|name| names.iter().any(|n| n == name)),
            "{names:?}"
        );
    });
}

#[test]
fn a_refused_restore_changes_nothing_and_quotes_the_line() {
    on_every_host(|mut programs, family| {
        let before = saved(family);
        let bad = "*nat\n:ONE - [0:0]\n-A ONE -j ACCEPT\n-A ONE -j NO-SUCH-CHAIN\nCOMMIT\n";
        let error = programs.restore(bad).unwrap_err().to_string();
        assert!(error.contains("-restore"), "{error}");
        assert!(error.contains("     4: -A ONE -j NO-SUCH-CHAIN\n"), "{error}");
        assert_eq!(chains(&saved(family)), chains(&before));
    });
}

/// A listing without its time stamps and counters.
fn chains(saved: &str) -> Vec<String> {
    let lines = saved.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" [").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_host_without_iptables_is_told_what_to_install() {
    on_a_fresh_host(|| {
        remove_programs();
        let error = Programs::detect(IpFamily::V4).unwrap_err();
        assert!(matches!(error, IptablesError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("install the iptables package"), "{error}");
    });
}

#[test]
fn a_lock_that_somebody_holds_is_told_apart_from_a_failure() {
    on_a_fresh_host(|| {
        // As iptables-legacy says it when --wait runs out.
        let script = write_program(
            "busy",
            "#!/bin/sh\n[ \"$1\" = --version ] && echo 'iptables v1.8.9 (legacy)' && exit 0\n\
            echo 'Another app is currently holding the xtables lock.' >&2\nexit 4\n",
        );
        common::replace_program("iptables", &script);
        let error = Programs::detect(IpFamily::V4).unwrap_err();
        assert!(error.is_lock_busy() && !error.is_not_found(), "{error}");
        assert!(error.to_string().contains("holding the xtables lock"), "{error}");
    });
}
