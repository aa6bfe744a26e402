//! Which address belongs to whom: a folder a network, a file an address.
//!
//! A lease is written in full and only then linked to its name, which fails if there is one; so there is never half a
//! lease, whenever the power goes. All of it happens under one lock, which the kernel gives back when its holder dies.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::range::Range;
use crate::types::{Attachment, Error, code};

const LOCK: &str = "lock";
/// Written before it is linked. Nobody else can have one while we hold the lock.
const NEW: &str = "new";
const LAST_IPV4: &str = "last-ipv4";
const LAST_IPV6: &str = "last-ipv6";
/// Whoever holds the lock only reads and writes a few files.
const PATIENCE: Duration = Duration::from_secs(20);

/// The leases of one network, locked until dropped.
#[derive(Debug)]
pub(super) struct Leases {
    folder: PathBuf,
    _lock: File,
}

/// An address and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) address: IpAddr,
    /// None if the file cannot be read as a lease; the address counts as taken nevertheless.
    pub(super) owner: Option<Attachment>,
}

impl Leases {
    /// Locks the leases, making the folder if there is none.
    pub(super) fn open(folder: &Path) -> Result<Leases, Error> {
        fs::create_dir_all(folder).map_err(|source| failed("making", folder, &source))?;
        let lock = lock(&folder.join(LOCK), PATIENCE)?;
        Ok(Leases { folder: folder.to_owned(), _lock: lock })
    }

    /// Locks the leases if there can be any.
    pub(super) fn open_existing(folder: &Path) -> Result<Option<Leases>, Error> {
        if folder.exists() { Leases::open(folder).map(Some) } else { Ok(None) }
    }

    /// All leases, in no order.
    pub(super) fn all(&self) -> Result<Vec<Lease>, Error> {
        let read = || -> io::Result<Vec<Lease>> {
            let mut leases = Vec::new();
            for entry in fs::read_dir(&self.folder)? {
                let name = entry?.file_name();
                let Some(address) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
                let text = fs::read(self.folder.join(&name))?;
                leases.push(Lease { address, owner: serde_json::from_slice(&text).ok() });
            }
            Ok(leases)
        };
        read().map_err(|source| failed("reading the leases in", &self.folder, &source))
    }

    /// Gives an attachment one address of each range, those that it has already first. All or none.
    pub(super) fn take(&self, ranges: &[Range], owner: &Attachment) -> Result<Vec<IpAddr>, Error> {
        let all = self.all()?;
        let taken: BTreeSet<IpAddr> = all.iter().map(|lease| lease.address).collect();
        let held = |range: &Range| {
            let mine =
                all.iter().find(|lease| lease.owner.as_ref() == Some(owner) && range.contains(lease.address));
            mine.map(|lease| lease.address)
        };
        let mut chosen = Vec::new();
        for range in ranges {
            let address = held(range).map(|address| (address, true));
            let address =
                address.or_else(|| range.next(&taken, self.last(range)).map(|address| (address, false)));
            chosen.push((range, address.ok_or_else(|| full(range, &self.folder))?));
        }
        let mut written = Vec::new();
        for (range, (address, held)) in &chosen {
            if *held {
                continue;
            }
            if let Err(source) = self.write(*address, owner) {
                // The first error tells more than one of the clean-up's.
                let _ = written.iter().try_for_each(|address| self.remove(*address));
                return Err(failed("writing a lease in", &self.folder, &source));
            }
            written.push(*address);
            // Only a hint for the next choice: losing it does no harm.
            let _ = fs::write(self.folder.join(last_file(range)), address.to_string());
        }
        Ok(chosen.into_iter().map(|(_, (address, _))| address).collect())
    }

    /// Takes back every lease that `given_back` picks. All are tried.
    pub(super) fn release(&self, given_back: impl Fn(&Lease) -> bool) -> Result<Vec<Lease>, Error> {
        let mut result = Ok(());
        let mut released = Vec::new();
        for lease in self.all()? {
            if given_back(&lease) {
                let removed = self.remove(lease.address);
                result = result
                    .and(removed.map_err(|source| failed("removing a lease from", &self.folder, &source)));
                released.push(lease);
            }
        }
        result.map(|()| released)
    }

    fn write(&self, address: IpAddr, owner: &Attachment) -> io::Result<()> {
        let new = self.folder.join(NEW);
        // One that a crash left may be a second name of a good lease, so it must not be written into.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::create_new(&new)?;
        serde_json::to_writer(&mut file, owner)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::hard_link(&new, self.folder.join(address.to_string()))?;
        fs::remove_file(&new)?;
        // The name is on disk only when the folder is.
        File::open(&self.folder)?.sync_all()
    }

