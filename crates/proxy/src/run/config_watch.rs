//! The configuration file in use: a change of it ends the process, so that its supervisor starts it with the new one.
//!
//! Watched is the file that was loaded, not its name. An editor that writes beside it and renames, or a ConfigMap volume
//! that swaps a link, goes unnoticed, as with upstream: a rolling restart decides then.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use thiserror::Error;
use tokio::sync::mpsc;

#[derive(Debug, Error)]
pub enum ConfigWatchError {
    #[error("content of the proxy server's configuration file was updated")]
    Changed,
    #[error("watching the configuration file {path}: {source}")]
    Failed { path: String, source: Errno },
}

/// Sends once, when there is a reason to end.
pub(super) fn watch(path: &Path, ended: mpsc::Sender<ConfigWatchError>) -> Result<(), ConfigWatchError> {
    let name = path.display().to_string();
    let failed = |source| ConfigWatchError::Failed { path: name.clone(), source };
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).map_err(failed)?;
    let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVE_SELF;
    inotify.add_watch(path, events).map_err(failed)?;
    std::thread::spawn(move || {
        let reason = loop {
            match inotify.read_events() {
                Ok(events) if events.iter().any(|event| !event.mask.contains(AddWatchFlags::IN_IGNORED)) => {
                    break ConfigWatchError::Changed;
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(source) => break ConfigWatchError::Failed { path: name, source },
            }
        };
        // Nobody listens any more: the process is ending for another reason.
        let _ = ended.blocking_send(reason);
    });
    Ok(())
}
