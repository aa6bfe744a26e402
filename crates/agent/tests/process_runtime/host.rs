//! A host of its own for each test, with a runtime on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use switchyard_agent::runtime::process::{ProcessRuntime, Settings};
use switchyard_agent::runtime::{
    Container, ContainerSpec, End, PodName, Run, Runtime, Sandbox, SandboxSpec, State,
};

/// A test and its name.
pub(crate) type Tests = &'static [(&'static str, fn(&Host))];

/// For whatever takes a while on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any test waits: what is expected to come sooner must not wait for this.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// A machine with a runtime.
pub(crate) struct Host {
    pub(crate) runtime: ProcessRuntime,
    pub(crate) folder: PathBuf,
}

/// Runs a test on a thread that has left this host: its network namespace is new, and so is its `/run`. Whatever the test
/// made is removed after it, also when it failed.
pub(crate) fn on_a_fresh_host(test: &(dyn Fn(&Host) + Sync)) {
    let worker = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("these tests make network and mount namespaces, which takes root (CAP_SYS_ADMIN)");
        let nothing = None::<&str>;
        // Or what is mounted here would show up on the real host.
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
        test(&Host::open(&folder(), "lab_node-1"));
    };
    thread::scope(|scope| scope.spawn(worker).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// How long to sleep, in words that no other test uses, also of a run beside this one: processes are told apart by them.
pub(crate) fn a_long_time() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}{:03}", 1_000_000 + std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A folder for a runtime, of another name than that of any other test: processes are told apart by it. It is in the test's
/// own `/run`, and gone with that.
pub(crate) fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    PathBuf::from(format!("/run/agent-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

impl Drop for Host {
    fn drop(&mut self) {
        for sandbox in self.runtime.sandboxes().unwrap() {
            self.runtime.remove_sandbox(&sandbox.pod.uid).unwrap();
        }
    }
}

impl Host {
    pub(crate) fn open(folder: &Path, prefix: &str) -> Host {
        let runtime = ProcessRuntime::open(settings(folder, prefix)).unwrap();
        Host { runtime, folder: folder.to_owned() }
    }

    /// The processes of a pod's sandbox: one, or none.
    pub(crate) fn sandbox_processes(&self, pod: &str) -> Vec<u32> {
        processes(&self.folder.join("pods").join(uid(pod)).display().to_string())
    }

    /// What is in the folder of a runtime that has no pods.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let folders = ["pods", "alive"].map(|name| self.folder.join(name));
        folders
            .iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    /// A pod of that name, its UID made from it.
    pub(crate) fn pod(&self, name: &str) -> Sandbox {
        self.runtime.create_sandbox(&sandbox(name)).unwrap()
    }

    /// Starts a container `main`.
    #[track_caller]
    pub(crate) fn start(&self, pod: &Sandbox, command: &[&str]) {
        self.runtime.start_container(&pod.pod.uid, &container("main", command)).unwrap();
    }

    /// Runs a shell script in a container `main` to its end, which has to be a good one, and gives its output.
    #[track_caller]
    pub(crate) fn shell(&self, pod: &Sandbox, script: &str) -> String {
        self.start(pod, &["sh", "-c", script]);
        let end = self.end(pod, "main");
        let output = self.output(pod, "main");
        assert_eq!(end.exit_code, 0, "{script}: {output}");
        output
    }

    #[track_caller]
    pub(crate) fn container(&self, pod: &Sandbox, name: &str) -> Container {
        let containers = self.runtime.containers(&pod.pod.uid).unwrap();
        containers.into_iter().find(|container| container.name == name).expect("the container is there")
    }

    /// Waits for the end of a container.
    #[track_caller]
    pub(crate) fn end(&self, pod: &Sandbox, name: &str) -> End {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.container(pod, name).state {
                State::Ended(end) => return end,
                State::Running => assert!(Instant::now() < deadline, "container {name} runs on"),
            }
            self.hear_of_an_end();
        }
    }

    /// Waits until the runtime tells of an end.
    #[track_caller]
    pub(crate) fn hear_of_an_end(&self) {
        let begin = Instant::now();
        self.runtime.wait_for_ends(PATIENCE).unwrap();
        assert!(begin.elapsed() < PATIENCE, "nothing was heard of an end");
    }

    /// What a container printed, without time stamps and streams.
    pub(crate) fn output(&self, pod: &Sandbox, name: &str) -> String {
        plain(&fs::read_to_string(self.runtime.log(&pod.pod.uid, name, Run::Newest)).unwrap())
    }

    /// Waits until a container printed something.
    #[track_caller]
    pub(crate) fn wait_for_output(&self, pod: &Sandbox, name: &str, text: &str) {
        eventually(text, || self.output(pod, name).contains(text).then_some(()));
    }
}

pub(crate) fn settings(folder: &Path, prefix: &str) -> Settings {
    Settings { folder: folder.to_owned(), prefix: prefix.to_owned(), hidden: Vec::new() }
}

/// The text of log entries, joined where one goes on in the next.
pub(crate) fn plain(log: &str) -> String {
    let mut text = String::new();
    for entry in log.split_terminator('\n') {
        let mut fields = entry.splitn(4, ' ').skip(2);
        let (tag, line) = (fields.next().unwrap(), fields.next().unwrap());
        text.push_str(line);
        text.push_str(if tag == "F" { "\n" } else { "" });
    }
    text
}

pub(crate) fn uid(name: &str) -> String {
    format!("{name}-0000-4000-8000-000000000000")
}

pub(crate) fn sandbox(name: &str) -> SandboxSpec {
    SandboxSpec {
        pod: PodName { namespace: "default".to_owned(), name: name.to_owned(), uid: uid(name) },
        hostname: name.to_owned(),
        host_network: false,
        annotations: [("note".to_owned(), "kept".to_owned())].into(),
    }
}

pub(crate) fn container(name: &str, command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        image: "example.com/any:1".to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        restarts: 0,
        mounts: Vec::new(),
        tty: false,
        stdin: false,
    }
}

/// Tries until something is there.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The numbers of processes that run, on the whole machine, whose command line has a word.
pub(crate) fn processes(word: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(Path::new("/proc").join(entry.file_name()).join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|found| found == word.as_bytes()) {
            found.push(id);
        }
    }
    found
}
