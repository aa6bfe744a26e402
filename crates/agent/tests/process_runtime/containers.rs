//! What containers are started from, and what becomes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use switchyard_agent::runtime::{ContainerSpec, Run, Runtime, RuntimeError, State};

use crate::host::{Host, LONG, Tests, a_long_time, container, eventually, plain, processes, uid};

pub(crate) const TESTS: Tests = &[
    ("environment_arguments_and_directory", environment_arguments_and_directory),
    ("how_it_ended_is_told", how_it_ended_is_told),
    ("it_is_asked_to_end", it_is_asked_to_end),
    ("it_is_ended_when_the_grace_is_over", it_is_ended_when_the_grace_is_over),
    ("a_plain_program_ends_at_once", a_plain_program_ends_at_once),
    ("sigterm_that_is_held_back_for_a_moment_counts", sigterm_that_is_held_back_for_a_moment_counts),
    ("what_it_started_ends_with_it", what_it_started_ends_with_it),
    ("the_next_takes_the_place_of_the_one_before", the_next_takes_the_place_of_the_one_before),
    ("one_of_a_name_runs_at_a_time", one_of_a_name_runs_at_a_time),
    ("what_cannot_run_is_told", what_cannot_run_is_told),
    ("files_of_the_agent_are_seen", files_of_the_agent_are_seen),
    ("output_is_logged_by_stream_and_line", output_is_logged_by_stream_and_line),
    ("much_output_is_logged", much_output_is_logged),
    ("a_terminal", a_terminal),
    ("input_that_never_ends", input_that_never_ends),
    ("ends_are_heard_of_later_too", ends_are_heard_of_later_too),
];

/// A shell that does something on SIGTERM, and lets it be known that it is prepared.
const TRAP: &str = "sleep 600 & echo prepared; wait";

fn with(change: impl FnOnce(&mut ContainerSpec)) -> ContainerSpec {
    let mut spec = container("main", &[]);
    change(&mut spec);
    spec
}

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

fn environment_arguments_and_directory(host: &Host) {
    let pod = host.pod("web");
    let spec = with(|spec| {
        spec.command = words(&["sh", "-c"]);
        spec.args = words(&["pwd; env | sort; cat /etc/hostname", "unused"]);
        spec.env =
            vec![("COLOUR".to_owned(), "a blue = one\n".to_owned()), ("HOME".to_owned(), "/tmp".to_owned())];
        spec.working_dir = Some("/usr/share".to_owned());
    });
    host.runtime.start_container(&pod.pod.uid, &spec).unwrap();
    assert_eq!(host.end(&pod, "main").exit_code, 0);
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        host.output(&pod, "main"),
        format!(
            "/usr/share\n\nCOLOUR=a blue = one\nHOME=/tmp\nHOSTNAME=web\nPATH={path}\nPWD=/usr/share\nweb\n"
        )
    );
}

fn how_it_ended_is_told(host: &Host) {
    let pod = host.pod("web");
    for (script, code, signal) in [
        ("exit 0", 0, None),
        ("exit 42", 42, None),
        ("ulimit -c 0; ulimit -t 1; while :; do :; done", 137, Some(9)),
    ] {
        host.start(&pod, &["sh", "-c", script]);
        let end = host.end(&pod, "main");
        assert_eq!((end.exit_code, end.signal), (code, signal), "{script}");
        let container = host.container(&pod, "main");
        assert!(container.started <= end.at, "{container:?}");
        assert_eq!((container.image.as_str(), container.restarts), ("example.com/any:1", 0));
    }
}

fn it_is_asked_to_end(host: &Host) {
    let pod = host.pod("web");
    host.start(&pod, &["sh", "-c", &format!("trap 'echo asked; exit 3' TERM; {TRAP}")]);
    host.wait_for_output(&pod, "main", "prepared");
    host.runtime.stop_container(&uid("web"), "main", LONG).unwrap();
    assert_eq!(host.end(&pod, "main").exit_code, 3);
    assert_eq!(host.output(&pod, "main"), "prepared\nasked\n");
    // It has ended already.
    host.runtime.stop_container(&uid("web"), "main", LONG).unwrap();
    assert!(host.runtime.stop_container(&uid("web"), "other", LONG).is_err());
}

fn it_is_ended_when_the_grace_is_over(host: &Host) {
    let pod = host.pod("web");
    host.start(&pod, &["sh", "-c", &format!("trap '' TERM; {TRAP}")]);
    host.wait_for_output(&pod, "main", "prepared");
    let (begin, grace) = (Instant::now(), Duration::from_millis(300));
    std::thread::scope(|scope| {
        // Others may ask too, and be more patient.
        scope.spawn(|| host.runtime.stop_container(&uid("web"), "main", LONG).unwrap());
        scope.spawn(|| host.runtime.stop_container(&uid("web"), "main", grace).unwrap());
    });
    assert!(begin.elapsed() >= grace);
    let end = host.end(&pod, "main");
    assert_eq!((end.exit_code, end.signal), (137, Some(9)));
}

