//! What ADD makes: addresses, links, routes, and packets that get through.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread;

use serde_json::json;
use switchyard_kernel::namespace::NamespaceFile;

use crate::host::{
    Tests, add, addresses, ask, call, call_with, conf, connect, container, delete, leases, run,
};

pub(crate) const TESTS: Tests = &[
    ("containers_reach_each_other_and_the_gateway_in_both_families", reach),
    ("a_result_is_in_the_version_asked_for", versions),
    ("links_are_as_configured", links),
    ("a_network_without_a_gateway_leaves_the_bridge_bare", no_gateway),
    ("fifty_at_once_get_fifty_addresses", at_once),
    ("a_full_range_is_told_and_changes_nothing", full),
    ("an_address_is_not_used_again_at_once", not_at_once),
    ("masquerading_hides_the_container_outside_its_range_only", masquerade),
    ("a_namespace_that_is_none_is_refused", no_namespace),
];

fn reach() {
    let (first, second) = (add("first", &conf(json!({}))), add("second", &conf(json!({}))));
    assert_eq!(
        first.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.244.1.2", "fd00:10:244:1::2"]
    );
    let here = NamespaceFile::here().unwrap();
    let gateways: [IpAddr; 2] = ["10.244.1.1".parse().unwrap(), "fd00:10:244:1::1".parse().unwrap()];
    for (index, gateway) in gateways.into_iter().enumerate() {
        let (from, to) = (first.addresses[index], SocketAddr::new(second.addresses[index], 80));
        assert_eq!(connect(&first.namespace, to, &second.namespace, to).unwrap(), from);
        assert_eq!(ask(&first.namespace, to, &second.namespace, to).unwrap(), from);
        let gateway = SocketAddr::new(gateway, 80);
        assert_eq!(connect(&first.namespace, gateway, &here, gateway).unwrap(), from);
        // The host asks with the bridge's address.
        assert_eq!(connect(&here, to, &second.namespace, to).unwrap(), gateway.ip());
    }
    call("CHECK", "first", &conf(json!({"prevResult": first.result}))).unwrap();
}

fn versions() {
    for (version, old) in [("0.3.0", true), ("0.3.1", true), ("0.4.0", true), ("1.0.0", false)] {
        let conf = conf(json!({"cniVersion": version}));
        let added = add("one", &conf);
        assert_eq!(added.result["cniVersion"], version);
        let ip = &added.result["ips"][0];
        assert_eq!(ip.get("version").is_some(), old, "{version}: {ip}");
        assert_eq!(ip["interface"], 2);
        assert_eq!(ip["gateway"], "10.244.1.1");
        let interfaces = &added.result["interfaces"];
        assert_eq!(interfaces[0]["name"], "cni0");
        assert_eq!(
            (&interfaces[2]["name"], &interfaces[2]["sandbox"]),
            (&json!("eth0"), &json!("/run/netns/one"))
        );
        assert!(interfaces[2].get("mtu").is_none());
        delete("one", &conf);
        run("ip netns delete one");
    }
}

fn links() {
    let conf =
        conf(json!({"mtu": 1400, "bridge": "pods0", "hairpinMode": false, "dns": {"search": ["svc"]}}));
    let added = add("one", &conf);
    assert_eq!(added.result["dns"], json!({"search": ["svc"]}));
    let interfaces = added.result["interfaces"].as_array().unwrap();
    assert!(interfaces.iter().all(|interface| interface["mtu"] == 1400), "{interfaces:?}");
    let port = interfaces[1]["name"].as_str().unwrap();
    assert!(port.starts_with("veth") && port.len() == 12, "{port}");
    let details = run(&format!("ip -d link show {port}"));
    assert!(details.contains("master pods0") && details.contains("hairpin off"), "{details}");
    assert!(details.contains("alias switchyard-cni:pods:"), "{details}");
    let inside = run("ip -n one link show eth0");
    assert!(inside.contains("mtu 1400") && inside.contains("link/ether 0a:58:0a:f4:01:02"), "{inside}");
    // The bridge keeps its own, whatever ports come and go.
    assert!(run("ip link show pods0").contains("link/ether 0a:58:0a:f4:01:01"));
    // Usable at once: no address of the container is waiting for duplicates to answer.
    assert!(!run("ip -n one -6 address show").contains("tentative"));
    let routes = run("ip -n one route") + &run("ip -n one -6 route");
    assert!(
        routes.contains("default via 10.244.1.1") && routes.contains("default via fd00:10:244:1::1"),
        "{routes}"
    );
}

