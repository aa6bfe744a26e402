//! A runtime that runs nothing: containers are started and ended by whoever holds it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::{
    Container, ContainerSpec, End, ExecSpec, Process, Run, Runtime, RuntimeError, Sandbox, SandboxSpec, State,
};

/// Sandboxes and containers in memory.
#[derive(Debug, Default)]
pub struct FakeRuntime {
    state: Mutex<FakeState>,
    changed: Condvar,
    /// Where logs would be.
    folder: PathBuf,
}

#[derive(Debug, Default)]
struct FakeState {
    sandboxes: BTreeMap<String, FakeSandbox>,
    ends: u64,
    seen: u64,
    calls: Vec<String>,
    /// Containers of these names do not end when they are asked to.
    stubborn: Vec<String>,
}

#[derive(Debug, Clone)]
struct FakeSandbox {
    sandbox: Sandbox,
    containers: BTreeMap<String, (Container, ContainerSpec)>,
}

impl FakeRuntime {
    /// One whose logs are read from this folder, as `UID/NAME.log`.
    #[must_use]
    pub fn with_logs(folder: PathBuf) -> FakeRuntime {
        FakeRuntime { folder, ..FakeRuntime::default() }
    }

    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container ends by itself.
    pub fn end(&self, uid: &str, name: &str, exit_code: i32) {
        self.end_with(uid, name, exit_code, None);
    }

    fn end_with(&self, uid: &str, name: &str, exit_code: i32, signal: Option<i32>) {
        let mut state = self.state();
        if let Some((container, _)) =
            state.sandboxes.get_mut(uid).and_then(|sandbox| sandbox.containers.get_mut(name))
            && container.state == State::Running
        {
            container.state = State::Ended(End { exit_code, signal, at: Timestamp::now() });
            state.ends += 1;
        }
        self.changed.notify_all();
    }

    /// The processes of a sandbox are killed from outside.
    pub fn kill_sandbox(&self, uid: &str) {
        let names: Vec<String> = match self.state().sandboxes.get_mut(uid) {
            None => return,
            Some(sandbox) => {
                sandbox.sandbox.alive = false;
                sandbox.containers.keys().cloned().collect()
            }
        };
        for name in names {
            self.end_with(uid, &name, 137, Some(9));
        }
        self.state().ends += 1;
        self.changed.notify_all();
    }

    /// Containers of that name do not end when they are asked to, only when they are killed.
    pub fn be_stubborn(&self, name: &str) {
        self.state().stubborn.push(name.to_owned());
    }

    /// What a running container was started from.
    pub fn spec(&self, uid: &str, name: &str) -> Option<ContainerSpec> {
        let state = self.state();
        let (container, spec) = state.sandboxes.get(uid)?.containers.get(name)?;
        (container.state == State::Running).then(|| spec.clone())
    }

    /// The calls so far that changed something: `start web 0`.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    fn no_sandbox(uid: &str) -> RuntimeError {
        RuntimeError::State { what: format!("there is no sandbox {uid}") }
    }
}

impl Runtime for FakeRuntime {
    fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError> {
        let mut state = self.state();
        state.calls.push(format!("create {}", spec.pod.name));
        let sandbox = Sandbox {
            pod: spec.pod.clone(),
            network: (!spec.host_network)
                .then(|| PathBuf::from(format!("/proc/{}/ns/net", std::process::id()))),
            annotations: spec.annotations.clone(),
            created: Timestamp::now(),
            alive: true,
        };
        let new = FakeSandbox { sandbox, containers: BTreeMap::new() };
        Ok(state.sandboxes.entry(spec.pod.uid.clone()).or_insert(new).sandbox.clone())
    }

    fn sandboxes(&self) -> Result<Vec<Sandbox>, RuntimeError> {
        Ok(self.state().sandboxes.values().map(|one| one.sandbox.clone()).collect())
    }

    fn remove_sandbox(&self, uid: &str) -> Result<(), RuntimeError> {
        let mut state = self.state();
        if let Some(removed) = state.sandboxes.remove(uid) {
            state.calls.push(format!("remove {}", removed.sandbox.pod.name));
        }
        Ok(())
    }