    fn remove(&self, address: IpAddr) -> io::Result<()> {
        match fs::remove_file(self.folder.join(address.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn last(&self, range: &Range) -> Option<IpAddr> {
        fs::read_to_string(self.folder.join(last_file(range))).ok()?.parse().ok()
    }
}

fn last_file(range: &Range) -> &'static str {
    if range.is_ipv4() { LAST_IPV4 } else { LAST_IPV6 }
}

/// Waits for a lock and holds it until the file is dropped.
pub(super) fn lock(path: &Path, patience: Duration) -> Result<File, Error> {
    const RETRY: Duration = Duration::from_millis(5);
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(|source| failed("opening", path, &source))?;
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(RETRY),
            Err(TryLockError::WouldBlock) => {
                let msg = format!(
                    "{} was locked for more than {} s; see by whom with `fuser {0}`",
                    path.display(),
                    patience.as_secs()
                );
                return Err(Error::new(code::TRY_AGAIN_LATER, msg));
            }
            Err(TryLockError::Error(source)) => return Err(failed("locking", path, &source)),
        }
    }
}

pub(super) fn full(range: &Range, folder: &Path) -> Error {
    let msg = format!("no address is free in {}: all {} are taken", range.network(), range.capacity());
    let details = format!(
        "the leases are in {}; remove pods from this node, or give it a larger range",
        folder.display()
    );
    Error::new(code::TRY_AGAIN_LATER, msg).with_details(details)
}

fn failed(doing: &str, path: &Path, source: &io::Error) -> Error {
    Error::new(code::IO, format!("{doing} {}: {source}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(container: &str) -> Attachment {
        Attachment { container: container.to_owned(), interface: "eth0".to_owned() }
    }

    fn ranges(texts: &[&str]) -> Vec<Range> {
        texts.iter().map(|text| Range::new(text.parse().unwrap()).unwrap()).collect()
    }

    fn texts(addresses: &[IpAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_owner_gets_one_address_a_family_and_the_same_ones_again() {
        let folder = tempfile::tempdir().unwrap();
        let ranges = ranges(&["10.0.0.0/24", "fd00::/64"]);
        let leases = Leases::open(folder.path()).unwrap();
        assert_eq!(texts(&leases.take(&ranges, &owner("a")).unwrap()), ["10.0.0.2", "fd00::2"]);
        assert_eq!(texts(&leases.take(&ranges, &owner("b")).unwrap()), ["10.0.0.3", "fd00::3"]);
        assert_eq!(texts(&leases.take(&ranges, &owner("a")).unwrap()), ["10.0.0.2", "fd00::2"]);
        let released = leases.release(|lease| lease.owner.as_ref() == Some(&owner("a"))).unwrap();
        assert_eq!(released.len(), 2);
        // Freed a moment ago, so not at once.
        assert_eq!(texts(&leases.take(&ranges, &owner("c")).unwrap()), ["10.0.0.4", "fd00::4"]);
    }

    #[test]
    fn a_full_range_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ranges = ranges(&["fd00::/64", "10.0.0.0/30"]);
        let leases = Leases::open(folder.path()).unwrap();
        leases.take(&ranges, &owner("a")).unwrap();
        let error = leases.take(&ranges, &owner("b")).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN_LATER);
        assert!(error.msg.contains("10.0.0.0/30"), "{error}");
        assert_eq!(leases.all().unwrap().len(), 2);
    }

    #[test]
    fn what_a_crash_left_of_a_lease_is_no_lease() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NEW), "{").unwrap();
        let leases = Leases::open(folder.path()).unwrap();
        assert!(leases.all().unwrap().is_empty());
        leases.take(&ranges(&["10.0.0.0/24"]), &owner("a")).unwrap();
        // Or the crash came between giving a lease its name and taking away the one that it was written under.
        fs::hard_link(folder.path().join("10.0.0.2"), folder.path().join(NEW)).unwrap();
        leases.take(&ranges(&["10.1.0.0/24"]), &owner("z")).unwrap();
        assert_eq!(leases.all().unwrap().iter().filter(|lease| lease.owner == Some(owner("a"))).count(), 1);
        // A file that somebody else spoiled keeps its address out of use.
        fs::write(folder.path().join("10.0.0.3"), "").unwrap();
        assert_eq!(texts(&leases.take(&ranges(&["10.0.0.0/24"]), &owner("b")).unwrap()), ["10.0.0.4"]);
    }

    #[test]
    fn a_lock_that_is_held_is_waited_for_only_so_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK);
        let held = lock(&path, PATIENCE).unwrap();
        let error = lock(&path, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN_LATER);
        drop(held);
        lock(&path, Duration::ZERO).unwrap();
    }
}
