//! The real connection tracking table: flows of real UDP sockets are listed as they are, and only those that somebody
//! wants forgotten are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use switchyard_kernel::conntrack::{Conntrack, Flow, KernelConntrack, Tuple};
use switchyard_plan::IpFamily;

use common::{SOON, on_a_fresh_host, run};

/// The addresses that the tests of one family use. All are this host's own.
struct Addresses {
    family: IpFamily,
    iptables: &'static str,
    client: IpAddr,
    services: [IpAddr; 2],
    backends: [IpAddr; 2],
}

const PORT: u16 = 53;

impl Addresses {
    fn both() -> [Addresses; 2] {
        let ip = |text: &str| text.parse().unwrap();
        [
            Addresses {
                family: IpFamily::V4,
                iptables: "iptables",
                client: ip("10.0.0.1"),
                services: [ip("10.96.0.1"), ip("10.96.0.2")],
                backends: [ip("10.1.0.1"), ip("10.1.0.2")],
            },
            Addresses {
                family: IpFamily::V6,
                iptables: "ip6tables",
                client: ip("fd00::1"),
                services: [ip("fd00:96::1"), ip("fd00:96::2")],
                backends: [ip("fd00:1::1"), ip("fd00:1::2")],
            },
        ]
    }

    /// Gives this host the addresses.
    fn add(&self) {
        for address in [self.client].iter().chain(&self.services).chain(&self.backends) {
            run(&format!("ip address add {address} dev lo {}", if address.is_ipv6() { "nodad" } else { "" }));
            // IPv6 gives an address its route a moment later, from a work queue.
            let deadline = Instant::now() + Duration::from_secs(10);
            let family = if address.is_ipv6() { "-6" } else { "-4" };
            while run(&format!("ip {family} route show table local {address}")).is_empty() {
                assert!(Instant::now() < deadline, "{address} has no route");
            }
        }
    }

    /// Sends new flows to a service to a backend.
    fn point(&self, service: usize, backend: usize) {
        let Addresses { iptables, services, backends, .. } = self;
        let to = SocketAddr::new(backends[backend], PORT);
        let from = format!("-d {} -p udp --dport {PORT}", services[service]);
        run(&format!("{iptables} -w -t nat -I OUTPUT {from} -j DNAT --to-destination {to}"));
    }

    fn table(&self) -> KernelConntrack {
        KernelConntrack::open(self.family).unwrap()
    }

    fn service(&self, index: usize) -> SocketAddr {
        SocketAddr::new(self.services[index], PORT)
    }

    fn backend(&self, index: usize) -> SocketAddr {
        SocketAddr::new(self.backends[index], PORT)
    }

    fn client(&self) -> UdpSocket {
        bind(SocketAddr::new(self.client, 0))
    }
}

