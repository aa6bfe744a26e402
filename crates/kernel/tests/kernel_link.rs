//! Links, addresses and routes in the real kernel: what is made is listed, what is not there is told as that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod common;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;

use ipnet::IpNet;
use switchyard_kernel::link::{Links, Neighbour, Route, VethPair, Vxlan};
use switchyard_kernel::namespace::{Namespace, NamespaceFile};

use common::{SOON, on_a_fresh_host, run};

const MAC: [u8; 6] = [0x0a, 0x58, 0, 0, 0, 7];

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn a_pair_is_made_in_two_namespaces_as_asked_for_and_goes_as_one() {
    on_a_fresh_host(|| {
        let _other = Namespace::create("other").unwrap();
        let other = NamespaceFile::open(Path::new("/run/netns/other")).unwrap();
        let (here, there) = (Links::open_here().unwrap(), Links::open_in(&other).unwrap());
        let pair = VethPair {
            name: "left",
            peer: "right",
            peer_namespace: other.file().as_fd(),
            peer_mac: Some(MAC),
            mtu: Some(1400),
        };
        here.add_veth_pair(&pair).unwrap();
        assert!(here.add_veth_pair(&pair).unwrap_err().exists());
        here.add_bridge_with_mac("bridge", MAC).unwrap();
        here.set_master("left", "bridge").unwrap();
        here.set_alias("left", "a note").unwrap();
        let (left, right) = (here.find("left").unwrap().unwrap(), there.find("right").unwrap().unwrap());
        let bridge = here.find("bridge").unwrap().unwrap();
        assert_eq!((left.mtu, right.mtu, right.mac), (1400, 1400, Some(MAC)));
        assert_eq!((left.kind.as_deref(), left.alias.as_deref()), (Some("veth"), Some("a note")));
        assert_eq!((left.master, bridge.mac, left.up), (Some(bridge.index), Some(MAC), false));
        let names: Vec<String> = here.all().unwrap().into_iter().map(|link| link.name).collect();
        assert!(
            ["lo", "left", "bridge"].iter().all(|name| names.iter().any(|known| known == name)),
            "{names:?}"
        );

        there.set_mtu("right", 1300).unwrap();
        assert_eq!(there.find("right").unwrap().unwrap().mtu, 1300);
        assert!(here.delete("left").unwrap());
        assert!(!here.delete("left").unwrap());
        assert_eq!(there.find("right").unwrap(), None);
    });
}

#[test]
fn addresses_and_routes_of_both_families_are_listed() {
    on_a_fresh_host(|| {
        let links = Links::open_here().unwrap();
        run("ip link add one type veth peer name two");
        links.set_up("one").unwrap();
        links.set_up("two").unwrap();
        for address in ["10.1.0.2/24", "fd00:1::2/64"] {
            links.add_address("one", net(address)).unwrap();
            assert!(links.add_address("one", net(address)).unwrap_err().exists());
            assert!(links.addresses("one").unwrap().contains(&net(address)));
        }
        // On the link by order, whatever the addresses say.
        links.add_onlink_route("one", net("0.0.0.0/0"), "192.0.2.1".parse().unwrap()).unwrap();
        links.add_onlink_route("one", net("::/0"), "fd00:1::1".parse().unwrap()).unwrap();
        let routes = links.routes().unwrap();
        let index = links.find("one").unwrap().unwrap().index;
        for (destination, gateway) in [
            ("0.0.0.0/0", Some("192.0.2.1")),
            ("::/0", Some("fd00:1::1")),
            ("10.1.0.0/24", None),
            ("fd00:1::/64", None),
        ] {
            let gateway = gateway.map(|text| text.parse().unwrap());
            let found = routes.iter().any(|route| {
                (route.destination, route.gateway, route.link) == (net(destination), gateway, Some(index))
            });
            assert!(found, "{destination}: {routes:?}");
        }
        for address in ["10.1.0.2/24", "fd00:1::2/64"] {
            links.remove_address("one", net(address)).unwrap();
            assert!(!links.addresses("one").unwrap().contains(&net(address)));
            assert!(links.remove_address("one", net(address)).unwrap_err().is_not_found());
        }
        assert!(links.addresses("none").unwrap_err().is_not_found());
        assert!(links.set_up("none").unwrap_err().to_string().contains("none"));
    });
}

