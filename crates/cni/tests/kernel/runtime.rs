//! Plugins called as a container runtime calls them: ours, and other people's.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchyard_cni::runtime::{Container, Runtime, RuntimeError, load};
use switchyard_cni::types::{AddResult, Attachment, NetConfList};
use switchyard_kernel::namespace::NamespaceFile;

use crate::host::{
    DATA, Tests, belongings, connect, container, leases, namespace_path, object, plugin_folder, run, script,
    try_run,
};
use crate::network::outside;

pub(crate) const TESTS: Tests = &[
    ("our_plugin_serves_a_runtime", ours),
    ("debians_plugins_serve_the_same_runtime", debians),
    ("our_plugin_in_a_chain_with_debians", mixed),
    ("a_plugin_that_hangs_is_ended_with_its_name_told", hangs),
    ("a_plugin_that_is_missing_or_prints_nonsense_is_named", broken),
    ("a_chain_that_fails_is_undone", undone),
    ("gc_of_a_runtime_deletes_what_it_remembers", remembered),
];

const DEBIANS: &str = "/usr/lib/cni";

fn debians_folder() -> PathBuf {
    let folder = PathBuf::from(DEBIANS);
    assert!(
        folder.join("bridge").exists(),
        "{DEBIANS}/bridge is missing; run `apt-get install containernetworking-plugins`"
    );
    folder
}

fn ours_list() -> Value {
    json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [{
        "type": "switchyard-cni",
        "ranges": ["10.244.1.0/24", "fd00:10:244:1::/64"],
        "dataDir": DATA,
        "capabilities": {"portMappings": true},
    }]})
}

fn debians_list() -> Value {
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {
            "type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "dataDir": DATA,
                "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:10:244:1::/64"}]],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
    ]})
}

fn parse(list: &Value) -> NetConfList {
    NetConfList::parse(list.to_string().as_bytes()).unwrap()
}

fn runtime(path: PathBuf) -> Runtime {
    Runtime::new(vec![path], Path::new("/run/cache"))
}

fn subject(name: &str) -> Container {
    Container::new(name, Some(&namespace_path(name)), "eth0")
}

fn ours() {
    serves(plugin_folder(), &ours_list());
}

fn debians() {
    serves(debians_folder(), &debians_list());
}

/// What every runtime and every plugin have to manage together.
fn serves(path: PathBuf, list: &Value) {
    fs::create_dir_all("/run/net.d").unwrap();
    fs::write("/run/net.d/10-pods.conflist", list.to_string()).unwrap();
    let network = load(Path::new("/run/net.d"), "pods").unwrap();
    let runtime = runtime(path);
    runtime.status(&network).unwrap();
    let outside = outside();
    let (first, second) = (container("first"), container("second"));
    let mut mapped = subject("first");
    mapped.capabilities =
        object(json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}));
    let results =
        [runtime.add(&network, &mapped).unwrap(), runtime.add(&network, &subject("second")).unwrap()];
    let address = |result: &AddResult, ipv4: bool| -> IpAddr {
        result.ips.iter().map(|ip| ip.address.addr()).find(|address| address.is_ipv4() == ipv4).unwrap()
    };
    for ipv4 in [true, false] {
        let (to, from) = (SocketAddr::new(address(&results[0], ipv4), 80), address(&results[1], ipv4));
        eventually_connects(|| connect(&second, to, &first, to), from);
    }
    let to = SocketAddr::new(address(&results[0], true), 80);
    let host = "192.0.2.1:8080".parse().unwrap();
    eventually_connects(|| connect(&outside, host, &first, to), "192.0.2.2".parse().unwrap());

    let again = runtime.add(&network, &mapped).unwrap_err();
    assert!(matches!(again, RuntimeError::AlreadyAdded { .. }), "{again}");
    // Not of the first: Debian's portmap 1.1.1 looks for IPv4 rules among those of IPv6.
    runtime.check(&network, &subject("second")).unwrap();
    // What is remembered is enough for a runtime that was started since.
    let cached = runtime.clone().cached("pods", &mapped).unwrap().unwrap();
    assert_eq!(cached.container.capabilities, mapped.capabilities);
    assert_eq!(cached.network().unwrap(), network);
    run("ip -n second address flush dev eth0");
    let error = runtime.check(&network, &subject("second")).unwrap_err();
    assert!(error.plugin_error().is_some(), "{error}");

    for name in ["first", "second"] {
        let container = runtime.cached("pods", &subject(name)).unwrap().unwrap().container;
        runtime.delete(&network, &container).unwrap();
        // Again, and after the namespace is gone too.
        runtime.delete(&network, &subject(name)).unwrap();
        assert!(runtime.cached("pods", &subject(name)).unwrap().is_none());
        let error = runtime.check(&network, &subject(name)).unwrap_err();
        assert!(matches!(error, RuntimeError::NotAdded { .. }), "{error}");
    }
    assert!(leases().is_empty());
    assert!(!run("ip -o link show").contains("veth"));
    assert!(!run("iptables-save -t nat").contains("10.244.1."));
    runtime.gc(&network, &[]).unwrap();
}

