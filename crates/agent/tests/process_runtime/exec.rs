//! Commands in containers, and connections into pods.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use switchyard_agent::runtime::{ExecSpec, Process, Runtime, RuntimeError, Sandbox, Streams};

use crate::host::{Host, Tests, a_long_time, container, eventually, processes, uid};

pub(crate) const TESTS: Tests = &[
    ("it_runs_beside_the_container", it_runs_beside_the_container),
    ("streams_and_exit_code", streams_and_exit_code),
    ("a_terminal_and_its_size", a_terminal_and_its_size),
    ("dropping_it_ends_it", dropping_it_ends_it),
    ("it_is_resized_and_ended_while_somebody_waits", it_is_resized_and_ended_while_somebody_waits),
    ("it_has_no_more_privileges", it_has_no_more_privileges),
    ("what_cannot_run_is_told", what_cannot_run_is_told),
    ("ports_of_the_pod_are_reached", ports_of_the_pod_are_reached),
];

fn exec(host: &Host, command: &[&str], tty: bool) -> Box<dyn Process> {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    host.runtime.exec(&uid("web"), "main", &ExecSpec { command, tty }).unwrap()
}

/// Runs a shell script to its end, and gives what it printed and its exit code.
fn shell(host: &Host, script: &str) -> (String, i32) {
    let mut process = exec(host, &["sh", "-c", script], false);
    let Streams { input, output, errors } = process.streams().unwrap();
    drop(input);
    let mut text = String::new();
    File::from(output).read_to_string(&mut text).unwrap();
    File::from(errors.unwrap()).read_to_string(&mut text).unwrap();
    (text, process.wait().unwrap())
}

fn running(host: &Host) -> Sandbox {
    let pod = host.pod("web");
    let mut spec = container("main", &["sh", "-c", "echo mine > /tmp/file; echo begun; sleep 600"]);
    spec.env = vec![("COLOUR".to_owned(), "blue".to_owned())];
    spec.working_dir = Some("/usr".to_owned());
    host.runtime.start_container(&uid("web"), &spec).unwrap();
    host.wait_for_output(&pod, "main", "begun");
    pod
}

fn it_runs_beside_the_container(host: &Host) {
    running(host);
    let script = "cat /tmp/file; hostname; pwd; echo $COLOUR; tr '\\0' ' ' </proc/1/cmdline | cut -c 1-7; ip -o link | wc -l";
    assert_eq!(shell(host, script), ("mine\nweb\n/usr\nblue\nsh -c e\n1\n".to_owned(), 0));
}

fn streams_and_exit_code(host: &Host) {
    running(host);
    assert_eq!(shell(host, "echo out; echo err >&2; exit 7"), ("out\nerr\n".to_owned(), 7));
    assert_eq!(shell(host, "kill -9 $$").1, 137);
    let mut process = exec(host, &["cat"], false);
    let Streams { input, output, .. } = process.streams().unwrap();
    assert!(process.streams().is_none(), "they are given once");
    let mut input = File::from(input);
    input.write_all(b"through").unwrap();
    drop(input);
    let mut text = String::new();
    File::from(output).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    assert_eq!(process.wait().unwrap(), 0);
    assert!(process.resize(80, 24).is_err());
}

fn a_terminal_and_its_size(host: &Host) {
    running(host);
    let script = "trap 'echo interrupted; exit 5' INT; tty; until [ $(stty size | cut -d ' ' -f 2) = 132 ]; do sleep 0.01; done; echo wide; while :; do sleep 0.01; done";
    let mut process = exec(host, &["sh", "-c", script], true);
    let Streams { input, output, errors } = process.streams().unwrap();
    assert!(errors.is_none());
    let mut output = Reading { file: File::from(output), text: String::new() };
    output.until("/dev/pts/0\r\n");
    process.resize(132, 43).unwrap();
    output.until("wide\r\n");
    // What a person types to interrupt a program.
    File::from(input).write_all(b"\x03").unwrap();
    output.until("interrupted\r\n");
    assert_eq!(process.wait().unwrap(), 5);
}

