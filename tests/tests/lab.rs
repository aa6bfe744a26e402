//! The lab as its user meets it: brought up, looked at, killed in parts, taken down.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Arguments;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use switchyard_kernel::link::Links;
use switchyard_kernel::namespace::Namespace;
use switchyard_kernel::process::Process;
use switchyard_tests::harness::{Test, trial};
use switchyard_tests::lab::{Lab, listing};
use switchyard_tests::proxy::binary;
use switchyard_tests::wait::eventually;

/// Far more than a restart takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Somebody's kubeconfig before there is a lab.
const THEIRS: &str = "\
apiVersion: v1
kind: Config
clusters: [{name: prod, cluster: {server: \"https://192.0.2.9:6443\"}}]
users: [{name: me, user: {token: \"0123\"}}]
contexts: [{name: prod, context: {cluster: prod, user: me}}]
current-context: prod
";

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let tests: [(&str, Test); 13] = [
        ("a_lab_is_looked_at_and_leaves_no_trace", looked_at),
        ("labs_stand_side_by_side", side_by_side),
        ("what_is_killed_comes_back", killed_parts),
        ("a_lab_whose_keeper_was_killed_is_taken_away_and_made_anew", killed_keeper),
        ("an_up_that_is_killed_leaves_what_down_takes_away", killed_up),
        ("an_up_that_is_interrupted_leaves_nothing", interrupted_up),
        ("a_second_lab_of_one_name_is_refused_and_leaves_the_first", same_name),
        ("ranges_that_collide_are_refused", collisions),
        ("what_fails_is_told_with_its_log_and_leaves_nothing", failing_part),
        ("entries_of_others_in_the_kubeconfig_are_not_touched", kubeconfig),
        ("pods_are_places_and_go_with_the_lab", pods),
        ("a_lab_of_two_families_has_both_everywhere", two_families),
        ("without_root_one_line_says_so", without_root),
    ];
    let trials = tests.map(|(name, test)| trial(name.to_owned(), test));
    Ok(libtest_mimic::run(&args, trials.into()).exit_code())
}

fn contains(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "{word:?} is not in:\n{text}");
    }
    Ok(())
}

fn leaves_nothing(lab: &Lab) -> Result<()> {
    let traces = lab.traces()?;
    ensure!(traces.is_empty(), "these are left:\n{}", traces.join("\n"));
    Ok(())
}

/// What of this machine a lab must not change.
fn host() -> Result<Vec<String>> {
    let settings = [
        "net.ipv4.ip_forward",
        "net.ipv6.conf.all.forwarding",
        "net.bridge.bridge-nf-call-iptables",
        "net.netfilter.nf_conntrack_max",
        "net.ipv4.conf.all.route_localnet",
    ];
    let listings = [
        listing("ip", &["rule"])?,
        listing("ip", &["route", "show", "table", "all"])?,
        listing("ip", &["-6", "route", "show", "table", "all"])?,
        listing("ip", &["-brief", "link"])?,
        listing("iptables-save", &["-t", "nat"])?,
        listing("nft", &["list", "ruleset"])?,
        listing("sysctl", &settings)?,
        fs::read_to_string("/sys/module/nf_conntrack/parameters/hashsize").unwrap_or_default(),
    ];
    // Comments of iptables-save have the time in them.
    let without_comments =
        |text: String| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    Ok(listings.map(without_comments).into())
}

fn looked_at() -> Result<()> {
    let before = host()?;
    let lab = Lab::new("seen")?;
    let told = lab.succeed(&["up"])?;
    contains(&told, &["✓ Network built", "✓ API server ready", "✓ Nodes ready", "kubectl get nodes"])?;
    ensure!(!told.contains(['\r', '\x1b']), "that is no terminal:\n{told}");

    contains(&lab.kubectl(&["get", "nodes"])?, &["node-1   Ready", "node-2   Ready", "node-3   Ready"])?;
    let status = lab.status()?;
    for (index, node) in status["nodes"].as_array().context("no nodes")?.iter().enumerate() {
        let number = index + 1;
        ensure!(node["name"] == format!("node-{number}"), "{node}");
        ensure!(node["addresses"][0] == format!("172.30.0.{}", 10 + number), "{node}");
        ensure!(node["podRanges"][0] == format!("10.244.{number}.0/24"), "{node}");
    }
    for part in status["parts"].as_array().context("no parts")? {
        ensure!(part["pid"].is_i64() && part["pss"].as_u64() > Some(0) && part["restarts"] == 0, "{part}");
    }
    contains(&lab.succeed(&["status"])?, &["is up", "node-3/proxy", "172.30.0.13"])?;
    places(&lab)?;
    logs(&lab)?;

    contains(&lab.succeed(&["down"])?, &["is gone"])?;
    leaves_nothing(&lab)?;
    ensure!(!lab.kubeconfig().exists(), "the kubeconfig is left");
    for (old, new) in before.into_iter().zip(host()?) {
        ensure!(old == new, "this machine was\n{old}\nand is\n{new}");
    }
    contains(&lab.succeed(&["down"])?, &["is not there"])
}

fn places(lab: &Lab) -> Result<()> {
    let node = lab.succeed(&["shell", "node-2", "--", "ip", "-brief", "address"])?;
    contains(&node, &["172.30.0.12/24"])?;
    ensure!(!node.contains("172.30.0.11"), "{node}");
    contains(&lab.succeed(&["shell", "node-1", "--", "kubectl", "get", "nodes"])?, &["node-3"])?;
    let ended = lab.run(&["shell", "control", "--", "sh", "-c", "exit 7"])?.status;
    ensure!(ended.code() == Some(7), "{ended}");
    ensure!(lab.run(&["shell", "control", "--", "no-such-program"])?.status.code() == Some(127));

    let health = "http://172.30.0.13:10256/healthz";
    lab.succeed(&["shell", "outside", "--", "curl", "-sSf", "--max-time", "5", health])?;
    let routes = lab.succeed(&["shell", "outside", "--", "ip", "route"])?;
    ensure!(routes.trim().lines().count() == 1 && routes.starts_with("172.30.0.0/24"), "{routes}");

    // kubectl's context says which lab is meant.
    let mut shell = lab.command(&[])?;
    contains(
        &String::from_utf8(shell.args(["shell", "node-3", "--", "ip", "-br", "a"]).output()?.stdout)?,
        &["172.30.0.13"],
    )?;
    let mut trace = lab.command(&[])?;
    trace.args(["trace", "node-2", "kubernetes:https", "--send"]);
    let traced = String::from_utf8(trace.output()?.stdout)?;
    contains(&traced, &["10.96.0.1:443/TCP", "which sees 172.30.0.12: as foretold"])?;

    contains(&lab.fail(&["shell", "node-4"])?, &["\"node-4\"", "node-3", "outside", "control"])?;
    contains(&lab.fail(&["shell", "pod/db"])?, &["\"pod/db\"", "node-1"])
}

fn logs(lab: &Lab) -> Result<()> {
    contains(&lab.succeed(&["logs", "node-1"])?, &["Using iptables Proxier"])?;
    contains(&lab.succeed(&["logs", "node-1/proxy"])?, &["Using iptables Proxier"])?;
    contains(&lab.succeed(&["logs", "control"])?, &["ready"])?;
    lab.succeed(&["logs", "keeper"])?;

    let mut following = lab.command(&["logs", "node-3", "-f"])?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(following.stdout.take().context("no output")?).lines();
    lab.kubectl(&["create", "service", "clusterip", "db-service", "--tcp=3306"])?;
    let added = lines.find(|line| {
        line.as_ref()
            .is_ok_and(|line| line.contains("Adding new service port") && line.contains("db-service"))
    });
    following.kill()?;
    following.wait()?;
    ensure!(added.is_some(), "the log ended");
    contains(&lab.fail(&["logs", "node-9"])?, &["\"node-9\"", "node-1", "control", "node-1/proxy"])
}

fn side_by_side() -> Result<()> {
    // The one's name begins with the other's.
    let (one, other) = (Lab::up("two", &["--nodes=1"])?, Lab::up("two-b", &["--nodes=2"])?);
    ensure!(one.status()?["server"] != other.status()?["server"], "both are at one port");
    // In the middle of what it takes away.
    let program = binary()?.display().to_string();
    one.run(&["shell", "node-1", "--", &program, "down", "--name", one.name()])?;
    ensure!(!fs::exists(format!("/run/netns/{}-node-1", one.name()))?, "the first is left");
    contains(&other.kubectl(&["get", "nodes", "-o", "name"])?, &["node/node-2"])?;
    other.succeed(&["shell", "node-2", "--", "true"])?;
    other.succeed(&["down"])?;
    leaves_nothing(&one)?;
    leaves_nothing(&other)
}

fn kill_part(lab: &Lab, part: &str) -> Result<()> {
    let pid = lab.pid(part)?;
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    // Not before it is known to have ended is its place in the record free for the next.
    eventually(LIMIT, || {
        ensure!(lab.pid(part)? != pid, "{part} has not started again");
        Ok(())
    })
}

fn killed_parts() -> Result<()> {
    let lab = Lab::up("parts", &["--nodes=1"])?;
    let server = lab.status()?["server"].clone();
    kill(Pid::from_raw(lab.pid("control/apiserver")?), Signal::SIGKILL)?;
    // Nobody is refused meanwhile, and what was there is there.
    contains(&lab.kubectl(&["get", "nodes"])?, &["node-1"])?;
    ensure!(lab.status()?["server"] == server, "the port is another one");

    kill_part(&lab, "node-1/proxy")?;
    kill_part(&lab, "node-1/agent")?;
    let health = ["shell", "outside", "--", "curl", "-sSf", "http://172.30.0.11:10256/healthz"];
    eventually(LIMIT, || lab.succeed(&health))?;
    let status = lab.status()?;
    for part in status["parts"].as_array().context("no parts")?.iter().skip(1) {
        ensure!(
            part["restarts"] == 1 && part["lastEnd"].as_str().is_some_and(|end| end.contains('9')),
            "{part}"
        );
    }
    contains(&lab.succeed(&["logs", "keeper"])?, &["node-1/proxy ended with signal: 9"])?;
    lab.succeed(&["down"])?;
    leaves_nothing(&lab)
}

fn killed_keeper() -> Result<()> {
    let lab = Lab::up("keeper", &["--nodes=1"])?;
    kill(Pid::from_raw(lab.pid("keeper")?), Signal::SIGKILL)?;
    eventually(LIMIT, || {
        let status = lab.run(&["status"])?;
        contains(&String::from_utf8_lossy(&status.stdout), &["has crashed", "switchyard up"])?;
        ensure!(!status.status.success(), "a crashed lab is told to be well");
        Ok(())
    })?;
    contains(&lab.kubectl(&["get", "nodes"])?, &["node-1"])?;
    contains(&lab.succeed(&["up", "--nodes=2"])?, &["✓ Removed what a crashed lab left", "✓ Nodes ready"])?;
    contains(&lab.kubectl(&["get", "nodes"])?, &["node-2"])?;

    for part in ["keeper", "control/apiserver", "node-1/proxy", "node-2/agent"] {
        kill(Pid::from_raw(lab.pid(part)?), Signal::SIGKILL)?;
    }
    lab.succeed(&["down"])?;
    leaves_nothing(&lab)
}

fn killed_up() -> Result<()> {
    let lab = Lab::new("halfway")?;
    for milliseconds in (0..400).step_by(40) {
        let mut up =
            lab.command(&["up", "--nodes=1"])?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // The moment is the point: there is nothing to wait for.
        thread::sleep(Duration::from_millis(milliseconds));
        up.kill()?;
        let was_killed = !up.wait()?.success();
        let context = || format!("killed after {milliseconds} ms");
        // Both know what to do with what is left.
        if was_killed && milliseconds % 80 == 0 {
            lab.succeed(&["up", "--nodes=1"]).with_context(context)?;
        }
        lab.succeed(&["down"]).with_context(context)?;
        leaves_nothing(&lab).with_context(context)?;
    }
    Ok(())
}

fn interrupted_up() -> Result<()> {
    let lab = Lab::new("ctrl-c")?;
    let up = lab.command(&["up"])?.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    eventually(LIMIT, || {
        ensure!(fs::exists(format!("/run/netns/{}-node-1", lab.name()))?, "nothing is built");
        Ok(())
    })?;
    kill(Pid::from_raw(up.id().try_into()?), Signal::SIGINT)?;
    let output = up.wait_with_output()?;
    ensure!(!output.status.success(), "it went on");
    contains(&String::from_utf8_lossy(&output.stderr), &["interrupted"])?;
    leaves_nothing(&lab)
}

fn same_name() -> Result<()> {
    let lab = Lab::up("same", &["--nodes=1"])?;
    let pid = lab.pid("control/apiserver")?;
    contains(&lab.fail(&["up"])?, &["is up", "switchyard down --name", "--name"])?;
    ensure!(lab.pid("control/apiserver")? == pid, "the first was touched");
    contains(&lab.kubectl(&["get", "nodes"])?, &["node-1"])
}

fn collisions() -> Result<()> {
    let lab = Lab::new("ranges")?;
    let refused = lab.fail(&["up", "--cluster-cidr=10.100.0.0/16"])?;
    contains(
        &refused,
        &["--service-cluster-ip-range 10.96.0.0/12", "--cluster-cidr 10.100.0.0/16", "overlap"],
    )?;

    // A machine with a route into the pods' range: this one is not to have it.
    let host = Namespace::create(&format!("{}route", lab.name()))?;
    let links = Links::open(&host)?;
    links.add_bridge("wg0")?;
    links.set_up("wg0")?;
    links.add_address("wg0", "192.0.2.7/24".parse()?)?;
    links.add_route("10.244.7.0/24".parse()?, IpAddr::from([192, 0, 2, 1]))?;
    let refused = host.run(|| lab.fail(&["up"]))??;
    contains(&refused, &["--cluster-cidr 10.244.0.0/16", "10.244.7.0/24 via 192.0.2.1 dev wg0"])?;
    leaves_nothing(&lab)
}

fn failing_part() -> Result<()> {
    let lab = Lab::new("fails")?;
    let told = lab.fail(&["up", "--proxy-mode=carrier-pigeon"])?;
    contains(&told, &["node-", "/proxy ended 3 times", "carrier-pigeon"])?;
    leaves_nothing(&lab)?;
    ensure!(!lab.kubeconfig().exists(), "the kubeconfig was written");

    let foreign = Namespace::create(&format!("{}-theirs", lab.name()))?;
    contains(&lab.fail(&["up"])?, &[foreign.name(), "ip netns delete"])?;
    lab.succeed(&["down"])?;
    ensure!(fs::exists(format!("/run/netns/{}", foreign.name()))?, "somebody else's namespace is gone");
    Ok(())
}

fn kubeconfig() -> Result<()> {
    let lab = Lab::new("config")?;
    let path = lab.kubeconfig();
    fs::create_dir_all(path.parent().context("no folder")?)?;
    let config = |args: &[&str]| lab.kubectl(&[&["config"], args].concat());
    fs::write(&path, THEIRS)?;
    let before = config(&["view", "--raw", "-o", "json"])?;

    lab.succeed(&["up", "--nodes=1"])?;
    let context = format!("switchyard-{}", lab.name());
    ensure!(config(&["current-context"])?.trim() == context, "it is not the current context");
    contains(&lab.kubectl(&["--context", &context, "get", "nodes"])?, &["node-1"])?;
    config(&["use-context", "prod"])?;
    lab.succeed(&["down"])?;
    let after = config(&["view", "--raw", "-o", "json"])?;
    ensure!(before == after, "the kubeconfig was\n{before}\nand is\n{after}");

    fs::write(&path, THEIRS.replace("name: prod", &format!("name: {context}")))?;
    contains(&lab.fail(&["up"])?, &["a cluster", &context, "--kubeconfig"])?;
    leaves_nothing(&lab)
}

fn pods() -> Result<()> {
    let lab = Lab::up("pods", &["--nodes=1"])?;
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/lecture/db-pod.yaml");
    lab.kubectl(&["apply", "-f", manifest])?;
    lab.kubectl(&["wait", "--for=condition=Ready", "--timeout=20s", "pod/db"])?;
    contains(&lab.succeed(&["shell", "pod/db", "--", "ip", "-brief", "address"])?, &["10.244.1.2/24"])?;
    contains(&lab.fail(&["shell", "pod/blue"])?, &["\"pod/blue\"", "pod/db"])?;

    // Whatever ends the agent, its pods go on.
    let processes = lab.processes()?;
    let of_pods = |all: &[Process]| all.iter().filter(|process| process.is_running()).count();
    kill_part(&lab, "node-1/agent")?;
    ensure!(of_pods(&processes) == processes.len() - 1, "a pod ended with its agent");
    let greeting = ["shell", "node-1", "--", "curl", "-s", "--max-time", "1", "telnet://10.244.1.2:3306"];
    contains(&String::from_utf8_lossy(&lab.run(&greeting)?.stdout), &["pod db on node-1"])?;

    let processes = lab.processes()?;
    for part in ["keeper", "node-1/agent"] {
        kill(Pid::from_raw(lab.pid(part)?), Signal::SIGKILL)?;
    }
    lab.succeed(&["down"])?;
    ensure!(of_pods(&processes) == 0, "some of {processes:?} still run");
    leaves_nothing(&lab)
}

fn two_families() -> Result<()> {
    let services = "--service-cluster-ip-range=10.96.0.0/12,fd00:10:96::/112";
    let lab = Lab::up("both", &["--nodes=2", services, "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"])?;
    let status = lab.status()?;
    let node = &status["nodes"][1];
    ensure!(node["addresses"] == json!(["172.30.0.12", "fd00:172:30::c"]), "{node}");
    ensure!(node["podRanges"] == json!(["10.244.2.0/24", "fd00:10:244:2::/64"]), "{node}");
    for (family, route) in
        [("-4", "10.244.2.0/24 via 172.30.0.12"), ("-6", "fd00:10:244:2::/64 via fd00:172:30::c")]
    {
        eventually(LIMIT, || {
            contains(&lab.succeed(&["shell", "node-1", "--", "ip", family, "route"])?, &[route])
        })?;
    }
    Ok(())
}

fn without_root() -> Result<()> {
    for args in [&["up"][..], &["down"], &["status"], &["shell", "node-1"], &["logs", "node-1"]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary()?).args(args);
        let output = command.stdin(Stdio::null()).output().context("running setpriv")?;
        ensure!(!output.status.success(), "{args:?} succeeded");
        contains(&String::from_utf8_lossy(&output.stderr), &["root", "sudo"])?;
    }
    Ok(())
}
