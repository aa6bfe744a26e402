//! Ports of the host that lead to containers.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use switchyard_kernel::namespace::NamespaceFile;

use crate::host::{
    Tests, add, ask, belongings, call, conf, connect, container, delete, merge, port_mappings,
    replace_program, run,
};
use crate::network::outside;

pub(crate) const TESTS: Tests = &[
    ("a_mapped_port_is_reached_from_everywhere", reached),
    ("a_mapped_port_is_reached_with_iptables_legacy", reached_legacy),
    ("a_mapping_to_one_address_is_on_that_alone", one_address),
    ("a_port_is_mapped_to_one_container_only", taken),
    ("rules_of_others_and_of_other_networks_stay", others),
    ("rules_are_removed_when_some_are_gone_already", flushed),
    ("rules_are_removed_when_everything_else_is_lost", lost),
];

fn mapped(mappings: Value) -> Value {
    let mut conf = conf(json!({}));
    merge(&mut conf, port_mappings(mappings));
    conf
}

fn web() -> Value {
    mapped(json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8053, "containerPort": 53, "protocol": "UDP"},
    ]))
}

fn reached_legacy() {
    let path = std::env::var_os("PATH").unwrap();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join("iptables-legacy"));
    let legacy = places.find(|place| place.exists()).expect("iptables-legacy, of the package iptables");
    replace_program("iptables", Path::new(&legacy));
    assert!(run("iptables --version").contains("legacy"));
    reached();
}

fn reached() {
    let conf = web();
    let outside = outside();
    let server = add("server", &conf);
    let neighbour = add("neighbour", &crate::host::conf(json!({})));
    let here = NamespaceFile::here().unwrap();
    let hosts: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let clients: [IpAddr; 2] = ["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()];
    let gateways: [IpAddr; 2] = ["10.244.1.1".parse().unwrap(), "fd00:10:244:1::1".parse().unwrap()];
    for family in [0, 1] {
        let (web, dns) = (SocketAddr::new(hosts[family], 8080), SocketAddr::new(hosts[family], 8053));
        let listen = |port| SocketAddr::new(server.addresses[family], port);
        let tcp = |client: &NamespaceFile| connect(client, web, &server.namespace, listen(80)).unwrap();
        // The container sees who asks from outside, as if the port were its own.
        assert_eq!(tcp(&outside), clients[family]);
        assert_eq!(ask(&outside, dns, &server.namespace, listen(53)).unwrap(), clients[family]);
        // From the same bridge, and from itself, the answer has to come back through the host.
        assert_eq!(tcp(&neighbour.namespace), gateways[family]);
        assert_eq!(tcp(&server.namespace), gateways[family]);
        assert_eq!(tcp(&here), hosts[family]);
    }
    let mut check = conf.clone();
    merge(&mut check, json!({"prevResult": server.result}));
    call("CHECK", "server", &check).unwrap();
    run("iptables -t nat -F SWITCHYARD-HOSTPORT");
    let error = call("CHECK", "server", &check).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("--dport 8080"), "{error}");
    delete("server", &conf);
    delete("neighbour", &crate::host::conf(json!({})));
    let left = belongings();
    assert!(left["rules"].is_empty(), "{left:?}");
}

fn one_address() {
    let outside = outside();
    run("ip address add 192.0.2.9/24 dev uplink");
    let conf = mapped(json!([{"hostPort": 80, "containerPort": 80, "hostIP": "192.0.2.9"}]));
    let server = add("server", &conf);
    let listen = SocketAddr::new(server.addresses[0], 80);
    let reach = |host: &str| {
        let target = SocketAddr::new(host.parse().unwrap(), 80);
        connect(&outside, target, &server.namespace, listen)
    };
    assert!(reach("192.0.2.9").is_ok());
    assert_eq!(reach("192.0.2.1").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

fn taken() {
    add("first", &web());
    container("second");
    let before = belongings();
    let error = call("ADD", "second", &web()).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("8080/tcp"), "{error}");
    assert_eq!(belongings(), before);
    // Once more for the same container is no conflict, and leaves its rules once.
    call("ADD", "first", &web()).unwrap();
    assert_eq!(belongings()["rules"], before["rules"]);
    assert_eq!(belongings()["leases"], before["leases"]);
}

fn others() {
    run("iptables -t nat -A PREROUTING -p tcp --dport 9 -j ACCEPT");
    let other = {
        let mut other = mapped(json!([{"hostPort": 9090, "containerPort": 80}]));
        merge(&mut other, json!({"name": "other", "bridge": "other0", "ranges": ["10.9.0.0/24"]}));
        other
    };
    add("first", &web());
    add("second", &other);
    delete("first", &web());
    let rules = run("iptables-save -t nat");
    assert!(rules.contains("--dport 9090") && !rules.contains("--dport 8080"), "{rules}");
    // GC of one network is none of the other's business.
    let mut gc = web();
    merge(&mut gc, json!({"cni.dev/valid-attachments": []}));
    call("GC", "", &gc).unwrap();
    assert!(run("iptables-save -t nat").contains("--dport 9090"));
    delete("second", &other);
    let rules = run("iptables-save -t nat");
    assert!(!rules.contains("SWITCHYARD") && rules.contains("--dport 9 "), "{rules}");
}

fn flushed() {
    add("server", &web());
    // By somebody who removes what leads to our chains, or empties one.
    run("iptables -t nat -F PREROUTING");
    run("ip6tables -t nat -F SWITCHYARD-HOSTPORT");
    delete("server", &web());
    assert!(belongings()["rules"].is_empty());
}

fn lost() {
    add("server", &web());
    std::fs::remove_dir_all(crate::host::DATA).unwrap();
    // And DEL is not told of the ports either.
    let mut conf = conf(json!({}));
    merge(&mut conf, json!({"capabilities": {"portMappings": true}}));
    delete("server", &conf);
    let left = belongings();
    assert!(left["rules"].is_empty() && left["leases"].is_empty(), "{left:?}");
    assert_eq!(left["links"].iter().filter(|link| link.starts_with("veth")).count(), 0, "{left:?}");
}