/// Who makes the routes of these tests.
const OURS: u8 = 115;

#[test]
fn a_route_is_replaced_and_removed_by_whoever_made_it() {
    on_a_fresh_host(|| {
        let links = Links::open_here().unwrap();
        run("ip link add one type veth peer name two");
        for name in ["one", "two"] {
            links.set_up(name).unwrap();
        }
        links.add_address("one", net("192.0.2.1/24")).unwrap();
        links.add_address("one", net("fd00:1::1/64")).unwrap();
        let route = |destination: &str, gateway: &str| Route {
            destination: net(destination),
            gateway: gateway.parse().unwrap(),
            link: None,
            protocol: OURS,
        };
        let ours = || -> Vec<(IpNet, String)> {
            let all = links.routes().unwrap().into_iter().filter(|route| route.protocol == OURS);
            all.map(|route| (route.destination, route.gateway.unwrap().to_string())).collect()
        };
        links.set_route(&route("10.244.2.0/24", "192.0.2.2")).unwrap();
        links.set_route(&route("10.244.2.0/24", "192.0.2.3")).unwrap();
        links.set_route(&route("fd00:244:2::/64", "fd00:1::2")).unwrap();
        let expected = [("10.244.2.0/24", "192.0.2.3"), ("fd00:244:2::/64", "fd00:1::2")];
        assert_eq!(ours(), expected.map(|(destination, gateway)| (net(destination), gateway.to_owned())));
        assert!(!links.remove_route(&route("10.244.2.0/24", "192.0.2.9")).unwrap());
        assert!(links.remove_route(&route("10.244.2.0/24", "192.0.2.3")).unwrap());
        assert!(!links.remove_route(&route("10.244.2.0/24", "192.0.2.3")).unwrap());
        assert_eq!(ours().len(), 1);
        // Nobody there is a neighbour.
        let error = links.set_route(&route("10.244.3.0/24", "203.0.113.1")).unwrap_err().to_string();
        assert!(error.contains("10.244.3.0/24") && error.contains("203.0.113.1"), "{error}");
        let gone = Route { link: Some("none".to_owned()), ..route("10.244.4.0/24", "192.0.2.2") };
        assert!(!links.remove_route(&gone).unwrap());
    });
}

