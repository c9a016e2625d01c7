//! Locks single bytes far beyond the end of a file, so that the kernel lets go of them when their holder dies.
//!
//! The locks belong to an *open file description* of their own (`F_OFD_SETLK`, fcntl(2)): neither another descriptor
//! of the same file, nor a forked child, nor another thread shares it.

use super::fork::CloseOnForkFd;
use super::{interrupt, refused, shm};
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// Shared by everybody who is attached to a managed segment.
pub const ATTACH: i64 = 1 << 61;
/// Taken by whoever removes the name of a file.
pub const UNLINK: i64 = (1 << 61) + 1;
/// Taken by whoever changes the size of a file.
pub const RESIZE: i64 = (1 << 61) + 2;

/// The byte of the participant with ticket 0; each other ticket's byte stands so much further.
const PARTICIPANT: i64 = 1 << 62;

/// Returns the byte that the participant with this ticket holds while it lives.
pub fn byte_of(ticket: u64) -> i64 {
    /// Tickets have 48 bits: no byte ever lies beyond what a file offset can say.
    const TICKET: u64 = (1 << 48) - 1;
    PARTICIPANT + (ticket & TICKET) as i64
}

/// Locks `byte` for as long as the open file description behind `file` lives; `None` if another one holds it.
///
/// It lives as long as a descriptor or a mapping made through it, in any process. `Unsupported` where the kernel or
/// the file system knows no such locks.
fn keep(file: BorrowedFd<'_>, kind: i32, byte: i64) -> Result<Option<()>> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&command(kind, byte))) {
        Ok(_) => Ok(Some(())),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
        Err(errno @ (Errno::EINVAL | Errno::ENOSYS | Errno::ENOLCK)) => {
            Err(Error::Unsupported(crate::error::Cause {
                text: "this kernel or file system has no locks of open file descriptions (F_OFD_SETLK)".into(),
                errno: errno as i32,
            }))
        }
        Err(errno) => Err(refused(errno, REFUSED)),
    }
}

/// As `keep`: a lock that several may share. The descriptor must be open for reading.
pub fn share(file: BorrowedFd<'_>, byte: i64) -> Result<Option<()>> {
    keep(file, libc::F_RDLCK, byte)
}

/// As `keep`: a lock for one alone. The descriptor must be open for writing.
pub fn hold(file: BorrowedFd<'_>, byte: i64) -> Result<Option<()>> {
    keep(file, libc::F_WRLCK, byte)
}

/// Says whether another open file description than that behind number `fd` holds `byte` for itself alone.
///
/// A stranger's shared lock does not count. `fd` may be any number: what is not a file is an error.
pub fn is_held(fd: RawFd, byte: i64) -> Result<bool> {
    let mut lock = command(libc::F_RDLCK, byte);
    // SAFETY: the kernel takes any number for a descriptor; it writes to `lock` alone.
    let asked = unsafe { libc::fcntl(fd, libc::F_OFD_GETLK, &raw mut lock) };
    Errno::result(asked)
        .map_err(|errno| refused(errno, "cannot ask for the lock of a byte (F_OFD_GETLK)"))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

const REFUSED: &str = "cannot lock a byte of the file (F_OFD_SETLK)";

/// A locked byte; dropped, it is free.
pub struct ByteLock {
    file: CloseOnForkFd,
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
        let file = CloseOnForkFd::open(|| shm::reopen(fd, OFlag::O_RDWR))?;
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
        let file = CloseOnForkFd::open(|| shm::open_with(path, OFlag::O_RDWR))?;
        match fcntl(
            file.borrow(),
            FcntlArg::F_OFD_SETLK(&command(libc::F_WRLCK, byte)),
        ) {
            Ok(_) => Ok(Some(ByteLock { file, byte })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(refused(errno, REFUSED)),
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
            match CloseOnForkFd::open(|| open(access)) {
                Err(Error::Permission(_)) => {}
                file => return Self::take(file?, kind, byte, interruptible).map(Some),
            }
        }
        Ok(None)
    }

    fn take(file: CloseOnForkFd, kind: i32, byte: i64, interruptible: bool) -> Result<Self> {
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
