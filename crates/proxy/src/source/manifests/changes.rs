//! Notices of changed files: by inotify, or by looking regularly where the kernel has no more watches to give.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep, timeout_at};

use crate::klog_warning;
use crate::logging::error;

/// Changes come in groups (an editor renames, writes, removes); a group is over after this long without another.
const QUIET: Duration = Duration::from_millis(100);
/// But never later than this.
const LONGEST_GROUP: Duration = Duration::from_secs(2);
/// Between two looks where there is no inotify, or while the folder is gone.
const POLL: Duration = Duration::from_secs(2);

/// Which files may have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    everything: bool,
    names: BTreeSet<String>,
}

impl Changed {
    pub(super) fn concerns(&self, name: &str) -> bool {
        self.everything || self.names.contains(name)
    }

    fn is_empty(&self) -> bool {
        !self.everything && self.names.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct FileChanges {
    folder: PathBuf,
    notices: Notices,
}

#[derive(Debug)]
enum Notices {
    Inotify(Receiver),
    /// The folder went away, and its watch with it.
    Lost,
    Polling {
        seen: BTreeMap<String, Stamp>,
    },
}

impl FileChanges {
    pub(super) fn follow(folder: &Path) -> FileChanges {
        let notices = watch(folder).unwrap_or_else(|reason| {
            klog_warning!("No inotify, looking for changed manifests every 2s", err = error(&reason));
            Notices::Polling { seen: stamps(folder) }
        });
        FileChanges { folder: folder.to_owned(), notices }
    }

    /// Waits for changes that look complete.
    pub(super) async fn next(&mut self) -> Changed {
        loop {
            let changed = match &mut self.notices {
                Notices::Inotify(notices) => group(notices, &self.folder).await,
                Notices::Lost => {
                    sleep(POLL).await;
                    if let Ok(notices) = watch(&self.folder) {
                        self.notices = notices;
                        return Changed { everything: true, ..Changed::default() };
                    }
                    continue;
                }
                Notices::Polling { seen } => poll(&self.folder, seen).await,
            };
            match changed {
                Some(changed) if changed.is_empty() => {}
                Some(changed) => return changed,
                None => self.notices = Notices::Lost,
            }
        }
    }
}

fn watch(folder: &Path) -> io::Result<Notices> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    // A file is complete when it is closed or moved here.
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(folder, flags)?;
    // The runtime has no type for inotify, but reading one and reading a pipe are the same.
    Ok(Notices::Inotify(Receiver::from_owned_fd_unchecked(inotify.into())?))
}

/// Waits for a first change and collects those that follow it; `None` if the folder is gone.
async fn group(notices: &Receiver, folder: &Path) -> Option<Changed> {
    let mut changed = Changed::default();
    let mut deadline: Option<Instant> = None;
    loop {
        let events = match deadline {
            None => events(notices).await,
            Some(deadline) => {
                let quiet = deadline.min(Instant::now() + QUIET);
                match timeout_at(quiet, events(notices)).await {
                    Ok(events) => events,
                    Err(_) => return Some(changed),
                }
            }
        };
        deadline = deadline.or(Some(Instant::now() + LONGEST_GROUP));
        for event in events.ok()? {
            if !note(&event, folder, &mut changed) {
                return None;
            }
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Some(changed);
        }
    }
}

/// What happened in the folder: the bits of an inotify event, and the file's name if it concerns one.
struct Notice {
    mask: AddWatchFlags,
    name: Option<String>,
}

async fn events(notices: &Receiver) -> io::Result<Vec<Notice>> {
    let mut buffer = [0; 4096];
    loop {
        notices.readable().await?;
        match notices.try_read(&mut buffer) {
            Ok(length) => return Ok(parse(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads `struct inotify_event`s: watch, mask, cookie and name length, four bytes each, then the name with zeros
/// after it. The kernel hands out whole ones only.
fn parse(mut bytes: &[u8]) -> Vec<Notice> {
    let mut notices = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<16>() {
        let field =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (name, rest) = rest.split_at(rest.len().min(field(12) as usize));
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).map(str::to_owned);
        notices.push(Notice { mask: AddWatchFlags::from_bits_retain(field(4)), name });
        bytes = rest;
    }
    notices
}

/// False if the folder itself is gone.
fn note(event: &Notice, folder: &Path, changed: &mut Changed) -> bool {
    let gone = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_IGNORED;
    if event.mask.intersects(gone) {
        return false;
    }
    match event.name.as_deref() {
        // Events were lost, or a mounted ConfigMap exchanged all its files at once by a link of that name.
        None | Some("..data") => changed.everything = true,
        // A new file is empty until it is written; that it is closed then will be another event.
        Some(name)
            if event.mask.contains(AddWatchFlags::IN_CREATE) && is_being_written(&folder.join(name)) =>
        {
            changed.names.remove(name);
        }
        Some(name) => {
            changed.names.insert(name.to_owned());
        }
    }
    true
}

/// Whether a path that was just created is a file and no link: links are complete from the start.
fn is_being_written(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

/// What tells two states of a file apart without reading it.
type Stamp = (SystemTime, u64);

fn stamps(folder: &Path) -> BTreeMap<String, Stamp> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let stamp = |entry: fs::DirEntry| {
        let metadata = fs::metadata(entry.path()).ok()?;
        Some((entry.file_name().into_string().ok()?, (metadata.modified().ok()?, metadata.len())))
    };
    entries.filter_map(stamp).collect()
}

/// Waits until two looks in a row agree and differ from what was seen.
async fn poll(folder: &Path, seen: &mut BTreeMap<String, Stamp>) -> Option<Changed> {
    let mut last = stamps(folder);
    loop {
        sleep(POLL).await;
        let now = stamps(folder);
        if now == last && now != *seen {
            let names = now.keys().chain(seen.keys()).filter(|name| now.get(*name) != seen.get(*name));
            let changed = Changed { everything: false, names: names.cloned().collect() };
            *seen = now;
            return Some(changed);
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_inotify_changes_are_found_by_looking() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["same", "changed", "removed"] {
            fs::write(path.join(name), "1").unwrap();
        }
        let notices = Notices::Polling { seen: stamps(path) };
        let mut changes = FileChanges { folder: path.to_owned(), notices };
        fs::write(path.join("changed"), "12").unwrap();
        fs::write(path.join("new"), "1").unwrap();
        fs::remove_file(path.join("removed")).unwrap();
        let changed = changes.next().await;
        assert!(["changed", "new", "removed"].iter().all(|name| changed.concerns(name)), "{changed:?}");
        assert!(!changed.concerns("same"));
    }
}
