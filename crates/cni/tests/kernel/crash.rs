//! ADD that fails or is killed on its way: nothing stays behind for good.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use switchyard_kernel::namespace::NamespaceFile;

use crate::host::{
    Tests, add, addresses, belongings, call, call_with, conf, connect, container, delete, leases, merge,
    namespace_path, plugin_folder, port_mappings, replace_program, run, script, variables,
};

pub(crate) const TESTS: Tests = &[
    ("a_step_that_fails_undoes_those_before_it", failing_steps),
    ("killed_before_the_rules_the_next_add_finds_its_address_again", killed_then_added),
    ("killed_before_the_rules_gc_clears_up", killed_then_collected),
    ("killed_right_after_the_pair_was_made_del_clears_up", killed_then_deleted),
    ("killed_at_any_moment_everything_can_be_taken_away", killed_anywhere),
    ("del_takes_everything_and_may_come_again", twice),
    ("del_without_a_namespace_takes_everything_too", no_namespace),
    ("del_leaves_what_is_not_the_containers", not_ours),
];

fn mapped() -> Value {
    let mut conf = conf(json!({}));
    merge(&mut conf, port_mappings(json!([{"hostPort": 8080, "containerPort": 80}])));
    conf
}

fn failing_steps() {
    let kept = add("kept", &conf(json!({})));
    container("one");
    let before = belongings();
    let fails = |conf: &Value, part: &str| {
        let error = call("ADD", "one", conf).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(belongings(), before, "{error}");
    };
    // The kernel takes no link this small, nor one in the place of another.
    fails(&conf(json!({"mtu": 10})), "veth");
    fails(&conf(json!({"bridge": "lo"})), "no bridge");
    run("ip -n one link add eth0 type bridge");
    fails(&conf(json!({})), "eth0");
    run("ip -n one link delete eth0");
    // iptables fails, or is not there.
    replace_program("iptables", &script("false", "#!/bin/sh\necho no >&2; exit 3\n"));
    let error = call("ADD", "one", &mapped()).unwrap_err();
    assert!(error["msg"].as_str().unwrap().contains("iptables"), "{error}");
    assert_eq!(leases(), ["10.244.1.2", "fd00:10:244:1::2"]);
    let here = NamespaceFile::here().unwrap();
    let to = SocketAddr::new(kept.addresses[0], 80);
    connect(&here, to, &kept.namespace, to).unwrap();
}

/// Runs ADD as a program that is killed when it first calls iptables: there are leases, a pair, addresses, no rules.
fn add_killed(name: &str) {
    container(name);
    let folder = plugin_folder();
    let killer = script("killer", "#!/bin/sh\nkill -9 $PPID\n");
    // In a mount namespace of its own, since the next try needs the real iptables.
    let iptables = run("readlink -f /usr/sbin/iptables");
    let line =
        format!("mount --bind {} {} && exec /run/bin/switchyard-cni", killer.display(), iptables.trim());
    let namespace = namespace_path(name);
    let mut plugin = Command::new("unshare")
        .args(["--mount", "sh", "-c", &line])
        .envs(variables("ADD", name, namespace.to_str().unwrap()))
        .env("CNI_PATH", folder)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    plugin.stdin.take().unwrap().write_all(mapped().to_string().as_bytes()).unwrap();
    assert_eq!(plugin.wait().unwrap().code(), None, "the plugin was not killed");
    assert_eq!(leases().len(), 2);
    assert!(run("ip -o link show").contains("veth"));
}

fn killed_then_added() {
    add_killed("one");
    let held = leases();
    let result = call("ADD", "one", &mapped()).unwrap();
    let addresses: Vec<String> = addresses(&result).iter().map(ToString::to_string).collect();
    assert_eq!(addresses, held);
    assert_eq!(leases(), held);
    delete("one", &mapped());
    assert!(leases().is_empty());
}

