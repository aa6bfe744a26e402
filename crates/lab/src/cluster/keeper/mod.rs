//! The keeper: the one process of a lab that is not in the lab. It starts the lab's programs, each in its place, and
//! starts again what ends.
//!
//! It also holds the socket of this machine that leads to the API server. While that starts again, clients wait in the
//! socket's queue instead of being refused.
//!
//! `up` talks to it over its standard input: [`START`] once it has written down that there is a keeper, [`NODES`] when the nodes
//! may start, [`DONE`] when all is well. If `up` goes away before that, nobody knows of the lab, and the keeper takes it away.

mod backoff;
mod supervisor;

use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use jiff::Timestamp;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use switchyard_kernel::process::Process;

use super::down;
use super::error::{LabError, chain, doing};
use super::parts;
use super::state::{self, KeeperRecord};
use supervisor::Supervisor;

/// The line that lets the keeper begin. Before it, nothing has been started that `down` could miss.
pub(super) const START: &str = "start";
/// The line that lets the nodes start.
pub(super) const NODES: &str = "nodes";
/// The line after which the lab stays.
pub(super) const DONE: &str = "done";

/// What the keeper waits for.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Start,
    StartNodes,
    Done,
    /// `up` has gone away.
    Alone,
    Stop,
}

/// Keeps a lab until it is told to stop.
pub(super) fn run(name: &str) -> Result<(), LabError> {
    // Of its own session, so that whatever ends the terminal of `up` does not end the lab.
    nix::unistd::setsid().map_err(|errno| doing("leaving the session of `switchyard up`")(errno.into()))?;
    let (folder, lab) = state::known_lab(name)?;
    let binary = std::env::current_exe().map_err(doing("finding this program"))?;
    let events = events()?;
    if events.recv() != Ok(Event::Start) {
        return Ok(());
    }
    let own = Process::own().ok_or_else(|| LabError::Other("there is no /proc".to_owned()))?;
    let supervisor = Supervisor::new(name.to_owned(), binary, folder.clone(), record(own));
    supervisor.start(parts::control(&lab.settings, &folder), Some(listen(&supervisor)?))?;
    let mut is_done = false;
    while let Ok(event) = events.recv() {
        match event {
            Event::StartNodes => {
                for part in parts::nodes(&lab.settings, &folder) {
                    supervisor.start(part, None)?;
                }
            }
            Event::Start => {}
            Event::Done => {
                is_done = true;
                supervisor.change(|record| record.ready = true);
            }
            Event::Alone if is_done => {}
            Event::Alone => {
                log("`switchyard up` ended before the lab was ready; taking the lab away");
                supervisor.stop();
                return down::take_away(name);
            }
            Event::Stop => break,
        }
    }
    supervisor.stop();
    Ok(())
}

/// Of a keeper that has started nothing yet.
pub(super) fn record(process: Process) -> KeeperRecord {
    KeeperRecord { boot: state::boot(), process, ready: false, port: 0, parts: Vec::new() }
}

/// Listens on a free port of this machine, and says which.
fn listen(supervisor: &Supervisor) -> Result<Arc<TcpListener>, LabError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listener = listener.map_err(doing("listening on 127.0.0.1"))?;
    let port = listener.local_addr().map_err(doing("listening on 127.0.0.1"))?.port();
    supervisor.change(|record| record.port = port);
    Ok(Arc::new(listener))
}

fn events() -> Result<mpsc::Receiver<Event>, LabError> {
    let (sender, receiver) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(doing("listening to signals"))?;
    let on_signal = sender.clone();
    let waiting = move || {
        for _ in signals.forever() {
            // Nobody listens once the keeper is stopping.
            let _ = on_signal.send(Event::Stop);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(waiting).map_err(doing("starting a thread"))?;
    let listening = move || hear(&sender);
    thread::Builder::new().name("up".to_owned()).spawn(listening).map_err(doing("starting a thread"))?;
    Ok(receiver)
}

fn hear(events: &Sender<Event>) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let event = match line.as_str() {
            START => Event::Start,
            NODES => Event::StartNodes,
            DONE => Event::Done,
            _ => continue,
        };
        let _ = events.send(event);
    }
    let _ = events.send(Event::Alone);
}

/// A line of the keeper's log.
fn log(text: &str) {
    // A log that cannot be written is no reason to stop.
    let _ = writeln!(
        io::stderr(),
        "{} {text}",
        Timestamp::now().round(jiff::Unit::Millisecond).unwrap_or_default()
    );
}

fn log_error(doing: &str, error: &dyn std::error::Error) {
    log(&format!("{doing}: {}", chain(error)));
}
