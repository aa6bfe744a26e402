//! Links, addresses and routes in the real kernel: what is made is listed, what is not there is told as that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod common;

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use ipnet::IpNet;
use switchyard_kernel::link::{Links, VethPair};
use switchyard_kernel::namespace::{Namespace, NamespaceFile};

use common::{on_a_fresh_host, run};

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

#[test]
fn routes_of_one_protocol_are_led_elsewhere_and_removed() {
    on_a_fresh_host(|| {
        let peer = Namespace::create("peer").unwrap();
        let links = Links::open_here().unwrap();
        links.add_veth("veth", "eth0", &peer).unwrap();
        for address in ["192.0.2.1/24", "2001:db8::1/64"] {
            links.add_address("veth", net(address)).unwrap();
        }
        links.set_up("veth").unwrap();
        for (range, one, other) in
            [("10.244.2.0/24", "192.0.2.2", "192.0.2.3"), ("fd00:2::/64", "2001:db8::2", "2001:db8::3")]
        {
            let (range, one, other) = (net(range), one.parse().unwrap(), other.parse().unwrap());
            let ways = || {
                let routes = links.routes().unwrap().into_iter();
                routes
                    .filter(|route| route.protocol == 83)
                    .map(|route| route.gateway.unwrap())
                    .collect::<Vec<_>>()
            };
            links.set_route(range, one, 83).unwrap();
            assert_eq!(ways(), [one]);
            links.set_route(range, other, 83).unwrap();
            assert_eq!(ways(), [other]);
            links.remove_route(range, other, 83).unwrap();
            links.remove_route(range, other, 83).unwrap();
            assert_eq!(ways(), [] as [std::net::IpAddr; 0]);
        }
        assert!(links.set_route(net("10.0.0.0/8"), "198.51.100.1".parse().unwrap(), 83).is_err());
    });
}