fn killed_then_collected() {
    add_killed("one");
    let mut gc = mapped();
    merge(&mut gc, json!({"cni.dev/valid-attachments": []}));
    call("GC", "", &gc).unwrap();
    let left = belongings();
    assert!(left["leases"].is_empty() && left["rules"].is_empty(), "{left:?}");
    assert!(!run("ip -o link show").contains("veth"));
}

fn killed_then_deleted() {
    let conf = conf(json!({}));
    let added = add("one", &conf);
    // As it is before the note is written and the port is joined.
    let port = added.result["interfaces"][1]["name"].as_str().unwrap();
    run(&format!("ip link delete {port}"));
    run(&format!("ip link add {port} type veth peer name eth0 netns one"));
    delete("one", &conf);
    assert!(leases().is_empty());
    assert!(!run("ip -o link show").contains("veth"));
    // The same for GC, which finds it by the lease.
    call("ADD", "one", &conf).unwrap();
    run(&format!("ip link delete {port}"));
    run(&format!("ip link add {port} type veth peer name eth0 netns one"));
    let mut gc = conf.clone();
    merge(&mut gc, json!({"cni.dev/valid-attachments": []}));
    call("GC", "", &gc).unwrap();
    assert!(leases().is_empty() && !run("ip -o link show").contains("veth"));
}

fn killed_anywhere() {
    let nothing = belongings();
    let folder = plugin_folder();
    container("one");
    let namespace = namespace_path("one");
    let mut unfinished = 0;
    // Without anybody in the way ADD takes some 30 ms.
    for step in 0..40 {
        let mut plugin = Command::new(folder.join("switchyard-cni"))
            .envs(variables("ADD", "one", namespace.to_str().unwrap()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        plugin.stdin.take().unwrap().write_all(mapped().to_string().as_bytes()).unwrap();
        thread::sleep(Duration::from_micros(800 * step));
        plugin.kill().unwrap();
        unfinished += usize::from(!plugin.wait().unwrap().success());
        match step % 3 {
            0 => delete("one", &mapped()),
            1 => {
                let mut gc = mapped();
                merge(&mut gc, json!({"cni.dev/valid-attachments": []}));
                call("GC", "", &gc).unwrap();
            }
            _ => {
                call("ADD", "one", &mapped()).unwrap();
                delete("one", &mapped());
            }
        }
        let mut left = belongings();
        left.get_mut("links").unwrap().retain(|link| !link.starts_with("cni0"));
        assert_eq!(left, nothing, "killed after {step} steps");
        assert!(!run("ip -n one link show").contains("eth0"));
    }
    assert!(unfinished > 0, "no ADD was killed in time");
}

fn twice() {
    let nothing = belongings();
    add("one", &mapped());
    for _ in 0..2 {
        delete("one", &mapped());
        let mut left = belongings();
        // The bridge belongs to the network.
        left.get_mut("links").unwrap().retain(|link| !link.starts_with("cni0"));
        assert_eq!(left, nothing);
        assert!(!run("ip -n one link show").contains("eth0"));
    }
    // Of a container that never was, with a configuration that is wrong by now.
    delete("two", &conf(json!({"ranges": ["nonsense"], "dataDir": "/run/never"})));
    assert!(!std::path::Path::new("/run/never").exists());
}

fn no_namespace() {
    add("one", &mapped());
    call_with("DEL", "one", "", &mapped()).unwrap();
    let left = belongings();
    assert!(left["leases"].is_empty() && left["rules"].is_empty(), "{left:?}");
    assert!(!run("ip -n one link show").contains("eth0"));
    // The namespace went first, and took the pair with it.
    add("two", &mapped());
    run("ip netns delete two");
    delete("two", &mapped());
    assert!(leases().is_empty());
}

fn not_ours() {
    let added = add("one", &conf(json!({})));
    let port = added.result["interfaces"][1]["name"].as_str().unwrap().to_owned();
    delete("one", &conf(json!({})));
    run(&format!("ip link add {port} type veth peer name other"));
    run(&format!("ip link set {port} alias somebody-else"));
    delete("one", &conf(json!({})));
    assert!(run("ip -o link show").contains(&port));
}
