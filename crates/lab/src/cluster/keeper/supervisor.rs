//! One thread a program: it lives in the program's place, starts it, waits for its end, and starts it again.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use switchyard_kernel::namespace::NamespaceFile;
use switchyard_kernel::process::Process;

use super::backoff::Backoff;
use super::{log, log_error};
use crate::cluster::error::{LabError, doing};
use crate::cluster::parts::{Part, namespace};
use crate::cluster::state::{Folder, KeeperRecord, PartRecord, open_log};

/// How long a program may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(3);

/// Hands a socket to a program the way systemd does. The program has it as descriptor 3, and its own number in a
/// variable, which nobody but the new process itself can know in time.
const HAND_OVER: &str = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=https; \
                         export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES; exec \"$@\" 3<&0 </dev/null";

/// Starts programs and keeps them running until it is stopped.
#[derive(Debug)]
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    lab: String,
    binary: PathBuf,
    folder: Folder,
    state: Mutex<State>,
    /// Told when the supervisor stops, for those who wait before a restart.
    stopping: Condvar,
}

#[derive(Debug)]
struct State {
    record: KeeperRecord,
    is_stopping: bool,
}

impl Supervisor {
    pub(super) fn new(lab: String, binary: PathBuf, folder: Folder, record: KeeperRecord) -> Supervisor {
        let state = Mutex::new(State { record, is_stopping: false });
        let shared = Shared { lab, binary, folder, state, stopping: Condvar::new() };
        Supervisor { shared: Arc::new(shared), threads: Mutex::default() }
    }

    /// Changes the record, here and in the lab's folder.
    pub(super) fn change(&self, change: impl FnOnce(&mut KeeperRecord)) {
        self.shared.change(change);
    }

    /// Starts a program; one that is handed a socket listens there, too.
    pub(super) fn start(&self, part: Part, socket: Option<Arc<TcpListener>>) -> Result<(), LabError> {
        let place = NamespaceFile::named(&namespace(&self.shared.lab, &part.place))?;
        let record = PartRecord { name: part.name.clone(), process: None, restarts: 0, last_end: None };
        let mut index = 0;
        self.change(|keeper| {
            index = keeper.parts.len();
            keeper.parts.push(record);
        });
        let shared = self.shared.clone();
        let supervise = move || match place.enter() {
            Ok(()) => shared.keep_running(index, &part, socket.as_deref()),
            Err(error) => log_error(&part.name, &error),
        };
        let thread = thread::Builder::new().name("supervisor".to_owned()).spawn(supervise);
        let thread = thread.map_err(doing("starting a thread"))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Ends all programs and waits until they have ended.
    pub(super) fn stop(&self) {
        self.shared.lock().is_stopping = true;
        self.shared.stopping.notify_all();
        self.shared.signal_all(Signal::SIGTERM);
        let deadline = Instant::now() + GRACE;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        while !threads.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        self.shared.signal_all(Signal::SIGKILL);
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                log("a supervising thread had panicked");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut KeeperRecord)) {
        let mut state = self.lock();
        change(&mut state.record);
        if let Err(error) = self.folder.write_keeper(&state.record) {
            log_error("the record is out of date", &error);
        }
    }

    fn signal_all(&self, signal: Signal) {
        for part in &self.lock().record.parts {
            if let Some(Err(error)) = part.process.map(|process| process.signal(signal)) {
                log_error(&part.name, &error);
            }
        }
    }

    fn keep_running(&self, index: usize, part: &Part, socket: Option<&TcpListener>) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let end = match self.spawn(index, part, socket) {
                Ok(None) => return,
                Ok(Some(child)) => self.wait(index, child),
                Err(error) => {
                    log_error(&format!("starting {}", part.name), &error);
                    "an error at its start".to_owned()
                }
            };
            let wait = backoff.after(started.elapsed());
            let mut state = self.lock();
            if state.is_stopping {
                return;
            }
            log(&format!("{} ended with {end}; it starts again in {} ms", part.name, wait.as_millis()));
            let until = Instant::now() + wait;
            while !state.is_stopping && Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                let waited = self.stopping.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// `None` if the supervisor is stopping. Holds the state meanwhile, so that no program starts that would not be
    /// stopped.
    fn spawn(
        &self,
        index: usize,
        part: &Part,
        socket: Option<&TcpListener>,
    ) -> Result<Option<Child>, LabError> {
        let log = open_log(&self.folder.log(&part.name))?;
        let mut command = match socket {
            Some(socket) => {
                let socket = socket.try_clone().map_err(doing("sharing a socket"))?;
                let mut shell = Command::new("/bin/sh");
                shell
                    .args(["-c", HAND_OVER, "sh"])
                    .arg(&self.binary)
                    .stdin(Stdio::from(OwnedFd::from(socket)));
                shell
            }
            None => {
                let mut command = Command::new(&self.binary);
                command.stdin(Stdio::null());
                command
            }
        };
        command.args(&part.arguments).envs(part.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(log.try_clone().map_err(doing("sharing a log"))?).stderr(log);
        let mut state = self.lock();
        if state.is_stopping {
            return Ok(None);
        }
        let child = command.spawn().map_err(doing(format!("starting {}", self.binary.display())))?;
        let process = i32::try_from(child.id()).ok().and_then(Process::find);
        if let Some(record) = state.record.parts.get_mut(index) {
            record.process = process;
        }
        drop(state);
        self.change(|_| {});
        Ok(Some(child))
    }

    fn wait(&self, index: usize, mut child: Child) -> String {
        // Its number stays its own until it is waited for, which is done with the state locked: nobody signals a
        // process that is not ours.
        let pid = Pid::from_raw(child.id().cast_signed());
        while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::Error::EINTR) {}
        let mut end = String::new();
        self.change(|record| {
            end =
                child.wait().map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
            if let Some(part) = record.parts.get_mut(index) {
                part.process = None;
                part.restarts += 1;
                part.last_end = Some(end.clone());
            }
        });
        end
    }
}
