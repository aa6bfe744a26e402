//! Agents that are killed, at any moment.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use switchyard_agent::runtime::process::ProcessRuntime;
use switchyard_agent::runtime::{Runtime, State};
use switchyard_kernel::namespace::{self, Namespace};

use crate::host::{
    Host, LONG, Tests, a_long_time, container, eventually, folder, processes, sandbox, settings, uid,
};

/// Makes this program an agent.
pub(crate) const AGENT: &str = "agent-to-be-killed";

pub(crate) const TESTS: Tests = &[
    ("pods_outlive_the_agent", pods_outlive_the_agent),
    ("a_kill_at_any_moment_leaves_nothing_unknown", a_kill_at_any_moment_leaves_nothing_unknown),
    ("what_nobody_knows_of_is_removed", what_nobody_knows_of_is_removed),
];

/// Beside the runtime that every test has.
const PREFIX: &str = "killed_node";

/// What such an agent does until it is killed.
pub(crate) fn be_an_agent(what: &[String]) -> ! {
    let host = Host::open(Path::new(&what[1]), PREFIX);
    let runtime = &host.runtime;
    let ready = || std::io::stdout().write_all(b"ready\n").unwrap();
    if what[0] == "run" {
        runtime.create_sandbox(&sandbox("web")).unwrap();
        let script = "trap 'echo asked; exit 3' TERM; while :; do echo tick; sleep 0.01; done";
        runtime.start_container(&uid("web"), &container("main", &["sh", "-c", script])).unwrap();
        ready();
        thread::sleep(LONG);
    }
    ready();
    loop {
        for name in ["web", "db"] {
            runtime.create_sandbox(&sandbox(name)).unwrap();
            runtime.start_container(&uid(name), &container("main", &["sleep", &what[2]])).unwrap();
        }
        for name in ["web", "db"] {
            runtime.remove_sandbox(&uid(name)).unwrap();
        }
    }
}

/// Starts one, which is at it when this returns.
fn agent(what: &str, folder: &Path, time: &str) -> Child {
    // As of a shell's background, where signals are ignored; pods must not inherit that.
    let ignoring = ["-c", "trap '' HUP INT QUIT TERM; exec \"$0\" \"$@\""];
    let mut command = Command::new("sh");
    command.args(ignoring).arg(std::env::current_exe().unwrap()).args([AGENT, what]).arg(folder).arg(time);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn kill(mut agent: Child) {
    agent.kill().unwrap();
    agent.wait().unwrap();
}

fn pods_outlive_the_agent(_: &Host) {
    let folder = folder();
    kill(agent("run", &folder, ""));
    let host = Host::open(&folder, PREFIX);
    let pods = host.runtime.sandboxes().unwrap();
    let [pod] = &pods[..] else { panic!("{pods:?}") };
    assert!(pod.alive);
    assert_eq!((pod.pod.name.as_str(), pod.annotations["note"].as_str()), ("web", "kept"));
    assert_eq!(host.runtime.create_sandbox(&sandbox("web")).unwrap(), *pod);
    assert_eq!(host.container(pod, "main").state, State::Running);
    let ticks = || host.output(pod, "main").lines().count();
    let before = ticks();
    eventually("output goes on", || (ticks() > before + 5).then_some(()));
    host.runtime.stop_container(&uid("web"), "main", LONG).unwrap();
    assert_eq!(host.end(pod, "main").exit_code, 3);
    assert!(host.output(pod, "main").ends_with("asked\n"));
    // Also one that ended while there was no agent.
    host.start(pod, &["sh", "-c", "sleep 0.2; exit 4"]);
    let ended = |_: &Host| thread::sleep(Duration::from_millis(300));
    let host = replaced(host, ended);
    assert_eq!(host.end(pod, "main").exit_code, 4);
}

/// The runtime opened again, as an agent does that was told to end and is started some time later.
fn replaced(mut host: Host, meanwhile: impl FnOnce(&Host)) -> Host {
    host.runtime = ProcessRuntime::open(settings(&folder(), "elsewhere")).unwrap();
    meanwhile(&host);
    host.runtime = ProcessRuntime::open(settings(&host.folder, PREFIX)).unwrap();
    host
}

fn a_kill_at_any_moment_leaves_nothing_unknown(_: &Host) {
    let (folder, time) = (folder(), a_long_time());
    for round in 0..30 {
        let agent = agent("churn", &folder, &time);
        // Not a wait for anything: where in its work it is hit shall differ.
        thread::sleep(Duration::from_millis(round * 7));
        kill(agent);
        let host = Host::open(&folder, PREFIX);
        let known: Vec<String> =
            host.runtime.sandboxes().unwrap().into_iter().map(|pod| pod.pod.uid).collect();
        // What was there, in whatever state, can be made to work, or be removed.
        let pod = host.pod("web");
        if host.runtime.containers(&uid("web")).unwrap().iter().all(|found| found.state != State::Running) {
            host.start(&pod, &["sleep", &time]);
        }
        for uid in known.iter().chain([&uid("web")]) {
            host.runtime.remove_sandbox(uid).unwrap();
        }
        assert!(host.runtime.sandboxes().unwrap().is_empty());
        assert_eq!(host.files(), [""; 0].map(PathBuf::from), "round {round}");
        assert_eq!(namespace::list().unwrap(), [""; 0], "round {round}");
        for name in ["web", "db"] {
            assert_eq!(host.sandbox_processes(name), [0; 0], "round {round}");
        }
        assert_eq!(processes(&time), [0; 0], "round {round}");
    }
}

fn what_nobody_knows_of_is_removed(_: &Host) {
    let folder = folder();
    drop(Host::open(&folder, PREFIX));
    let path = |path: &str| folder.join(path);
    fs::create_dir_all(path("pods/half-made/logs")).unwrap();
    fs::write(path("pods/half-made/sandbox.new"), "{").unwrap();
    fs::write(path("alive/half-removed"), "").unwrap();
    // As a machine leaves it that went down.
    fs::create_dir_all(path("pods/empty")).unwrap();
    fs::write(path("pods/empty/sandbox.json"), "").unwrap();
    // As it is left when the folder was deleted by hand.
    let name = format!("{PREFIX}_default_web_web-0000");
    drop(Namespace::create(&name).unwrap().keep().unwrap());

    let host = Host::open(&folder, PREFIX);
    assert!(host.runtime.sandboxes().unwrap().is_empty());
    assert_eq!(host.files(), [""; 0].map(PathBuf::from));
    let pod = host.pod("web");
    assert_eq!(pod.network, Some(namespace::path(&name)));
    assert!(host.shell(&pod, "ip link").contains("LOOPBACK,UP"));
}
