//! Pseudo-terminals.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// The side of a terminal that a person sits at; what a program writes to the other side is read here.
#[derive(Debug)]
pub struct Terminal {
    file: OwnedFd,
}

impl Terminal {
    /// Makes a terminal in the `/dev/pts` of the calling thread and makes it the one of the calling process, which leads a
    /// session of its own from then on: it is its standard streams, and signals typed there go to its programs.
    ///
    /// # Errors
    /// Without a `/dev/ptmx`, or when the process leads a process group already.
    pub fn become_terminal() -> io::Result<Terminal> {
        // By its path, not posix_openpt's: a /dev/pts of its own has a ptmx of its own.
        let file = OwnedFd::from(File::options().read(true).write(true).open("/dev/ptmx")?);
        unlockpt(&file)?;
        let program =
            ioctl_tiocgptpeer(&file, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        setsid()?;
        ioctl_tiocsctty(&program)?;
        dup2_stdin(&program)?;
        dup2_stdout(&program)?;
        dup2_stderr(&program)?;
        Ok(Terminal { file })
    }

    /// Sets its size in characters; its programs are told by SIGWINCH.
    ///
    /// # Errors
    /// When it is no terminal.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.file, size)?)
    }

    /// Another descriptor of the same.
    ///
    /// # Errors
    /// When out of descriptors.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.file.try_clone()
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Of one that was received from another process.
impl From<OwnedFd> for Terminal {
    fn from(file: OwnedFd) -> Terminal {
        Terminal { file }
    }
}