fn no_gateway() {
    let added = add("one", &conf(json!({"isGateway": false, "ranges": ["10.1.0.0/16"]})));
    assert_eq!(added.result["routes"], json!([]));
    assert!(!run("ip address show cni0").contains("inet 10."), "the bridge has an address");
    assert!(!run("ip -n one route").contains("default"));
}

fn at_once() {
    const MANY: usize = 50;
    let conf = conf(json!({}));
    let names: Vec<String> = (0..MANY).map(|number| format!("c{number}")).collect();
    names.iter().for_each(|name| drop(container(name)));
    let results = thread::scope(|scope| {
        let add = |name: &String| {
            let name = name.clone();
            let conf = &conf;
            scope.spawn(move || call("ADD", &name, conf).unwrap_or_else(|error| panic!("{name}: {error}")))
        };
        let workers: Vec<_> = names.iter().map(add).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    let distinct: BTreeSet<IpAddr> = results.iter().flat_map(addresses).collect();
    assert_eq!(distinct.len(), 2 * MANY);
    assert_eq!(leases().len(), 2 * MANY);
    // And all of them leave at once.
    thread::scope(|scope| {
        for name in &names {
            let conf = &conf;
            scope.spawn(move || delete(name, conf));
        }
    });
    assert!(leases().is_empty());
    assert!(!run("ip -o link show").contains("veth"));
}

fn full() {
    // Room for one beside the gateway, in a pair of ranges of which the other has plenty.
    let conf = conf(json!({"ranges": ["fd00:1::/64", "10.0.0.0/30"]}));
    add("first", &conf);
    container("second");
    let before = crate::host::belongings();
    let error = call("ADD", "second", &conf).unwrap_err();
    assert_eq!(error["code"], 11);
    assert!(error["msg"].as_str().unwrap().contains("10.0.0.0/30"), "{error}");
    assert_eq!(crate::host::belongings(), before);
    let error = call("STATUS", "", &conf).unwrap_err();
    assert_eq!(error["code"], 50, "{error}");
    delete("first", &conf);
    call("STATUS", "", &conf).unwrap();
    call("ADD", "second", &conf).unwrap();
}

fn not_at_once() {
    let conf = conf(json!({"ranges": ["10.0.0.0/24"]}));
    let first = add("first", &conf);
    delete("first", &conf);
    let second = add("second", &conf);
    assert_ne!(first.addresses, second.addresses);
}

fn masquerade() {
    let conf = conf(json!({"ipMasq": true}));
    let (first, second) = (add("first", &conf), add("second", &conf));
    let outside = outside();
    for (index, host) in ["192.0.2.1", "2001:db8::1"].into_iter().enumerate() {
        let target = SocketAddr::new(["192.0.2.2", "2001:db8::2"][index].parse().unwrap(), 80);
        let seen = connect(&first.namespace, target, &outside, target).unwrap();
        assert_eq!(seen, host.parse::<IpAddr>().unwrap());
        let inside = SocketAddr::new(second.addresses[index], 80);
        let seen = connect(&first.namespace, inside, &second.namespace, inside).unwrap();
        assert_eq!(seen, first.addresses[index]);
    }
    delete("first", &conf);
    delete("second", &conf);
    assert!(crate::host::belongings()["rules"].is_empty());
}

fn no_namespace() {
    let conf = conf(json!({}));
    std::fs::write("/run/file", "").unwrap();
    for (path, code) in [("/run/file", 4), ("/proc/thread-self/ns/net", 4), ("/run/netns/none", 3)] {
        let error = call_with("ADD", "one", path, &conf).unwrap_err();
        assert_eq!(error["code"], code, "{error}");
        assert!(error.to_string().contains(path), "{error}");
    }
    assert!(leases().is_empty());
}

/// A place outside of the node, with the node as its way to everywhere.
pub(crate) fn outside() -> NamespaceFile {
    let outside = container("outside");
    run("ip link add uplink type veth peer name eth0 netns outside");
    for (place, address) in [("-4", "192.0.2.1/24"), ("-6", "2001:db8::1/64")] {
        run(&format!("ip {place} address add {address} dev uplink {}", nodad(place)));
    }
    run("ip link set uplink up");
    for (place, address) in [("-4", "192.0.2.2/24"), ("-6", "2001:db8::2/64")] {
        run(&format!("ip -n outside {place} address add {address} dev eth0 {}", nodad(place)));
    }
    run("ip -n outside link set eth0 up");
    outside
}

fn nodad(family: &str) -> &'static str {
    if family == "-6" { "nodad" } else { "" }
}
