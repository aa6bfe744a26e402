//! The lab that the lecture is told on, and the right to have it.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{DemoError, NAME, doing};

/// The objects of the lecture, as an operator would write them.
const MANIFESTS: [(&str, &str); 4] = [
    ("db-pod.yaml", include_str!("../../../../examples/lecture/db-pod.yaml")),
    ("db-service.yaml", include_str!("../../../../examples/lecture/db-service.yaml")),
    ("clients.yaml", include_str!("../../../../examples/lecture/clients.yaml")),
    ("web.yaml", include_str!("../../../../examples/lecture/web.yaml")),
];

/// A folder with the lecture's files, and the lab. It belongs to two threads: the one that tells the lecture, and the one that
/// a signal ends it with.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    binary: PathBuf,
    folder: PathBuf,
    /// Whether there is something to take down.
    is_built: Arc<Mutex<bool>>,
    _claim: Arc<UnixListener>,
}

impl Stage {
    /// Prepares the files; the lab is not there yet.
    pub(super) fn open() -> Result<Stage, DemoError> {
        let claim = claim()?;
        let binary = std::env::current_exe().map_err(doing("finding this program"))?;
        let folder = std::env::temp_dir().join(format!("switchyard-{NAME}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(doing("making a folder for the lecture"))?;
        for (name, text) in MANIFESTS {
            fs::write(folder.join(name), text).map_err(doing("writing the lecture's objects"))?;
        }
        let stage = Stage { binary, folder, is_built: Arc::default(), _claim: Arc::new(claim) };
        stage.take_down_on_signal().map_err(doing("listening to signals"))?;
        Ok(stage)
    }

    /// Brings the lab up, in sight of everybody.
    pub(super) fn build(&self) -> Result<(), DemoError> {
        // Held while building, so that a signal takes down what is whole.
        let mut is_built = self.is_built.lock().unwrap_or_else(PoisonError::into_inner);
        super::say(&format!("$ switchyard up --name {NAME}\n"));
        let status = self.command(&self.binary).args(["up", "--name", NAME]).stdin(Stdio::null()).status();
        *is_built = status.map_err(doing("bringing the lab up"))?.success();
        if *is_built { Ok(()) } else { Err(DemoError::NotUp) }
    }

    /// Takes the lab and the files away, once.
    pub(super) fn take_down(&self) {
        let mut is_built = self.is_built.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *is_built) {
            // What cannot be taken down is told by the command itself.
            let _ = self.command(&self.binary).args(["down", "--name", NAME]).stdout(Stdio::null()).status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// A command in the folder of the lecture, for which kubectl and switchyard know the lab.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = self.binary.parent().map(Path::to_owned);
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)));
        command.current_dir(&self.folder).env("KUBECONFIG", self.folder.join("kubeconfig"));
        command.envs(path.map(|path| ("PATH", path)));
        command
    }

    fn take_down_on_signal(&self) -> io::Result<()> {
        let stage = self.clone();
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                stage.take_down();
                // What a shell makes of a process that died of this signal.
                std::process::exit(128 + signal);
            }
        })?;
        Ok(())
    }
}

/// The right to tell the one lecture of this machine: a name that the kernel gives to one socket at a time, and takes back
/// however its process ends.
fn claim() -> Result<UnixListener, DemoError> {
    let name = SocketAddr::from_abstract_name(format!("switchyard-demo-{NAME}"));
    match name.and_then(|name| UnixListener::bind_addr(&name)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(DemoError::RunningAlready),
        socket => socket.map_err(doing("claiming the demo's name")),
    }
}