/// The kernel keeps SIGTERM from the first process of a process namespace unless it does something with it.
fn a_plain_program_ends_at_once(host: &Host) {
    let pod = host.pod("web");
    host.start(&pod, &["sleep", "600"]);
    host.runtime.stop_container(&uid("web"), "main", LONG).unwrap();
    let end = host.end(&pod, "main");
    assert_eq!((end.exit_code, end.signal), (143, Some(15)));
}

/// As shells do it while they start a program: the signal arrives, and is dropped when they let go of it.
fn sigterm_that_is_held_back_for_a_moment_counts(host: &Host) {
    let pod = host.pod("web");
    let script = "import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print('prepared', flush=True)
while signal.SIGTERM not in signal.sigpending(): time.sleep(0.001)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
time.sleep(600)";
    host.start(&pod, &["/usr/bin/python3", "-c", script]);
    host.wait_for_output(&pod, "main", "prepared");
    host.runtime.stop_container(&uid("web"), "main", LONG).unwrap();
    assert_eq!(host.end(&pod, "main").exit_code, 143);
}

fn what_it_started_ends_with_it(host: &Host) {
    let pod = host.pod("web");
    let time = a_long_time();
    let stubborn = format!("(trap '' TERM HUP INT; exec setsid sleep {time}) &");
    host.start(&pod, &["sh", "-c", &format!("{stubborn} setsid -f sleep {time}; echo both; sleep 600")]);
    host.wait_for_output(&pod, "main", "both");
    eventually("both run", || (processes(&time).len() == 2).then_some(()));
    host.runtime.stop_container(&uid("web"), "main", LONG).unwrap();
    assert_eq!(processes(&time), [0; 0]);
}

fn the_next_takes_the_place_of_the_one_before(host: &Host) {
    let pod = host.pod("web");
    let run = |restarts: u32| {
        let script = format!("echo run {restarts}");
        let spec = with(|spec| {
            spec.command = words(&["sh", "-c", &script]);
            spec.restarts = restarts;
        });
        host.runtime.start_container(&uid("web"), &spec).unwrap();
        host.end(&pod, "main");
    };
    let log =
        |run| fs::read_to_string(host.runtime.log(&uid("web"), "main", run)).map(|log| plain(&log)).ok();
    run(0);
    assert_eq!((log(Run::Newest).as_deref(), log(Run::Previous)), (Some("run 0\n"), None));
    run(1);
    run(2);
    assert_eq!(
        (log(Run::Newest).as_deref(), log(Run::Previous).as_deref()),
        (Some("run 2\n"), Some("run 1\n"))
    );
    // What could not even start leaves everything as it was.
    assert!(host.runtime.start_container(&uid("web"), &container("main", &["/no/such"])).is_err());
    assert_eq!(log(Run::Newest).as_deref(), Some("run 2\n"));
    let containers = host.runtime.containers(&uid("web")).unwrap();
    assert_eq!(containers.len(), 1);
    assert_eq!(containers[0].restarts, 2);
}

fn one_of_a_name_runs_at_a_time(host: &Host) {
    let pod = host.pod("web");
    host.start(&pod, &["sleep", "600"]);
    let error = host.runtime.start_container(&uid("web"), &container("main", &["true"])).unwrap_err();
    assert!(error.to_string().contains("running already"), "{error}");
    host.runtime.start_container(&uid("web"), &container("other", &["sleep", "600"])).unwrap();
    let containers = host.runtime.containers(&uid("web")).unwrap();
    assert_eq!(containers.len(), 2);
    assert!(containers.iter().all(|container| container.state == State::Running));
}

fn what_cannot_run_is_told(host: &Host) {
    host.pod("web");
    let start = |spec: &ContainerSpec| host.runtime.start_container(&uid("web"), spec).unwrap_err();

    let error = start(&container("main", &["no-such-program"]));
    let RuntimeError::Command { program, source } = error else { panic!("{error:?}") };
    assert_eq!((program.as_str(), source.kind()), ("no-such-program", std::io::ErrorKind::NotFound));

    let error = start(&container("main", &["/etc/passwd"]));
    let RuntimeError::Command { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);

    assert!(matches!(start(&container("main", &[])), RuntimeError::UnknownImage { .. }));

    let error = start(&with(|spec| {
        spec.command = words(&["true"]);
        spec.working_dir = Some("/no/such/folder".to_owned());
    }));
    assert!(error.to_string().contains("working directory /no/such/folder"), "{error}");

    let error = start(&with(|spec| {
        spec.command = words(&["true"]);
        spec.mounts = vec![(PathBuf::from("/etc/x"), PathBuf::from("/run/no-such-file"))];
    }));
    assert!(error.to_string().contains("/run/no-such-file"), "{error}");

    let error = start(&with(|spec| {
        spec.command = words(&["true"]);
        spec.mounts = vec![(PathBuf::from("/etc/no-such-file"), PathBuf::from("/etc/hostname"))];
    }));
    let RuntimeError::Io { doing, source } = error else { panic!("{error:?}") };
    assert_eq!(doing, "mounting at /etc/no-such-file");
    assert!(source.to_string().contains("the host has no such place"), "{source}");
    assert_eq!(host.runtime.containers(&uid("web")).unwrap(), []);

    let error = host.runtime.start_container(&uid("other"), &container("main", &["true"])).unwrap_err();
    assert!(error.to_string().contains("there is no sandbox"), "{error}");
}

