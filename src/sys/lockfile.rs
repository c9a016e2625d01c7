//! Locks single bytes far beyond the end of a file, so that the kernel lets go of them when their holder dies.
//!
//! The locks belong to an *open file description* of their own (`F_OFD_SETLK`, fcntl(2)): neither another descriptor
//! of the same file, nor a forked child, nor another thread shares it.

use super::process::Fleeting;
use super::{interrupt, refused, shm};
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Taken by whoever removes the name of a file: the byte next to ATTACH = 2^61.
pub const UNLINK: i64 = (1 << 61) + 1;
/// Taken by whoever changes the size of a file.
pub const RESIZE: i64 = (1 << 61) + 2;

/// A locked byte; dropped, it is free.
pub struct ByteLock {
    file: Fleeting,
    byte: i64,
}

fn command(kind: i32, byte: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

impl ByteLock {
    /// Locks `byte` of the file behind `fd`, waiting for whoever holds it.
    ///
    /// `Permission` where the file's mode does not let this user write it, whatever `fd` may.
    pub fn of(fd: BorrowedFd<'_>, byte: i64, interruptible: bool) -> Result<Self> {
        let file = Fleeting::open(|| shm::reopen(fd, OFlag::O_RDWR))?;
        Self::take(file, libc::F_WRLCK, byte, interruptible)
    }

    /// Locks `byte` of the file behind `fd` as well as this user may.
    ///
    /// Who may only read the file gets a shared lock, which keeps out those who may write it but not each other; who
    /// may not even do that gets `None`.
    pub fn best_of(fd: BorrowedFd<'_>, byte: i64, interruptible: bool) -> Result<Option<Self>> {
        Self::best(byte, interruptible, |access| shm::reopen(fd, access))
    }

    /// Locks `byte` of the file that stands at `path` as `best_of` does.
    pub fn best_at(path: &CStr, byte: i64, interruptible: bool) -> Result<Option<Self>> {
        Self::best(byte, interruptible, |access| shm::open_with(path, access))
    }

    /// Locks `byte` of the file that stands at `path`, but `None` if somebody else holds it.
    pub fn attempt(path: &CStr, byte: i64) -> Result<Option<Self>> {
        let file = Fleeting::open(|| shm::open_with(path, OFlag::O_RDWR))?;
        match fcntl(
            file.borrow(),
            FcntlArg::F_OFD_SETLK(&command(libc::F_WRLCK, byte)),
        ) {
            Ok(_) => Ok(Some(ByteLock { file, byte })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(refused(
                errno,
                "cannot lock a byte of the file (F_OFD_SETLK)",
            )),
        }
    }

    fn best(
        byte: i64,
        interruptible: bool,
        open: impl Fn(OFlag) -> Result<OwnedFd>,
    ) -> Result<Option<Self>> {
        for (access, kind) in [
            (OFlag::O_RDWR, libc::F_WRLCK),
            (OFlag::O_RDONLY, libc::F_RDLCK),
        ] {
            match Fleeting::open(|| open(access)) {
                Err(Error::Permission(_)) => {}
                file => return Self::take(file?, kind, byte, interruptible).map(Some),
            }
        }
        Ok(None)
    }

    fn take(file: Fleeting, kind: i32, byte: i64, interruptible: bool) -> Result<Self> {
        let lock = command(kind, byte);
        loop {
            match fcntl(file.borrow(), FcntlArg::F_OFD_SETLKW(&lock)) {
                Ok(_) => return Ok(ByteLock { file, byte }),
                Err(Errno::EINTR) => interrupt::ask(interruptible)?,
                Err(errno) => {
                    return Err(refused(
                        errno,
                        "cannot lock a byte of the file (F_OFD_SETLKW)",
                    ));
                }
            }
        }
    }
}

impl Drop for ByteLock {
    fn drop(&mut self) {
        // Closing would do, but for a child of a raw clone that has a copy of the descriptor.
        let _ = fcntl(
            self.file.borrow(),
            FcntlArg::F_OFD_SETLK(&command(libc::F_UNLCK, self.byte)),
        );
    }
}
