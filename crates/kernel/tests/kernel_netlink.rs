//! The netlink socket against the real kernel: what the kernel refuses becomes an error that says what was tried and
//! why it failed, and the socket goes on working.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod common;

use std::io;
use std::time::Duration;

use switchyard_kernel::netlink::{MessageBuilder, NetlinkError, Socket, subsystem};

use common::{on_a_fresh_host, run, run_with_input};

/// Operations and attributes of the packet counters, the smallest of the subsystems.
const NEW: u8 = 0;
const GET: u8 = 1;
const NAME: u16 = 1;

fn create(socket: &mut Socket, name: &str) -> Result<(), NetlinkError> {
    socket.execute("creating", subsystem::ACCOUNTING, NEW, true, 0, |message| message.text(NAME, name))
}

fn get(socket: &mut Socket, name: &str) -> Result<Vec<String>, NetlinkError> {
    let mut names = Vec::new();
    let request = |message: MessageBuilder| message.text(NAME, name);
    socket.get("reading", subsystem::ACCOUNTING, GET, request, |message| {
        names.extend(message.attributes().text(NAME).map(str::to_owned));
    })?;
    Ok(names)
}

#[test]
fn what_the_kernel_refuses_is_told_with_what_was_tried() {
    on_a_fresh_host(|| {
        let mut socket = Socket::open().unwrap();
        let missing = get(&mut socket, "missing").unwrap_err();
        assert!(missing.is_not_found() && !missing.exists(), "{missing}");
        assert_eq!(missing.to_string(), format!("reading: {}", io::Error::from_raw_os_error(2)));

        create(&mut socket, "counter").unwrap();
        let taken = socket.execute("creating", subsystem::ACCOUNTING, NEW, true, 0, |m| {
            // With flags for a quota the kernel does not take the second for the first again.
            m.text(NAME, "counter").attribute(5, &1u32.to_be_bytes())
        });
        let taken = taken.unwrap_err();
        assert!(taken.exists() && !taken.is_not_found(), "{taken}");

        // 99 is no subsystem, and a counter needs a name.
        for refused in [
            socket.execute("asking", 99, 0, false, 0, |message| message),
            socket.execute("asking", subsystem::ACCOUNTING, NEW, true, 0, |message| message),
        ] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, NetlinkError::Kernel { doing: "asking", .. }), "{refused}");
            assert!(!refused.is_not_found() && !refused.exists(), "{refused}");
        }
        // None of these answers is taken for that of a later request.
        assert_eq!(get(&mut socket, "counter").unwrap(), ["counter"]);
    });
}

#[test]
fn a_socket_stays_in_the_namespace_it_was_opened_in() {
    let mut elsewhere = on_a_fresh_host(|| {
        let mut socket = Socket::open().unwrap();
        create(&mut socket, "counter").unwrap();
        socket
    });
    on_a_fresh_host(|| {
        assert!(get(&mut Socket::open().unwrap(), "counter").unwrap_err().is_not_found());
        assert_eq!(get(&mut elsewhere, "counter").unwrap(), ["counter"]);
    });
}

#[test]
fn notices_that_came_too_fast_are_reported_as_lost_and_later_ones_are_heard() {
    const NFTABLES_GROUP: u32 = 7;
    let limit = Duration::from_secs(1);
    on_a_fresh_host(|| {
        // The kernel's smallest buffer.
        let mut socket = Socket::listen(NFTABLES_GROUP, 0).unwrap();
        assert!(!socket.notices("listening", Duration::ZERO, |_| {}).unwrap());
        let rules = "add rule ip t c counter accept comment \"somewhat long\"\n".repeat(1_000);
        run_with_input("nft -f -", &format!("add table ip t\nadd chain ip t c\n{rules}"));
        let lost = std::iter::from_fn(|| match socket.notices("listening", limit, |_| {}) {
            Ok(more) => more.then_some(Ok(())),
            Err(error) => Some(Err(error)),
        })
        .find_map(Result::err);
        assert!(matches!(lost, Some(NetlinkError::Overflow { doing: "listening" })), "{lost:?}");

        // The rest may have been lost in several places.
        while socket.notices("listening", Duration::ZERO, |_| {}).unwrap_or(true) {}
        run("nft add table ip u");
        let mut heard = 0;
        assert!(socket.notices("listening", limit, |_| heard += 1).unwrap());
        assert!(heard > 0);
    });
}