struct Reading {
    file: File,
    text: String,
}

impl Reading {
    /// Reads on until there is something.
    #[track_caller]
    fn until(&mut self, text: &str) {
        while !self.text.contains(text) {
            let mut buffer = [0; 1000];
            let length = self.file.read(&mut buffer).unwrap();
            assert!(length > 0, "{}", self.text);
            self.text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
    }
}

fn dropping_it_ends_it(host: &Host) {
    running(host);
    for tty in [false, true] {
        let time = a_long_time();
        let process = exec(host, &["sh", "-c", &format!("sleep {time} & sleep {time}")], tty);
        eventually("both run", || (processes(&time).len() >= 2).then_some(()));
        drop(process);
        eventually("they ended", || processes(&time).is_empty().then_some(()));
    }
}

fn it_is_resized_and_ended_while_somebody_waits(host: &Host) {
    running(host);
    let process = exec(host, &["sleep", "600"], true);
    std::thread::scope(|scope| {
        let code = scope.spawn(|| process.wait().unwrap());
        process.resize(132, 43).unwrap();
        process.end();
        assert_eq!(code.join().unwrap(), 137);
    });
    process.end();
    assert_eq!(process.wait().unwrap(), 137, "it is known from then on");
}

fn it_has_no_more_privileges(host: &Host) {
    let pod = running(host);
    let script = "grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status; touch /etc/file-of-a-test 2>/dev/null || echo read-only; ls /proc/self/fd | wc -l; env | sort | grep -v -E '^(PWD|_)='";
    let (text, _) = shell(host, script);
    host.runtime.stop_container(&uid("web"), "main", Duration::ZERO).unwrap();
    let mut same = container("main", &["sh", "-c", script]);
    same.env = vec![("COLOUR".to_owned(), "blue".to_owned())];
    host.runtime.start_container(&uid("web"), &same).unwrap();
    host.end(&pod, "main");
    assert_eq!(text, host.output(&pod, "main"));
    assert!(text.contains("read-only"), "{text}");
}

fn what_cannot_run_is_told(host: &Host) {
    let pod = running(host);
    let exec = |name: &str, program: &str| {
        let spec = ExecSpec { command: vec![program.to_owned()], tty: false };
        host.runtime.exec(&uid("web"), name, &spec).map(drop).unwrap_err()
    };
    let error = exec("main", "no-such-program");
    assert!(
        matches!(&error, RuntimeError::Command { program, .. } if program == "no-such-program"),
        "{error:?}"
    );
    assert!(exec("other", "true").to_string().contains("no container"));
    host.runtime.stop_container(&uid("web"), "main", Duration::ZERO).unwrap();
    host.end(&pod, "main");
    assert!(exec("main", "true").to_string().contains("not running"));
}

fn ports_of_the_pod_are_reached(host: &Host) {
    let pod = host.pod("web");
    let mut spec = container("main", &[]);
    spec.image = "switchyard/tcp-udp-echo".to_owned();
    spec.args = vec!["7000".to_owned()];
    host.runtime.start_container(&pod.pod.uid, &spec).unwrap();
    let mut connection = eventually("it listens", || host.runtime.connect(&pod.pod.uid, 7000).ok());
    connection.write_all(b"hello\n").unwrap();
    let mut buffer = [0; 100];
    let length = connection.read(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]);
    // By either address: it may begin to listen between the two attempts.
    let loopback = ["127.0.0.1", "[::1]"].iter().any(|address| text.contains(address));
    assert!(text.starts_with("web on ") && loopback, "{text}");

    let error = host.runtime.connect(&pod.pod.uid, 7001).unwrap_err();
    assert!(error.to_string().contains("port 7001 in pod default/web"), "{error}");
    assert!(host.runtime.connect(&uid("other"), 7000).is_err());
}