#[test]
fn frames_go_through_a_vxlan_to_the_end_that_was_named() {
    on_a_fresh_host(|| {
        let here = Links::open_here().unwrap();
        let other = Namespace::create("other").unwrap();
        let there = Links::open(&other).unwrap();
        here.add_veth("wire", "wire", &other).unwrap();
        let macs = [[0x0a, 0x58, 0, 0, 0, 1], [0x0a, 0x58, 0, 0, 0, 2]];
        for (links, number) in [(&here, 1_u8), (&there, 2)] {
            let (own, peer) = (usize::from(number) - 1, 2 - usize::from(number));
            let local = format!("192.0.2.{number}");
            links.add_address("wire", net(&format!("{local}/24"))).unwrap();
            links.set_up("wire").unwrap();
            let vxlan = Vxlan {
                name: "tunnel",
                id: 4096,
                port: 4789,
                local: local.parse().unwrap(),
                mac: macs[own],
                mtu: 1450,
            };
            links.add_vxlan(&vxlan).unwrap();
            assert!(links.add_vxlan(&vxlan).unwrap_err().exists());
            links.add_address("tunnel", net(&format!("10.244.{number}.0/32"))).unwrap();
            links.set_up("tunnel").unwrap();
            let far = 3 - number;
            let gateway = format!("10.244.{far}.0").parse().unwrap();
            let neighbour = Neighbour { address: gateway, mac: macs[peer] };
            let end = Neighbour { address: format!("192.0.2.{far}").parse().unwrap(), mac: macs[peer] };
            links.set_neighbour("tunnel", neighbour).unwrap();
            links.set_tunnel_end("tunnel", end).unwrap();
            // Twice is no error.
            links.set_tunnel_end("tunnel", end).unwrap();
            assert_eq!(links.neighbours("tunnel").unwrap(), [neighbour]);
            assert_eq!(links.tunnel_ends("tunnel").unwrap(), [end]);
            let link = Some("tunnel".to_owned());
            let destination = net(&format!("10.244.{far}.0/24"));
            links.set_route(&Route { destination, gateway, link, protocol: OURS }).unwrap();
        }
        let link = here.find("tunnel").unwrap().unwrap();
        assert_eq!((link.kind.as_deref(), link.mtu, link.mac), (Some("vxlan"), 1450, Some(macs[0])));
        let _server = other.run(|| TcpListener::bind("10.244.2.0:80")).unwrap().unwrap();
        TcpStream::connect_timeout(&"10.244.2.0:80".parse().unwrap(), SOON).unwrap();

        let end = here.tunnel_ends("tunnel").unwrap()[0];
        assert!(here.remove_tunnel_end("tunnel", end).unwrap());
        assert!(!here.remove_tunnel_end("tunnel", end).unwrap());
        let neighbour = here.neighbours("tunnel").unwrap()[0];
        assert!(here.remove_neighbour("tunnel", neighbour).unwrap());
        assert!(!here.remove_neighbour("tunnel", neighbour).unwrap());
        assert!(here.neighbours("none").unwrap_err().is_not_found());
    });
}

#[test]
fn listings_longer_than_one_message_are_complete() {
    on_a_fresh_host(|| {
        let links = Links::open_here().unwrap();
        for number in 0..200 {
            links.add_bridge(&format!("bridge{number}")).unwrap();
        }
        let bridges = links.all().unwrap().into_iter().filter(|link| link.kind.as_deref() == Some("bridge"));
        assert_eq!(bridges.count(), 200);
        links.set_up("lo").unwrap();
        for number in 0..=255 {
            links.add_address("lo", net(&format!("10.0.0.{number}/32"))).unwrap();
        }
        let added = links
            .addresses("lo")
            .unwrap()
            .into_iter()
            .filter(|address| address.addr().to_string().starts_with("10."));
        assert_eq!(added.count(), 256);
    });
}

#[test]
fn a_link_moves_to_a_namespace_given_by_its_path() {
    on_a_fresh_host(|| {
        let (peer, _other) = (Namespace::create("peer").unwrap(), Namespace::create("other").unwrap());
        let other = NamespaceFile::open(Path::new("/run/netns/other")).unwrap();
        let links = Links::open_here().unwrap();
        links.add_veth("veth", "eth0", &peer).unwrap();
        links.move_to("veth", other.file().as_fd()).unwrap();
        assert_eq!(links.find("veth").unwrap(), None);
        assert!(Links::open_in(&other).unwrap().find("veth").unwrap().is_some());
        assert!(other.run(|| Links::open_here().unwrap().find("veth").unwrap()).unwrap().is_some());
    });
}

#[test]
fn what_is_no_namespace_is_told_from_what_is_not_there() {
    on_a_fresh_host(|| {
        fs::write("/run/file", "").unwrap();
        run("mkfifo /run/pipe");
        for path in ["/run/file", "/run/pipe"] {
            let error = NamespaceFile::open(Path::new(path)).unwrap_err();
            assert!(error.is_no_namespace() && !error.is_not_found(), "{error}");
        }
        assert!(NamespaceFile::open(Path::new("/run/none")).unwrap_err().is_not_found());
        let _other = Namespace::create("other").unwrap();
        let (here, other) =
            (NamespaceFile::here().unwrap(), NamespaceFile::open(Path::new("/run/netns/other")).unwrap());
        assert!(!here.is_same_as(&other).unwrap());
        let entered = other.run(|| NamespaceFile::here().unwrap()).unwrap();
        assert!(entered.is_same_as(&other).unwrap());
    });
}
