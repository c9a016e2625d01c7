//! Locks of single bytes far beyond the end of a file, which the kernel releases when their owner dies.
//!
//! Such a lock belongs to an *open file description* of its own (`F_OFD_SETLK`, fcntl(2)). Another descriptor of the
//! same file, a forked child or another thread does not share it (D-006).

use super::fork::{CloseOnForkFd, Origin};
use super::{interrupt, refused, shm};
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Locked shared by every process that is attached to a managed segment.
pub const ATTACH: i64 = 1 << 61;
/// Locked by a process that removes the name of a file.
pub const UNLINK: i64 = (1 << 61) + 1;
/// Locked by a process that changes the size of a plain segment; a managed one has a lock word for that.
pub const RESIZE: i64 = (1 << 61) + 2;

/// The byte of ticket 0; the byte of ticket t is t bytes further.
const PARTICIPANT: i64 = 1 << 62;

/// Returns the byte that the participant with this ticket keeps locked while it lives.
pub fn byte_of(ticket: u64) -> i64 {
    /// Tickets have 48 bits, so every byte is a valid file offset.
    const TICKET: u64 = (1 << 48) - 1;
    PARTICIPANT + (ticket & TICKET) as i64
}

/// Locks `byte` until the open file description of `file` ends; `None` if another one has it locked.
///
/// An open file description lives as long as any descriptor or mapping made through it, in any process.
/// `Unsupported`: the kernel or the file system has no such locks.
fn keep(file: BorrowedFd<'_>, kind: i32, byte: i64) -> Result<Option<()>> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&command(kind, byte))) {
        Ok(_) => Ok(Some(())),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
        Err(errno @ (Errno::EINVAL | Errno::ENOSYS | Errno::ENOLCK)) => {
            Err(Error::Unsupported(crate::error::Cause {
                text: "no locks of open file descriptions (F_OFD_SETLK) here; use another kernel or file system".into(),
                errno: errno as i32,
            }))
        }
        Err(errno) => Err(refused(errno, REFUSED)),
    }
}

/// Locks `byte` shared, as `keep` does. The descriptor must be readable.
pub fn share(file: BorrowedFd<'_>, byte: i64) -> Result<Option<()>> {
    keep(file, libc::F_RDLCK, byte)
}

/// Locks `byte` exclusively, as `keep` does. The descriptor must be writable.
pub fn hold(file: BorrowedFd<'_>, byte: i64) -> Result<Option<()>> {
    keep(file, libc::F_WRLCK, byte)
}

/// Returns whether another open file description than that of the number `fd` has `byte` locked exclusively.
///
/// Shared locks do not count. `fd` may be any number: one that is not a file is an error.
pub fn is_held(fd: RawFd, byte: i64) -> Result<bool> {
    let mut lock = command(libc::F_RDLCK, byte);
    // SAFETY: the kernel accepts any number as a descriptor, and writes to `lock` only.
    let asked = unsafe { libc::fcntl(fd, libc::F_OFD_GETLK, &raw mut lock) };
    Errno::result(asked)
        .map_err(|errno| refused(errno, "cannot ask for the lock of a byte (F_OFD_GETLK)"))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// How often a waiter looks whether the lock is free.
const MIN_POLL_INTERVAL: Duration = Duration::from_micros(50);
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How long a waiter lets a read lock keep it out. Another unlinker without write permission holds one for a moment.
const READ_LOCK_TIMEOUT: Duration = Duration::from_millis(80);

/// Returns whether another open file description has `byte` locked shared.
fn is_read_locked(file: BorrowedFd<'_>, byte: i64) -> bool {
    let mut lock = command(libc::F_WRLCK, byte);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && i32::from(lock.l_type) == libc::F_RDLCK
}

#[cold]
fn read_lock() -> Error {
    Error::ReadLocked(
        "another process keeps a read lock on the file and may only read it: create the file with mode 0600".into(),
    )
}

/// Locks the byte of a new ticket exclusively, as `keep` does.
///
/// `ReadLocked`: another process has it locked shared, perhaps with all others.
pub fn hold_ticket(file: BorrowedFd<'_>, byte: i64) -> Result<Option<()>> {
    match hold(file, byte)? {
        None if is_read_locked(file, byte) => Err(read_lock()),
        held => Ok(held),
    }
}

const REFUSED: &str = "cannot lock a byte of the file (F_OFD_SETLK)";

/// A locked byte; dropping it unlocks the byte.
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
    /// Returns the process that holds it.
    pub fn origin(&self) -> Origin {
        self.file.origin()
    }

    /// Locks `byte` of the file behind `fd`; waits while another process has it locked.
    ///
    /// `ReadLocked`: a process has it locked shared, and does not end that within 80 ms.
    /// `Permission`: the file's mode does not let this user write it, even if `fd` is writable. `Forked`: this is a child
    /// that was forked meanwhile.
    pub fn of(fd: BorrowedFd<'_>, byte: i64, interruptible: bool) -> Result<Self> {
        let file = CloseOnForkFd::open(|| shm::reopen(fd, OFlag::O_RDWR))?;
        Self::take(file, libc::F_WRLCK, byte, interruptible)
    }

    /// Locks `byte` of the file behind `fd` as strongly as this user may.
    ///
    /// With read permission only, it is a shared lock, which excludes writers but not other readers. Without read
    /// permission it is `None`.
    pub fn best_of(fd: BorrowedFd<'_>, byte: i64, interruptible: bool) -> Result<Option<Self>> {
        Self::best(byte, interruptible, |access| shm::reopen(fd, access))
    }

    /// Locks `byte` of the file at `path` as `best_of` does.
    pub fn best_at(path: &CStr, byte: i64, interruptible: bool) -> Result<Option<Self>> {
        Self::best(byte, interruptible, |access| shm::open_with(path, access))
    }

    /// Locks `byte` of the file at `path`; `None` if another process has it locked.
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

    /// Waits for the lock by looking again and again: a wait in the kernel has no deadline.
    fn take(file: CloseOnForkFd, kind: i32, byte: i64, interruptible: bool) -> Result<Self> {
        let mut pause = MIN_POLL_INTERVAL;
        let mut read_locked = None;
        loop {
            let locked = keep(file.borrow(), kind, byte);
            file.origin().check()?;
            if locked?.is_some() {
                return Ok(ByteLock { file, byte });
            }
            // A process that may write the file holds the lock for a moment. One that may only read it could hold it
            // as long as it likes.
            if is_read_locked(file.borrow(), byte) {
                let since = *read_locked.get_or_insert_with(Instant::now);
                if since.elapsed() >= READ_LOCK_TIMEOUT {
                    return Err(read_lock());
                }
            } else {
                read_locked = None;
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(MAX_POLL_INTERVAL);
            interrupt::ask(interruptible, file.origin())?;
        }
    }
}

impl Drop for ByteLock {
    fn drop(&mut self) {
        // A forked child shares the lock of its parent.
        if !self.file.origin().is_here() {
            return;
        }
        // Closing is not enough: a child of a raw clone may have a copy of the descriptor.
        let _ = fcntl(
            self.file.borrow(),
            FcntlArg::F_OFD_SETLK(&command(libc::F_UNLCK, self.byte)),
        );
    }
}
