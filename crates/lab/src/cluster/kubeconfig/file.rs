//! The file itself: found as kubectl finds it, locked as kubectl locks it, replaced whole.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use switchyard_kernel::process::Process;

use super::{Access, KubeconfigError, MARK, NotOurs, check, is_empty, merge, remove, text};

/// How long another program may hold the lock; kubectl holds it for a millisecond.
const PATIENCE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);

/// The file that kubectl would change: the first one that `$KUBECONFIG` names, or `~/.kube/config`.
pub(in super::super) fn default_path() -> PathBuf {
    let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let first = std::env::split_paths(&named).find(|path| !path.as_os_str().is_empty());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    first.unwrap_or_else(|| home().join(".kube/config"))
}

/// The lab whose context is the current one, if it is a lab's.
pub(in super::super) fn current_lab(path: &Path) -> Result<Option<String>, KubeconfigError> {
    let config = read(path)?;
    let current = config.get("current-context").and_then(Value::as_str);
    Ok(current.and_then(super::lab_of_entry).map(str::to_owned))
}

/// The file and its folders as far as they are not there, the innermost first.
pub(in super::super) fn missing(path: &Path) -> Vec<PathBuf> {
    path.ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .map(Path::to_owned)
        .collect()
}

/// Adds a lab's access to the file; without one, only looks whether that could be done.
pub(in super::super) fn add(path: &Path, lab: &str, access: Option<&Access>) -> Result<(), KubeconfigError> {
    let taken =
        |NotOurs(kind)| KubeconfigError::Taken { path: path.to_owned(), kind, name: super::entry_name(lab) };
    let Some(access) = access else { return check(&read(path)?, lab).map_err(taken) };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed("making the folder of", path))?;
    }
    let _lock = Lock::take(path)?;
    write(path, &merge(read(path)?, lab, access).map_err(taken)?)
}

/// Takes a lab's access out of the file, and takes away those of the `made` folders and files that are empty then.
pub(in super::super) fn remove_from(path: &Path, lab: &str, made: &[PathBuf]) -> Result<(), KubeconfigError> {
    if !path.parent().is_some_and(Path::exists) {
        return Ok(());
    }
    let lock = Lock::take(path)?;
    let _ = fs::remove_file(unfinished(&fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())));
    let old = read(path)?;
    let new = remove(old.clone(), lab);
    if is_empty(&new) && made.iter().any(|made| made == path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("removing", path)(error)),
            _ => {}
        }
    } else if new != old {
        write(path, &new)?;
    }
    drop(lock);
    remove_made(path, made)
}

/// The folders, if nobody has put anything into them.
fn remove_made(path: &Path, made: &[PathBuf]) -> Result<(), KubeconfigError> {
    for folder in made.iter().filter(|made| *made != path) {
        match fs::remove_dir(folder) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => break,
            Err(error) => return Err(failed("removing", folder)(error)),
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Map<String, Value>, KubeconfigError> {
    let unreadable = |why: String| KubeconfigError::Unreadable { path: path.to_owned(), why };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(failed("reading", path)(error)),
    };
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    let value: Value = serde_saphyr::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    match value {
        Value::Object(config) if config.get("kind").is_none_or(|kind| kind == "Config") => Ok(config),
        Value::Object(config) => Err(unreadable(format!("its kind is {}", config["kind"]))),
        _ => Err(unreadable("it holds no fields".to_owned())),
    }
}

/// Writes it beside and puts it in place: whoever reads sees the old one or the new one.
fn write(path: &Path, config: &Map<String, Value>) -> Result<(), KubeconfigError> {
    // Where the file is a link, what it leads to is replaced and not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let new = unfinished(&target);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        if let Ok(old) = fs::metadata(&target) {
            // With sudo, the file of whoever called it stays theirs.
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
            file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o600))?;
        }
        file.write_all(text(config).as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &target)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.map_err(failed("writing", path))
}

/// What is written before it is put in place. Who holds the lock may take away what a program left that was killed.
fn unfinished(target: &Path) -> PathBuf {
    beside(target, "switchyard-new")
}

/// The lock of kubectl: a name beside the file that only one program can make. Ours is a link that leads nowhere and
/// says who made it, so that one left by a program that was killed is known.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> Result<Lock, KubeconfigError> {
        let lock = beside(path, "lock");
        let owner =
            Process::own().map_or_else(String::new, |own| format!("{MARK}:{}:{}", own.pid, own.started));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match symlink(&owner, &lock) {
                Ok(()) => return Ok(Lock(lock)),
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(failed("locking", path)(error));
                }
                Err(_) if is_abandoned(&lock) => fs::remove_file(&lock).map_err(failed("unlocking", path))?,
                Err(_) if Instant::now() >= deadline => {
                    return Err(KubeconfigError::Locked { path: path.to_owned(), lock });
                }
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }
}

/// Whether it is one of ours whose maker has ended.
fn is_abandoned(lock: &Path) -> bool {
    let Ok(owner) = fs::read_link(lock) else { return false };
    let owner = owner.to_string_lossy();
    let process = || {
        let (pid, started) = owner.strip_prefix(MARK)?.strip_prefix(':')?.split_once(':')?;
        Some(Process { pid: pid.parse().ok()?, started: started.parse().ok()? })
    };
    process().is_some_and(|process| !process.is_running())
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The next program that changes the file names it, should it stay.
        let _ = fs::remove_file(&self.0);
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> KubeconfigError {
    move |source| KubeconfigError::Io { doing, path: path.to_owned(), source }
}
