//! The demo as somebody meets it who has just cloned the project: the lecture, from nothing to the end.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Arguments;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use switchyard_lab::demo::NAME;
use switchyard_tests::harness::{Test, trial};
use switchyard_tests::proxy::binary;
use switchyard_tests::wait::eventually;

/// Far more than the lab takes to come up.
const LIMIT: Duration = Duration::from_secs(20);

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    // There is one demo a machine.
    args.test_threads = Some(1);
    let tests: [(&str, Test); 3] = [
        ("every_step_shows_what_it_should_and_nothing_is_left", every_step_shows_what_it_should),
        ("on_a_terminal_it_waits_for_enter_and_ctrl_c_ends_it", waits_for_enter),
        ("a_signal_takes_the_nodes_away_and_a_second_demo_leaves_them", a_signal_takes_the_nodes_away),
    ];
    let trials = tests.map(|(name, test)| trial(name.to_owned(), test));
    Ok(libtest_mimic::run(&args, trials.into()).exit_code())
}

fn demo() -> Result<Child> {
    let mut command = Command::new(binary()?);
    command.arg("demo").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("starting the demo")
}

fn every_step_shows_what_it_should() -> Result<()> {
    let Output { status, stdout, .. } = demo()?.wait_with_output()?;
    let story = String::from_utf8_lossy(&stdout);
    ensure!(status.success(), "the demo ended with {status}:\n{story}");
    for shown in [
        "db     1/1     Running   0",
        "10.103.132.104",
        "default/db-service",
        "-j DNAT --to-destination 10.244.1.2:3306",
        "--cluster-cidr 10.100.0.0/16 overlap",
        "as foretold",
        "through 172.30.0.13: pod: web-",
        "node-3: no rule left",
    ] {
        ensure!(story.contains(shown), "the story does not show {shown}:\n{story}");
    }
    ensure!(namespaces()?.is_empty(), "these are left: {:?}", namespaces()?);
    for folder in ["/var/lib/switchyard/labs/lecture", "/tmp/switchyard-lecture"] {
        ensure!(!fs::exists(folder)?, "{folder} is left");
    }
    Ok(())
}

fn waits_for_enter() -> Result<()> {
    let demo = format!("{} demo", binary()?.display());
    let mut command = Command::new("script");
    command.args(["-qefc", &demo, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = command.spawn().context("starting script (Debian package bsdutils)")?;
    let (mut keys, mut screen) = terminal.stdin.take().zip(terminal.stdout.take()).context("no pipes")?;
    let first = read_until(&mut screen, "(Enter goes on)")?;
    ensure!(first.contains("[1/") && !first.contains("[2/"), "it did not wait:\n{first}");
    keys.write_all(b"\n")?;
    let second = read_until(&mut screen, "(Enter goes on)")?;
    ensure!(second.contains("[2/") && !second.contains("[3/"), "it did not wait:\n{second}");
    const CTRL_C: &[u8] = &[3];
    keys.write_all(CTRL_C)?;
    terminal.wait()?;
    ensure!(namespaces()?.is_empty(), "these are left: {:?}", namespaces()?);
    Ok(())
}

fn read_until(screen: &mut impl Read, mark: &str) -> Result<String> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(mark) {
        let length = screen.read(&mut buffer)?;
        ensure!(length > 0, "it ended before {mark:?}:\n{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..length]);
    }
    Ok(String::from_utf8_lossy(&seen).into_owned())
}

fn a_signal_takes_the_nodes_away() -> Result<()> {
    let first = demo()?;
    let running = eventually(LIMIT, || {
        ensure!(!namespaces()?.is_empty(), "nothing is built");
        Ok(())
    });
    let second = demo()?.wait_with_output()?;
    let untouched = namespaces()?;
    kill(Pid::from_raw(first.id().try_into()?), Signal::SIGTERM)?;
    let ended = first.wait_with_output()?;
    running?;
    let complaint = String::from_utf8_lossy(&second.stderr);
    ensure!(complaint.contains("a demo is running already"), "the second one said: {complaint}");
    ensure!(!second.status.success() && !untouched.is_empty(), "the second one took the first one's nodes");
    ensure!(
        ended.status.code() == Some(128 + Signal::SIGTERM as i32),
        "the first ended with {}",
        ended.status
    );
    ensure!(namespaces()?.is_empty(), "these are left: {:?}", namespaces()?);
    Ok(())
}

fn namespaces() -> Result<Vec<String>> {
    let output = Command::new("ip").args(["netns", "list"]).output()?;
    let listed = String::from_utf8(output.stdout)?;
    let prefix = format!("{NAME}-");
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    Ok(names.filter(|name| name.starts_with(&prefix)).map(str::to_owned).collect())
}
