//! The interface to the kernel: the only files that use libc, nix and memmap2.
//!
//! The modules above use safe functions, plain integers and this crate's errors.

pub mod atomic;
pub mod clock;
pub mod eventfd;
pub mod fork;
pub mod futex;
pub mod interrupt;
pub mod lockfile;
pub mod map;
pub mod memory;
pub mod process;
pub mod shm;
pub mod thread;

use crate::error::{Cause, Error};
use nix::errno::Errno;

/// Turns an errno into an error, with a sentence about what failed.
pub(crate) fn refused(errno: Errno, what: &str) -> Error {
    refused_because(errno, format!("{what}: {}", errno.desc()))
}

/// Turns an errno into an error with this text.
pub(crate) fn refused_because(errno: Errno, text: String) -> Error {
    let cause = Cause {
        text: text.into(),
        errno: errno as i32,
    };
    match errno {
        Errno::ENOENT => Error::NotFound(cause),
        Errno::EEXIST => Error::Exists(cause),
        Errno::EACCES | Errno::EPERM | Errno::EROFS => Error::Permission(cause),
        Errno::ELOOP => Error::Untrusted(cause),
        Errno::ENOSPC | Errno::EDQUOT => Error::NoSpace(cause),
        Errno::ENOMEM => Error::NoMemory(cause),
        Errno::EFBIG | Errno::EOVERFLOW => Error::TooLarge(cause),
        Errno::ENAMETOOLONG | Errno::ENOTDIR => Error::Invalid(cause),
        Errno::EISDIR | Errno::ENXIO | Errno::ENODEV => Error::WrongKind(cause),
        Errno::EOPNOTSUPP | Errno::ENOSYS => Error::Unsupported(cause),
        _ => Error::System(cause),
    }
}