    fn start_container(&self, uid: &str, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let mut state = self.state();
        state.calls.push(format!("start {} {}", spec.name, spec.restarts));
        if spec.image == "unknown" && spec.command.is_empty() {
            return Err(RuntimeError::UnknownImage { image: spec.image.clone(), known: "none".to_owned() });
        }
        let sandbox = state.sandboxes.get_mut(uid).ok_or_else(|| FakeRuntime::no_sandbox(uid))?;
        if sandbox.containers.get(&spec.name).is_some_and(|(old, _)| old.state == State::Running) {
            return Err(RuntimeError::State { what: format!("container {} runs already", spec.name) });
        }
        let container = Container {
            name: spec.name.clone(),
            image: spec.image.clone(),
            restarts: spec.restarts,
            started: Timestamp::now(),
            state: State::Running,
        };
        sandbox.containers.insert(spec.name.clone(), (container, spec.clone()));
        Ok(())
    }

    fn containers(&self, uid: &str) -> Result<Vec<Container>, RuntimeError> {
        let state = self.state();
        let sandbox = state.sandboxes.get(uid).ok_or_else(|| FakeRuntime::no_sandbox(uid))?;
        Ok(sandbox.containers.values().map(|(container, _)| container.clone()).collect())
    }

    fn stop_container(&self, uid: &str, name: &str, grace: Duration) -> Result<(), RuntimeError> {
        let is_stubborn = {
            let mut state = self.state();
            state.calls.push(format!("stop {name}"));
            state.stubborn.iter().any(|stubborn| stubborn == name)
        };
        if is_stubborn {
            let runs = |state: &mut FakeState| {
                let container = state.sandboxes.get(uid).and_then(|sandbox| sandbox.containers.get(name));
                container.is_some_and(|(container, _)| container.state == State::Running)
            };
            let waited = self.changed.wait_timeout_while(self.state(), grace, runs);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            self.end_with(uid, name, 137, Some(9));
        } else {
            self.end_with(uid, name, 143, Some(15));
        }
        Ok(())
    }

    fn wait_for_ends(&self, limit: Duration) -> Result<(), RuntimeError> {
        let state = self.state();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, limit, |state| state.ends == state.seen)
            .unwrap_or_else(PoisonError::into_inner);
        state.seen = state.ends;
        Ok(())
    }

    /// Runs the command on this machine.
    fn exec(&self, uid: &str, name: &str, spec: &ExecSpec) -> Result<Box<dyn Process>, RuntimeError> {
        let state = self.state();
        let is_running = state
            .sandboxes
            .get(uid)
            .and_then(|sandbox| sandbox.containers.get(name))
            .is_some_and(|(container, _)| container.state == State::Running);
        if !is_running {
            return Err(RuntimeError::State { what: format!("container {name} does not run") });
        }
        process::spawn(spec)
    }

    /// Connects on this machine.
    fn connect(&self, _uid: &str, port: u16) -> Result<TcpStream, RuntimeError> {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .map_err(|source| RuntimeError::Io { doing: format!("connecting to port {port}"), source })
    }

    fn log(&self, uid: &str, name: &str, run: Run) -> PathBuf {
        let ending = if run == Run::Newest { "log" } else { "previous.log" };
        self.folder.join(uid).join(format!("{name}.{ending}"))
    }
}

mod process {
    //! Commands as plain processes, without a terminal.

    use std::os::fd::OwnedFd;
    use std::process::{Child, Command, Stdio};
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::thread;
    use std::time::Duration;

    use crate::runtime::{ExecSpec, Process, RuntimeError, Streams};

    struct Plain(Mutex<Child>);

    pub(super) fn spawn(spec: &ExecSpec) -> Result<Box<dyn Process>, RuntimeError> {
        let (program, arguments) =
            spec.command.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| RuntimeError::Command { program: program.to_owned(), source })?;
        Ok(Box::new(Plain(Mutex::new(child))))
    }

    impl Plain {
        fn child(&self) -> MutexGuard<'_, Child> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Process for Plain {
        fn streams(&mut self) -> Option<Streams> {
            let mut child = self.child();
            Some(Streams {
                input: OwnedFd::from(child.stdin.take()?),
                output: OwnedFd::from(child.stdout.take()?),
                errors: child.stderr.take().map(OwnedFd::from),
            })
        }

        fn resize(&self, _columns: u16, _rows: u16) -> Result<(), RuntimeError> {
            Err(RuntimeError::State { what: "the command has no terminal".to_owned() })
        }

        fn wait(&self) -> Result<i32, RuntimeError> {
            use std::os::unix::process::ExitStatusExt;
            loop {
                let status = self.child().try_wait().map_err(RuntimeError::doing("waiting"))?;
                if let Some(status) = status {
                    return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
                }
                thread::sleep(Duration::from_millis(1));
            }
        }

        fn end(&self) {
            let _ = self.child().kill();
        }
    }

    impl Drop for Plain {
        fn drop(&mut self) {
            self.end();
            let _ = self.child().wait();
        }
    }
}
