//! Hearing of containers that ended, without a connection to every sandbox.
//!
//! A sandbox writes to the file that it holds open for its whole life when a container ended; when the sandbox itself ends, the
//! kernel closes the file. One watch on the folder of those files hears of both, whoever started the sandbox.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use switchyard_kernel::wait::readable;

use super::super::RuntimeError;

#[derive(Debug)]
pub(super) struct Ends {
    watch: Inotify,
}

impl Ends {
    pub(super) fn watch(folder: &Path) -> Result<Ends, RuntimeError> {
        let open = || {
            let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            watch.add_watch(folder, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE)?;
            Ok(Ends { watch })
        };
        let doing = format!("watching {} for ends of containers", folder.display());
        open().map_err(|error: Errno| RuntimeError::Io { doing, source: error.into() })
    }

    pub(super) fn wait(&self, limit: Duration) -> Result<(), RuntimeError> {
        let deadline = Instant::now() + limit;
        let wait = || -> io::Result<()> {
            if readable(&self.watch, deadline)? {
                // What exactly happened is for the records to tell.
                self.watch.read_events()?;
            }
            Ok(())
        };
        match wait() {
            // Somebody else who waited was faster.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result.map_err(RuntimeError::doing("waiting for ends of containers")),
        }
    }
}