fn bind(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap_or_else(|error| panic!("binding {address}: {error}"));
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// Sends a datagram; once it has arrived, its flow is in the table.
#[track_caller]
fn send(client: &UdpSocket, to: SocketAddr, arrives_at: &UdpSocket) {
    client.send_to(b"?", to).unwrap();
    let (_, from) = arrives_at
        .recv_from(&mut [0; 8])
        .unwrap_or_else(|error| panic!("nothing came to {:?}: {error}", arrives_at.local_addr()));
    assert_eq!(from, client.local_addr().unwrap());
}

fn flows(table: &mut impl Conntrack) -> Vec<Flow> {
    let mut flows = Vec::new();
    table.for_each_udp_flow(&mut |flow| flows.push(flow)).unwrap();
    flows
}

fn expected_flow(client: &UdpSocket, to: SocketAddr, backend: SocketAddr) -> Flow {
    let client = client.local_addr().unwrap();
    Flow {
        original: Tuple { source: client, destination: to },
        reply: Tuple { source: backend, destination: client },
    }
}

#[test]
fn a_flow_is_listed_as_it_was_sent_and_as_it_is_answered() {
    on_a_fresh_host(|| {
        // Both families on one host: neither is among the other's.
        for addresses in Addresses::both() {
            addresses.add();
            addresses.point(0, 1);
        }
        for addresses in Addresses::both() {
            let backend = bind(addresses.backend(1));
            let client = addresses.client();
            send(&client, addresses.service(0), &backend);
            let expected = expected_flow(&client, addresses.service(0), addresses.backend(1));
            assert_eq!(flows(&mut addresses.table()), [expected]);
        }
    });
}

#[test]
fn only_the_flows_asked_for_are_forgotten() {
    for addresses in Addresses::both() {
        on_a_fresh_host(|| {
            addresses.add();
            addresses.point(0, 0);
            addresses.point(1, 1);
            let backends = [bind(addresses.backend(0)), bind(addresses.backend(1))];
            let clients: Vec<UdpSocket> = (0..3).map(|_| addresses.client()).collect();
            for client in &clients {
                send(client, addresses.service(0), &backends[0]);
                send(client, addresses.service(1), &backends[1]);
            }
            // Not translated at all.
            let direct_client = addresses.client();
            send(&direct_client, addresses.backend(1), &backends[1]);
            let mut table = addresses.table();
            let all = flows(&mut table);
            assert_eq!(all.len(), 7, "{all:?}");

            // As a proxy does when the service loses its last endpoint: by the original destination ...
            forget(&mut table, |flow| flow.original.destination == addresses.service(0));
            let left = flows(&mut table);
            assert_eq!(left.len(), 4, "{left:?}");
            assert!(left.iter().all(|flow| flow.original.destination != addresses.service(0)), "{left:?}");
            // ... and when one endpoint goes away: by what the destination was translated to.
            forget(&mut table, |flow| {
                flow.original.destination == addresses.service(1) && flow.reply.source == addresses.backend(1)
            });
            let direct = expected_flow(&direct_client, addresses.backend(1), addresses.backend(1));
            assert_eq!(flows(&mut table), [direct]);
        });
    }
}

fn forget(table: &mut KernelConntrack, which: impl Fn(&Flow) -> bool) {
    for flow in flows(table).into_iter().filter(which) {
        assert!(table.delete(&flow).unwrap(), "{flow:?} was gone");
    }
}

#[test]
fn a_client_that_keeps_its_socket_reaches_the_new_backend_once_its_flow_is_forgotten() {
    for addresses in Addresses::both() {
        on_a_fresh_host(|| {
            addresses.add();
            let backends = [bind(addresses.backend(0)), bind(addresses.backend(1))];
            let client = addresses.client();
            addresses.point(0, 0);
            send(&client, addresses.service(0), &backends[0]);
            addresses.point(0, 1);
            // The kernel remembers; that is why forgetting is needed.
            send(&client, addresses.service(0), &backends[0]);
            forget(&mut addresses.table(), |_| true);
            send(&client, addresses.service(0), &backends[1]);
        });
    }
}

#[test]
fn a_flow_that_is_gone_already_is_no_error() {
    for addresses in Addresses::both() {
        on_a_fresh_host(|| {
            addresses.add();
            addresses.point(0, 0);
            let backend = bind(addresses.backend(0));
            send(&addresses.client(), addresses.service(0), &backend);
            let mut table = addresses.table();
            let [flow] = flows(&mut table)[..] else { panic!("not one flow") };
            assert!(table.delete(&flow).unwrap());
            assert!(!table.delete(&flow).unwrap());
            assert_eq!(flows(&mut table), []);
        });
    }
}

#[test]
fn connections_of_tcp_are_left_alone() {
    on_a_fresh_host(|| {
        let [addresses, _] = Addresses::both();
        addresses.add();
        addresses.point(0, 0);
        let listener = TcpListener::bind(addresses.backend(0)).unwrap();
        let mut client = TcpStream::connect(addresses.backend(0)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let backend = bind(addresses.backend(0));
        send(&addresses.client(), addresses.service(0), &backend);

        let mut table = addresses.table();
        assert_eq!(flows(&mut table).len(), 1);
        forget(&mut table, |_| true);
        assert!(run("conntrack -L -p tcp").contains("ESTABLISHED"));
        client.write_all(b"still here").unwrap();
        drop(client);
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still here");
    });
}

/// More than any single answer of the kernel holds, by far.
const MANY: u32 = 20_000;

/// Makes flows from one client to this many addresses.
fn make_many_flows(backend: &UdpSocket) -> BTreeSet<SocketAddr> {
    let client = bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 0));
    let destinations = (0..MANY).map(|n| SocketAddr::new(Ipv4Addr::from(first + n).into(), PORT));
    destinations.inspect(|to| send(&client, *to, backend)).collect()
}

#[test]
fn tens_of_thousands_of_flows_are_all_listed_once_and_can_all_be_forgotten() {
    on_a_fresh_host(|| {
        let [addresses, _] = Addresses::both();
        // Any rule of nat switches connection tracking on.
        addresses.point(0, 0);
        let sent = make_many_flows(&bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT)));
        let mut table = addresses.table();
        let listed = flows(&mut table);
        assert_eq!(listed.len(), sent.len());
        assert_eq!(listed.iter().map(|flow| flow.original.destination).collect::<BTreeSet<_>>(), sent);

        forget(&mut table, |_| true);
        assert_eq!(flows(&mut table), []);
    });
}

#[test]
fn flows_that_stay_are_listed_however_much_the_table_changes_meanwhile() {
    on_a_fresh_host(|| {
        let [addresses, _] = Addresses::both();
        addresses.point(0, 0);
        let backend = bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT));
        let sent = make_many_flows(&backend);
        let mut table = addresses.table();
        let mut others = addresses.table();
        let client = bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
        let mut listed = BTreeSet::new();
        let mut come_and_gone = 0;
        // While it is read, flows come and go: one for every hundred that are read.
        let mut read = 0;
        let mut visit = |flow: Flow| {
            read += 1;
            listed.insert(flow.original.destination);
            if read % 100 == 0 {
                let to = SocketAddr::new(Ipv4Addr::from(0x7f02_0000 + read).into(), PORT);
                send(&client, to, &backend);
                let passing = expected_flow(&client, to, to);
                come_and_gone += u32::from(others.delete(&passing).unwrap());
            }
        };
        table.for_each_udp_flow(&mut visit).unwrap();
        assert!(come_and_gone >= MANY / 100, "only {come_and_gone} flows came and went");
        let missing: Vec<_> = sent.difference(&listed).collect();
        assert!(missing.is_empty(), "{} of {MANY} are missing: {missing:?}", missing.len());
    });
}
