//! The right to build or take away a lab, one program at a time.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use switchyard_kernel::namespace::NamespaceFile;

use super::error::{LabError, doing};

/// A `down` takes well under a second; it is worth waiting for.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A name that the kernel gives to one socket at a time, and takes back however its process ends.
#[derive(Debug)]
pub(super) struct Claim(#[expect(dead_code, reason = "it is held, not used")] UnixListener);

impl Claim {
    /// Waits for whoever else is at it, for a while.
    pub(super) fn take(lab: &str) -> Result<Claim, LabError> {
        let deadline = Instant::now() + PATIENCE;
        // Each network has such names of its own, and one may well call `down` out of a node's. Where the first process
        // is out of bounds, as in some containers, everybody's own has to do.
        let network = NamespaceFile::open(Path::new("/proc/1/ns/net")).or_else(|_| NamespaceFile::here())?;
        let name = SocketAddr::from_abstract_name(format!("switchyard-lab-{lab}"));
        let name = name.map_err(doing("claiming the lab's name"))?;
        loop {
            match network.run(|| UnixListener::bind_addr(&name))? {
                Ok(socket) => return Ok(Claim(socket)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    if Instant::now() >= deadline {
                        return Err(LabError::Busy { name: lab.to_owned() });
                    }
                }
                Err(error) => return Err(doing("claiming the lab's name")(error)),
            }
            std::thread::sleep(POLL);
        }
    }
}
