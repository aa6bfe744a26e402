//! Sandboxes: made, found, killed, removed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use switchyard_agent::runtime::process::ProcessRuntime;
use switchyard_agent::runtime::{Runtime, State};
use switchyard_kernel::namespace;

use crate::host::{Host, LONG, Tests, a_long_time, container, processes, sandbox, settings, uid};

pub(crate) const TESTS: Tests = &[
    ("twice_is_once", twice_is_once),
    ("a_pod_has_a_network_of_its_own", a_pod_has_a_network_of_its_own),
    ("a_pod_may_use_the_network_of_the_node", a_pod_may_use_the_network_of_the_node),
    ("nothing_is_left_of_a_removed_one", nothing_is_left_of_a_removed_one),
    ("one_that_was_killed_is_dead_with_its_containers", one_that_was_killed_is_dead_with_its_containers),
    ("a_folder_has_one_agent", a_folder_has_one_agent),
    ("names_do_not_lead_elsewhere", names_do_not_lead_elsewhere),
    ("it_stays_small", it_stays_small),
];

fn twice_is_once(host: &Host) {
    let first = host.pod("web");
    assert!(first.alive);
    assert_eq!(first.annotations["note"], "kept");
    host.start(&first, &["sleep", "600"]);
    let second = host.pod("web");
    assert_eq!(first, second);
    assert_eq!(host.runtime.sandboxes().unwrap(), [second]);
    assert_eq!(host.container(&first, "main").state, State::Running);
    assert_eq!(host.sandbox_processes("web").len(), 1);
}

fn a_pod_has_a_network_of_its_own(host: &Host) {
    let pod = host.pod("web");
    let name = "lab_node-1_default_web_web-0000";
    assert_eq!(pod.network, Some(namespace::path(name)));
    let names = Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert_eq!(String::from_utf8(names.stdout).unwrap().split_whitespace().next(), Some(name));
    let links = host.shell(&pod, "ip -o link");
    assert_eq!(links.lines().count(), 1, "{links}");
    assert!(links.contains("lo: <LOOPBACK,UP,LOWER_UP>"), "{links}");
    // It is the one that is pinned.
    run(&format!("ip -n {name} link add bridge-of-test type bridge"));
    assert!(host.shell(&pod, "ip -o link").contains("bridge-of-test"));
}

fn a_pod_may_use_the_network_of_the_node(host: &Host) {
    run("ip link add on-the-node type bridge");
    let pod = host
        .runtime
        .create_sandbox(&{
            let mut spec = sandbox("web");
            spec.host_network = true;
            spec
        })
        .unwrap();
    assert_eq!(pod.network, None);
    assert!(host.shell(&pod, "ip -o link; ls /sys/class/net").matches("on-the-node").count() == 2);
    assert_eq!(host.shell(&pod, "hostname"), "web\n");
    assert_eq!(namespace::list().unwrap(), [""; 0]);
}

fn nothing_is_left_of_a_removed_one(host: &Host) {
    let mounts = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let before = mounts();
    let pod = host.pod("web");
    // Processes that do what they can to stay.
    let time = a_long_time();
    host.start(&pod, &["sh", "-c", &format!("trap '' TERM HUP; setsid setsid sleep {time} & sleep {time}")]);
    host.runtime.remove_sandbox(&uid("web")).unwrap();
    assert_eq!(processes(&time), [0; 0]);
    assert_eq!(host.sandbox_processes("web"), [0; 0]);
    assert_eq!(mounts(), before);
    assert_eq!(namespace::list().unwrap(), [""; 0]);
    assert_eq!(host.files(), [""; 0].map(PathBuf::from));
    assert!(host.runtime.containers(&uid("web")).is_err());
    host.runtime.remove_sandbox(&uid("web")).unwrap();
}

fn one_that_was_killed_is_dead_with_its_containers(host: &Host) {
    let pod = host.pod("web");
    host.start(&pod, &["sleep", "600"]);
    let [sandbox] = host.sandbox_processes("web")[..] else { panic!("one sandbox") };
    run(&format!("kill -9 {sandbox}"));
    // Heard of, though it cannot tell any more.
    host.hear_of_an_end();
    let end = host.end(&pod, "main");
    assert_eq!((end.exit_code, end.signal), (137, Some(9)));
    assert_eq!(host.end(&pod, "main"), end, "it is written down");
    assert!(!host.runtime.sandboxes().unwrap()[0].alive);
    host.runtime.stop_container(&uid("web"), "main", LONG).unwrap();
    let error = host.runtime.start_container(&uid("web"), &container("main", &["true"])).unwrap_err();
    assert!(error.to_string().contains("make a new one"), "{error}");

    let again = host.pod("web");
    assert!(again.alive);
    assert_eq!(host.runtime.containers(&uid("web")).unwrap(), []);
    assert_eq!(host.shell(&again, "echo again"), "again\n");
}

fn a_folder_has_one_agent(host: &Host) {
    let error = ProcessRuntime::open(settings(&host.folder, "another")).unwrap_err().to_string();
    assert!(error.contains("/run/agent-") && error.contains("another agent"), "{error}");
}

fn names_do_not_lead_elsewhere(host: &Host) {
    for uid in ["../../etc", "", "."] {
        assert!(host.runtime.remove_sandbox(uid).is_err(), "{uid:?}");
        assert!(host.runtime.containers(uid).is_err(), "{uid:?}");
    }
    let pod = host.pod("web");
    assert!(host.runtime.start_container(&pod.pod.uid, &container("../x", &["true"])).is_err());
}

/// There is one a pod, and there may be hundreds of pods.
fn it_stays_small(host: &Host) {
    let pod = host.pod("web");
    for _ in 0..5 {
        host.shell(&pod, "echo some output");
    }
    host.start(&pod, &["sleep", "600"]);
    let [sandbox] = host.sandbox_processes("web")[..] else { panic!("one sandbox") };
    let map = fs::read_to_string(format!("/proc/{sandbox}/smaps_rollup")).unwrap();
    let private =
        map.lines().filter(|line| line.starts_with("Private_Dirty:") || line.starts_with("Anonymous:"));
    let kilobytes = private.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap());
    // Measured: 0.26 MB of its own in the real binary, 1 to 3 MB in this one, which is not linked to fixed addresses.
    assert!(kilobytes.max().unwrap() < 4_000, "{map}");
}

#[track_caller]
fn run(line: &str) {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{line}");
}
