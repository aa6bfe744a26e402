//! A host of its own for each test, and what the tests do to it.

#![allow(dead_code, reason = "each file of tests is a program of its own and uses a part of this")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// For whatever the kernel does on its own, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Runs `work` on a thread that has left this host: its network namespace is new, with only the loopback interface,
/// and so is its `/run`, where the xtables lock and the names of namespaces are. Programs and threads that it starts
/// stay there. All of it is gone with the thread, even one that is killed.
pub(crate) fn on_a_fresh_host<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let worker = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("these tests make network and mount namespaces, which takes root (CAP_SYS_ADMIN)");
        // Or what is mounted here would show up on the real host.
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount_empty(Path::new("/run"));
        run("ip link set lo up");
        work()
    };
    thread::scope(|scope| scope.spawn(worker).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a program that has to succeed and gives what it printed. Words are parted by blanks; there is no quoting.
#[track_caller]
pub(crate) fn run(line: &str) -> String {
    run_with_input(line, "")
}

#[track_caller]
pub(crate) fn run_with_input(line: &str, input: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
    // A program that has no use for its input may be gone before all of it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Takes every program away from this host, as in an image without them.
pub(crate) fn remove_programs() {
    for folder in search_path() {
        // Several names may lead to one folder, and it need not exist.
        if let Ok(folder) = folder.canonicalize() {
            mount_empty(&folder);
        }
    }
}

/// Puts one program in the place of another, under all names of the other's.
pub(crate) fn replace_program(name: &str, by: &Path) {
    let place = installed(name);
    let nothing = None::<&str>;
    mount(Some(by), &place, nothing, MsFlags::MS_BIND, nothing)
        .unwrap_or_else(|error| panic!("mounting {} on {}: {error}", by.display(), place.display()));
}

/// The file that a program is in the end.
pub(crate) fn installed(name: &str) -> PathBuf {
    let mut programs = search_path().into_iter().map(|folder| folder.join(name));
    let program = programs.find(|program| program.exists());
    program.unwrap_or_else(|| panic!("{name} is not on the PATH")).canonicalize().unwrap()
}

fn search_path() -> Vec<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect()
}

fn mount_empty(folder: &Path) {
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .unwrap_or_else(|error| panic!("mounting an empty folder on {}: {error}", folder.display()));
}

/// Tries until something is there.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Which program `iptables` is on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Installed {
    NfTables,
    Legacy,
}

impl Installed {
    pub(crate) const BOTH: [Installed; 2] = [Installed::NfTables, Installed::Legacy];

    /// Makes it so on this thread's host.
    pub(crate) fn choose(self) {
        let program = match self {
            Installed::NfTables => "iptables-nft",
            Installed::Legacy => "iptables-legacy",
        };
        // All six names lead to one file each host, which looks at the name that it is called by.
        let program = installed(program);
        if program != installed("iptables") {
            replace_program("iptables", &program);
        }
    }
}

/// A file of its own in the `/run` of this thread's host.
pub(crate) fn write_program(name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = Path::new("/run").join(name);
    let mut file = File::create(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