fn files_of_the_agent_are_seen(host: &Host) {
    let pod = host.pod("web");
    fs::create_dir_all("/run/agent/settings").unwrap();
    fs::write("/run/agent/hosts", "10.244.1.2 web\n").unwrap();
    fs::write("/run/agent/settings/colour", "blue\n").unwrap();
    let mount = |inside: &str, outside: &str| (PathBuf::from(inside), Path::new("/run/agent").join(outside));
    let script = "cat /etc/hosts /settings/colour /var/run/secrets/token/colour /one/file
        for file in /etc/hosts /settings/new; do touch $file 2>/dev/null && echo changed $file; done
        echo shown
        until [ -e /settings/go ]; do sleep 0.01; done
        cat /settings/colour";
    let spec = with(|spec| {
        spec.command = words(&["sh", "-c", script]);
        spec.mounts = vec![
            mount("/etc/hosts", "hosts"),
            mount("/settings", "settings"),
            mount("/var/run/secrets/token", "settings"),
            mount("/one/file", "hosts"),
        ];
    });
    host.runtime.start_container(&uid("web"), &spec).unwrap();
    host.wait_for_output(&pod, "main", "shown");
    // A folder is the agent's own, so that what changes is seen.
    fs::write("/run/agent/settings/colour", "red\n").unwrap();
    fs::write("/run/agent/settings/go", "").unwrap();
    assert_eq!(host.end(&pod, "main").exit_code, 0);
    assert_eq!(host.output(&pod, "main"), "10.244.1.2 web\nblue\nblue\n10.244.1.2 web\nshown\nred\n");
    assert_eq!(fs::read_to_string("/run/agent/hosts").unwrap(), "10.244.1.2 web\n");
    assert!(!Path::new("/settings").exists(), "nothing is made on the host");
}

fn output_is_logged_by_stream_and_line(host: &Host) {
    let pod = host.pod("web");
    host.start(&pod, &["sh", "-c", "printf 'one\\n\\n'; sleep 0.1; echo two >&2; sleep 0.1; printf three"]);
    host.end(&pod, "main");
    let log = fs::read_to_string(host.runtime.log(&uid("web"), "main", Run::Newest)).unwrap();
    let entries: Vec<(&str, &str)> = log.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let texts: Vec<&str> = entries.iter().map(|(_, text)| *text).collect();
    assert_eq!(texts, ["stdout F one", "stdout F ", "stderr F two", "stdout P three"]);
    for (time, _) in entries {
        assert_eq!(time.len(), "2026-01-02T03:04:05.678901234Z".len(), "{time}");
        time.parse::<jiff::Timestamp>().unwrap();
    }
}

fn much_output_is_logged(host: &Host) {
    let pod = host.pod("web");
    host.start(&pod, &["sh", "-c", "seq 1 200000; seq 1 1000 >&2"]);
    assert_eq!(host.end(&pod, "main").exit_code, 0);
    let output = host.output(&pod, "main");
    assert_eq!(output.lines().count(), 201_000);
    assert!(output.contains("\n199999\n"));
}

fn a_terminal(host: &Host) {
    let pod = host.pod("web");
    let script = "test -t 0 && test -t 1 && tty && echo $TERM && echo >/dev/tty through";
    let spec = with(|spec| {
        spec.command = words(&["sh", "-c", script]);
        spec.tty = true;
    });
    host.runtime.start_container(&uid("web"), &spec).unwrap();
    assert_eq!(host.end(&pod, "main").exit_code, 0);
    assert_eq!(host.output(&pod, "main"), "/dev/pts/0\r\nxterm\r\nthrough\r\n");
}

fn input_that_never_ends(host: &Host) {
    let pod = host.pod("web");
    // Without input, `cat` has read all of it at once.
    host.start(&pod, &["cat"]);
    assert_eq!(host.end(&pod, "main").exit_code, 0);
    let spec = with(|spec| {
        spec.command = words(&["sh", "-c", "echo begun; cat"]);
        spec.stdin = true;
    });
    host.runtime.start_container(&uid("web"), &spec).unwrap();
    host.wait_for_output(&pod, "main", "begun");
    assert_eq!(host.container(&pod, "main").state, State::Running);
}

fn ends_are_heard_of_later_too(host: &Host) {
    let pod = host.pod("web");
    host.start(&pod, &["true"]);
    eventually("it ended", || (host.container(&pod, "main").state != State::Running).then_some(()));
    host.hear_of_an_end();
    // To look after sandboxes is no end.
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..10 {
                host.runtime.sandboxes().unwrap();
            }
        });
        host.runtime.wait_for_ends(Duration::from_millis(200)).unwrap();
    });
    assert!(begin.elapsed() >= Duration::from_millis(200));
}
