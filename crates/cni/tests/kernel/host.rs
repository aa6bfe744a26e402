//! A host of its own for each test, its containers, and what goes between them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Map, Value, json};
use switchyard_cni::plugin;
use switchyard_kernel::namespace::NamespaceFile;

/// A test and its name.
pub(crate) type Tests = &'static [(&'static str, fn())];

/// Everything of a test's host is in its own `/run`, and gone with it.
pub(crate) const DATA: &str = "/run/data";
/// For whatever takes a while on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a test on a thread that has left this host: its network namespace is new, and so is its `/run`. All of it is
/// gone with the thread, even one that is killed.
pub(crate) fn on_a_fresh_host(work: &(dyn Fn() + Sync)) {
    let worker = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("these tests make network and mount namespaces, which takes root (CAP_SYS_ADMIN)");
        let nothing = None::<&str>;
        // Or what is mounted here would show up on the real host.
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
        run("ip link set lo up");
        work();
    };
    thread::scope(|scope| scope.spawn(worker).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Runs a program that has to succeed and gives what it printed. Words are parted by blanks; there is no quoting.
#[track_caller]
pub(crate) fn run(line: &str) -> String {
    let output = try_run(line);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn try_run(line: &str) -> Output {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).output().unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// A container: so far a network namespace with nothing in it.
pub(crate) fn container(name: &str) -> NamespaceFile {
    run(&format!("ip netns add {name}"));
    run(&format!("ip -n {name} link set lo up"));
    NamespaceFile::open(&namespace_path(name)).unwrap()
}

pub(crate) fn namespace_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// The configuration of our plugin, with more keys or others.
pub(crate) fn conf(more: Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.1.0",
        "name": "pods",
        "type": "switchyard-cni",
        "ranges": ["10.244.1.0/24", "fd00:10:244:1::/64"],
        "dataDir": DATA,
    });
    merge(&mut conf, more);
    conf
}

pub(crate) fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (key, value) in more {
        into[key] = value;
    }
}

pub(crate) fn port_mappings(mappings: Value) -> Value {
    json!({"capabilities": {"portMappings": true}, "runtimeConfig": {"portMappings": mappings}})
}

/// Calls our plugin for the container of that name. What it prints, or the error that it prints.
pub(crate) fn call(command: &str, name: &str, conf: &Value) -> Result<Value, Value> {
    let namespace = namespace_path(name);
    call_with(command, name, namespace.to_str().unwrap(), conf)
}

pub(crate) fn call_with(command: &str, name: &str, namespace: &str, conf: &Value) -> Result<Value, Value> {
    let variables = variables(command, name, namespace);
    let answer = plugin::main(&variables, &mut conf.to_string().as_bytes());
    let printed = serde_json::from_slice(&answer.stdout).unwrap_or(Value::Null);
    if answer.exit_code == 0 { Ok(printed) } else { Err(printed) }
}

pub(crate) fn variables(command: &str, name: &str, namespace: &str) -> BTreeMap<String, String> {
    let variables = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", name),
        ("CNI_NETNS", namespace),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default"),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A container that was added, with its addresses in the order of the ranges.
#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) namespace: NamespaceFile,
    pub(crate) result: Value,
    pub(crate) addresses: Vec<IpAddr>,
}

#[track_caller]
pub(crate) fn add(name: &str, conf: &Value) -> Added {
    let namespace = container(name);
    let result = call("ADD", name, conf).unwrap_or_else(|error| panic!("{error}"));
    let addresses = addresses(&result);
    Added { namespace, result, addresses }
}

pub(crate) fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap()).collect()
}

#[track_caller]
pub(crate) fn delete(name: &str, conf: &Value) {
    call("DEL", name, conf).unwrap_or_else(|error| panic!("{error}"));
}

/// Makes a TCP connection from one place to another: `target` is asked, and has to lead to `listen`. Gives the address
/// that the server sees, if anything comes.
pub(crate) fn connect(
    client: &NamespaceFile,
    target: SocketAddr,
    server: &NamespaceFile,
    listen: SocketAddr,
) -> io::Result<IpAddr> {
    let listener = server.run(|| bound(|| TcpListener::bind(listen))).unwrap().unwrap();
    listener.set_nonblocking(true).unwrap();
    let _connection = client.run(|| TcpStream::connect_timeout(&target, PATIENCE)).unwrap()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((_, peer)) => return Ok(peer.ip()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
}

/// A program that another test just starts has our descriptors until it is executed, so that a socket that was closed
/// may for a moment still be there.
fn bound<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

/// The same with a UDP packet and its answer.
pub(crate) fn ask(
    client: &NamespaceFile,
    target: SocketAddr,
    server: &NamespaceFile,
    listen: SocketAddr,
) -> io::Result<IpAddr> {
    let server = server.run(|| bound(|| UdpSocket::bind(listen))).unwrap().unwrap();
    let any: IpAddr = if target.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
    let client = client.run(|| UdpSocket::bind((any, 0))).unwrap().unwrap();
    client.connect(target)?;
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(b"?")?;
    let (_, peer) = server.recv_from(&mut [0; 8])?;
    server.send_to(b"!", peer)?;
    client.recv(&mut [0; 8])?;
    Ok(peer.ip())
}

/// Everything on this host that a plugin may leave behind: links, leases, rules.
pub(crate) fn belongings() -> BTreeMap<&'static str, Vec<String>> {
    let words = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let links = run("ip -o link show").lines().map(words).collect();
    let rules = ["iptables", "ip6tables"].map(|program| run(&format!("{program}-save -t nat")));
    let rules = rules.iter().flat_map(|text| text.lines()).filter(|line| line.contains("SWITCHYARD"));
    BTreeMap::from([("links", links), ("leases", leases()), ("rules", rules.map(str::to_owned).collect())])
}

/// The addresses that are leased.
pub(crate) fn leases() -> Vec<String> {
    let Ok(entries) = fs::read_dir(Path::new(DATA).join("pods")) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut leases: Vec<String> = names.filter(|name| name.parse::<IpAddr>().is_ok()).collect();
    leases.sort();
    leases
}

/// Puts one program in the place of another for this host, under all names of the other's.
pub(crate) fn replace_program(name: &str, by: &Path) {
    let path = std::env::var_os("PATH").unwrap();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join(name));
    let place = programs.find(|program| program.exists()).unwrap().canonicalize().unwrap();
    if place != by.canonicalize().unwrap() {
        mount(Some(by), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    }
}

/// A script of its own in this host's `/run`.
pub(crate) fn script(path: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = Path::new("/run").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A folder with our plugin in it, as a program of its own.
pub(crate) fn plugin_folder() -> PathBuf {
    let folder = PathBuf::from("/run/bin");
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), folder.join("switchyard-cni")).unwrap();
    folder
}

/// JSON objects as the runtime takes them.
pub(crate) fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("{value} is no object") };
    object
}