/// Other people's plugins leave an IPv6 address to prove itself unique first, which takes a second or two.
#[track_caller]
fn eventually_connects(mut connect: impl FnMut() -> std::io::Result<IpAddr>, from: IpAddr) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match connect() {
            Ok(seen) => return assert_eq!(seen, from),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

/// Ours makes the link, Debian's portmap and tuning work with its result.
fn mixed() {
    let mut list = ours_list();
    list["cniVersion"] = json!("1.0.0");
    let plugins = list["plugins"].as_array_mut().unwrap();
    plugins[0].as_object_mut().unwrap().remove("capabilities");
    plugins[0]["ranges"] = json!(["10.244.1.0/24"]);
    plugins.push(json!({"type": "portmap", "capabilities": {"portMappings": true}}));
    plugins.push(json!({"type": "tuning", "mtu": 1400}));
    let network = parse(&list);
    let runtime = Runtime::new(vec![plugin_folder(), debians_folder()], Path::new("/run/cache"));
    let outside = outside();
    let first = container("first");
    let mut mapped = subject("first");
    mapped.capabilities =
        object(json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}));
    let result = runtime.add(&network, &mapped).unwrap();
    assert_eq!(result.interfaces.len(), 3);
    let to = SocketAddr::new(result.ips[0].address.addr(), 80);
    let seen = connect(&outside, "192.0.2.1:8080".parse().unwrap(), &first, to).unwrap();
    assert_eq!(seen, "192.0.2.2".parse::<IpAddr>().unwrap());
    assert!(run("ip -n first link show eth0").contains("mtu 1400"));
    // Without the ports: Debian's portmap 1.1.1 looks for IPv6 rules also where there is no IPv6.
    runtime.check(&network, &subject("first")).unwrap();
    runtime.delete(&network, &mapped).unwrap();
    assert!(leases().is_empty());
}

fn hangs() {
    script("slow/slow", "#!/bin/sh\nsleep 60\n");
    let network = parse(&json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [{"type": "slow"}]}));
    let runtime = runtime("/run/slow".into()).with_limit(Duration::from_millis(300));
    container("first");
    let begun = Instant::now();
    let error = runtime.add(&network, &subject("first")).unwrap_err();
    assert!(matches!(error, RuntimeError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("slow"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

fn broken() {
    script("bad/silent", "#!/bin/sh\necho why >&2; exit 7\n");
    script("bad/nonsense", "#!/bin/sh\necho hello\n");
    let runtime = runtime("/run/bad".into());
    container("first");
    for (plugin, part) in [("silent", "why"), ("nonsense", "hello"), ("missing", "/run/bad")] {
        let network = parse(&json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": plugin}]}));
        let error = runtime.add(&network, &subject("first")).unwrap_err().to_string();
        assert!(error.contains(plugin) && error.contains(part), "{error}");
        assert!(runtime.cached("pods", &subject("first")).unwrap().is_none());
    }
    assert!(matches!(runtime.versions("missing"), Err(RuntimeError::NotFound { .. })));
    let ours = Runtime::new(vec![plugin_folder()], Path::new("/run/cache"));
    assert_eq!(ours.versions("switchyard-cni").unwrap().last().unwrap(), "1.1.0");
}

fn undone() {
    let folder = plugin_folder();
    let text = r#"{"cniVersion": "1.1.0", "code": 107, "msg": "not today"}"#;
    // It fails to add, and deletes like one that has nothing.
    let no = format!("#!/bin/sh\ncat >/dev/null\n[ $CNI_COMMAND = DEL ] && exit 0\necho '{text}'; exit 1\n");
    script("bin/never", &no);
    let mut list = ours_list();
    list["plugins"].as_array_mut().unwrap().push(json!({"type": "never"}));
    let network = parse(&list);
    container("first");
    let error = runtime(folder).add(&network, &subject("first")).unwrap_err();
    assert_eq!(error.plugin_error().unwrap().code, 107);
    assert_eq!(error.to_string(), "ADD of CNI plugin never: not today (code 107)");
    assert!(leases().is_empty() && belongings()["rules"].is_empty());
    assert!(!run("ip -o link show").contains("veth"));
}

fn remembered() {
    let network = parse(&ours_list());
    let runtime = runtime(plugin_folder());
    for name in ["first", "second", "third"] {
        container(name);
        runtime.add(&network, &subject(name)).unwrap();
    }
    // Its namespace is gone, and of the third even what was remembered.
    assert!(try_run("ip netns delete second").status.success());
    fs::remove_file("/run/cache/pods/third@eth0.json").unwrap();
    let valid = Attachment { container: "first".to_owned(), interface: "eth0".to_owned() };
    runtime.gc(&network, &[valid]).unwrap();
    assert_eq!(leases(), ["10.244.1.2", "fd00:10:244:1::2"]);
    assert_eq!(runtime.all_cached("pods").unwrap().len(), 1);
    assert!(NamespaceFile::open(&namespace_path("first")).is_ok());
}
