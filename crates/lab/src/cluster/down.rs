//! Taking a lab away, whatever state it is in.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use switchyard_kernel::process::Process;
use switchyard_kernel::{mounts, namespace};

use super::claim::Claim;
use super::error::{LabError, doing, doing_to};
use super::state::Folder;
use super::{kubeconfig, leftovers};

/// How long the keeper may take to end its programs.
const KEEPER_PATIENCE: Duration = Duration::from_secs(8);
/// How long a process may take to be gone after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// `switchyard down`: whether there was anything to take away.
pub(super) fn run(name: &str) -> Result<bool, LabError> {
    let _claim = Claim::take(name)?;
    if !Folder::of(name).exists() {
        return Ok(false);
    }
    take_away(name)?;
    Ok(true)
}

/// Takes everything away: first what could make more, then what is there, and last the folder that tells of it. Goes on
/// past errors. The caller holds the lab's claim, or is its keeper.
pub(super) fn take_away(name: &str) -> Result<(), LabError> {
    let folder = Folder::of(name);
    let mut errors = Vec::new();
    let mut attempt = |result: Result<(), LabError>| errors.extend(result.err());
    attempt(end_keeper(&folder));
    attempt(end_everything(name));
    for namespace in leftovers::namespaces(name).unwrap_or_default() {
        attempt(namespace::remove(&namespace).map_err(LabError::from));
    }
    attempt(unmount(&folder));
    attempt(leave_kubeconfig(&folder, name));
    if errors.is_empty() {
        errors.extend(folder.remove().err());
    }
    if errors.is_empty() { Ok(()) } else { Err(LabError::Left { name: name.to_owned(), errors }) }
}

fn end_keeper(folder: &Folder) -> Result<(), LabError> {
    // A record that cannot be read, as on a full disk, must not keep the rest from going.
    let Ok(Some(keeper)) = folder.keeper() else { return Ok(()) };
    if !keeper.is_running() || Some(keeper.process) == Process::own() {
        return Ok(());
    }
    let signal = |signal| keeper.process.signal(signal).map_err(doing("ending the lab's keeper"));
    signal(Signal::SIGTERM)?;
    if !has_ended(&keeper.process, KEEPER_PATIENCE) {
        signal(Signal::SIGKILL)?;
        has_ended(&keeper.process, KILL_PATIENCE);
    }
    Ok(())
}

fn has_ended(process: &Process, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while process.is_running() && Instant::now() < deadline {
        thread::sleep(POLL);
    }
    !process.is_running()
}

/// Kills until nobody is left: who is killed may just have started another.
fn end_everything(name: &str) -> Result<(), LabError> {
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        let mut processes = leftovers::processes(&leftovers::namespaces(name)?)?;
        // Someone may call `down` in a shell on a node.
        processes.retain(|process| Some(*process) != Process::own());
        if processes.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let pids: Vec<String> = processes.iter().map(|process| process.pid.to_string()).collect();
            return Err(LabError::Other(format!("these processes do not end: {}", pids.join(", "))));
        }
        for process in processes {
            process.signal(Signal::SIGKILL).map_err(doing("ending what runs in the lab"))?;
        }
        thread::sleep(POLL);
    }
}

fn unmount(folder: &Folder) -> Result<(), LabError> {
    // The kernel's table has no links in its paths.
    let Ok(path) = fs::canonicalize(folder.path()) else { return Ok(()) };
    let places = mounts::at_or_below(&path).map_err(doing("looking for mounts"))?;
    for place in places.into_iter().rev() {
        mounts::unmount(&place).map_err(doing_to("unmounting", &place))?;
    }
    Ok(())
}

fn leave_kubeconfig(folder: &Folder, name: &str) -> Result<(), LabError> {
    let Some(record) = folder.lab()? else { return Ok(()) };
    Ok(kubeconfig::remove_from(&record.kubeconfig.path, name, &record.kubeconfig.made)?)
}
