//! CHECK, GC and STATUS.

use serde_json::{Value, json};

use crate::host::{Tests, add, belongings, call, conf, connect, leases, merge, replace_program, run, script};

pub(crate) const TESTS: Tests = &[
    ("check_notices_what_is_gone", check),
    ("check_in_a_namespace_that_is_gone_says_so", check_gone),
    ("gc_takes_all_but_the_valid", gc),
    ("status_says_what_stands_in_the_way", status),
];

/// CHECK fails and names what was done, which is undone after it.
fn notices(conf: &Value, done: &str, undone: &str, part: &str) {
    call("CHECK", "one", conf).unwrap();
    run(done);
    let error = call("CHECK", "one", conf).unwrap_err();
    assert_eq!(error["code"], 101, "{error}");
    assert!(error["msg"].as_str().unwrap().contains(part), "{done}: {error}");
    run(undone);
}

fn check() {
    let mut conf = conf(json!({}));
    let added = add("one", &conf);
    let port = added.result["interfaces"][1]["name"].as_str().unwrap().to_owned();
    merge(&mut conf, json!({"prevResult": added.result}));
    let conf = &conf;
    for address in ["10.244.1.9/24", "fd00:10:244:1::9/64"] {
        // More addresses than ours are no fault.
        run(&format!("ip -n one address add {address} dev eth0"));
    }
    notices(
        conf,
        "ip -n one -6 address delete fd00:10:244:1::2/64 dev eth0",
        "ip -n one address add fd00:10:244:1::2/64 dev eth0 nodad",
        "fd00:10:244:1::2/64",
    );
    notices(
        conf,
        "ip -n one route delete default",
        "ip -n one route add default via 10.244.1.1",
        "0.0.0.0/0",
    );
    notices(conf, "ip -n one link set eth0 mtu 1300", "ip -n one link set eth0 mtu 1500", "1300");
    notices(
        conf,
        "mv /run/data/pods/10.244.1.2 /run/away",
        "mv /run/away /run/data/pods/10.244.1.2",
        "lease",
    );
    notices(
        conf,
        &format!("ip link set {port} nomaster"),
        &format!("ip link set {port} master cni0"),
        "cni0",
    );
    notices(conf, &format!("ip link set {port} down"), &format!("ip link set {port} up"), &port);
    notices(
        conf,
        "ip address delete 10.244.1.1/24 dev cni0",
        "ip address add 10.244.1.1/24 dev cni0",
        "10.244.1.1/24",
    );
    run("ip -n one link set eth0 down");
    assert!(call("CHECK", "one", conf).unwrap_err()["msg"].as_str().unwrap().contains("down"));
    run("ip -n one link delete eth0");
    let error = call("CHECK", "one", conf).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("no such interface"), "{error}");
}

fn check_gone() {
    let mut conf = conf(json!({}));
    let added = add("one", &conf);
    let error = call("CHECK", "one", &conf).unwrap_err();
    assert_eq!(error["code"], 7, "{error}");
    merge(&mut conf, json!({"prevResult": added.result}));
    drop(added.namespace);
    run("ip netns delete one");
    assert_eq!(call("CHECK", "one", &conf).unwrap_err()["code"], 3);
}

fn gc() {
    let mut mapped = conf(json!({}));
    let mapping = json!([{"hostPort": 8080, "containerPort": 80}]);
    merge(&mut mapped, crate::host::port_mappings(mapping));
    let other = conf(json!({"name": "other", "bridge": "other0", "ranges": ["10.9.0.0/24"]}));
    let stays = add("stays", &conf(json!({})));
    add("goes", &mapped);
    add("also", &conf(json!({})));
    add("foreign", &other);
    // A file that is no lease of anybody keeps its address, until it is collected.
    std::fs::write("/run/data/pods/10.244.1.200", "?").unwrap();
    let mut gc = mapped.clone();
    let valid = json!([{"containerID": "stays", "ifname": "eth0"}]);
    merge(&mut gc, json!({"cni.dev/valid-attachments": valid}));
    for _ in 0..2 {
        call("GC", "", &gc).unwrap();
        assert_eq!(leases(), ["10.244.1.2", "fd00:10:244:1::2"]);
        assert!(belongings()["rules"].is_empty());
        let links = run("ip -o link show");
        assert_eq!(links.matches(": veth").count(), 2, "{links}");
    }
    let here = switchyard_kernel::namespace::NamespaceFile::here().unwrap();
    let to = std::net::SocketAddr::new(stays.addresses[0], 80);
    connect(&here, to, &stays.namespace, to).unwrap();
    run("ls /run/data/other/10.9.0.2");
}

fn status() {
    let conf = conf(json!({"capabilities": {"portMappings": true}}));
    call("STATUS", "", &conf).unwrap();
    run("ip link add cni0 type veth peer name other");
    let fails = |code: u64, part: &str| {
        let error = call("STATUS", "", &conf).unwrap_err();
        assert_eq!(error["code"], code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    fails(50, "no bridge");
    run("ip link delete cni0");
    add("one", &conf);
    call("STATUS", "", &conf).unwrap();
    run("ip link set cni0 down");
    fails(51, "down");
    run("ip link set cni0 up");
    run("ip address delete 10.244.1.1/24 dev cni0");
    fails(51, "10.244.1.1/24");
    // What the next ADD puts right.
    run("ip address flush dev cni0");
    add("two", &conf);
    call("STATUS", "", &conf).unwrap();
    run("sysctl -q -w net.ipv4.ip_forward=0");
    fails(51, "net.ipv4.ip_forward");
    run("sysctl -q -w net.ipv4.ip_forward=1");
    replace_program("iptables", &script("false", "#!/bin/sh\nexit 3\n"));
    fails(50, "iptables");
}
