//! Status: the results of functions, and the last failure of a thread.

use crate::error::{Cause, Error};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

/// The result of most functions: SHMKIT_OK, or a negative SHMKIT_ERR_ number. These never
/// change.
#[allow(non_camel_case_types)]
pub type shmkit_status = i32;

/// Success.
pub const SHMKIT_OK: shmkit_status = 0;
/// An argument is not valid, for example a NULL pointer, a size of 0 or a name with a slash
/// inside.
pub const SHMKIT_ERR_INVALID: shmkit_status = -1;
/// The handle was closed.
pub const SHMKIT_ERR_CLOSED: shmkit_status = -2;
/// The handle, the object or the file is of another kind.
pub const SHMKIT_ERR_WRONG_KIND: shmkit_status = -3;
/// The name, the directory or the object does not exist, or no longer exists.
pub const SHMKIT_ERR_NOT_FOUND: shmkit_status = -4;
/// The name is taken, or the object exists and SHMKIT_EXCLUSIVE was given.
pub const SHMKIT_ERR_EXISTS: shmkit_status = -5;
/// The kernel does not permit this user the operation, or the handle is read-only.
pub const SHMKIT_ERR_PERMISSION: shmkit_status = -6;
/// The operation is possible, but the file belongs to another user, is a symbolic link, or could be
/// truncated.
pub const SHMKIT_ERR_UNTRUSTED: shmkit_status = -7;
/// Not enough memory in the file system, the cgroup or the machine, or more than the file size
/// limit. The text of shmkit_last_error has the bytes requested, the bytes free, and where.
pub const SHMKIT_ERR_NO_SPACE: shmkit_status = -8;
/// This process has not enough address space, lockable memory or heap.
pub const SHMKIT_ERR_NO_MEMORY: shmkit_status = -9;
/// The timeout expired. Some calls also have a fixed limit, which their comments state.
pub const SHMKIT_ERR_TIMEOUT: shmkit_status = -10;
/// The call would have to wait, but SHMKIT_NOWAIT was given, or the function never waits.
pub const SHMKIT_ERR_WOULD_BLOCK: shmkit_status = -11;
/// The interrupt hook ended the call (see shmkit_set_interrupt).
pub const SHMKIT_ERR_INTERRUPTED: shmkit_status = -12;
/// The caller does not hold what the call would release or change.
pub const SHMKIT_ERR_NOT_OWNER: shmkit_status = -13;
/// A counter would exceed its maximum.
pub const SHMKIT_ERR_OVERFLOW: shmkit_status = -14;
/// The barrier is broken.
pub const SHMKIT_ERR_BROKEN: shmkit_status = -15;
/// The queue is empty.
pub const SHMKIT_ERR_EMPTY: shmkit_status = -16;
/// The queue is full.
pub const SHMKIT_ERR_FULL: shmkit_status = -17;
/// The size is larger than this object, a file or the caller's buffer can hold.
pub const SHMKIT_ERR_TOO_LARGE: shmkit_status = -18;
/// The segment has no room for another process, or the object has none for another reader, holder
/// or waiter. Live processes occupy all of it.
pub const SHMKIT_ERR_TOO_MANY_PROCESSES: shmkit_status = -19;
/// This process can no longer find out which processes are alive.
pub const SHMKIT_ERR_LIVENESS_UNKNOWN: shmkit_status = -20;
/// The shared bytes contradict each other or the size of the file.
pub const SHMKIT_ERR_CORRUPT: shmkit_status = -21;
/// The library or the layout of the segment has another major version.
pub const SHMKIT_ERR_VERSION_MISMATCH: shmkit_status = -22;
/// This kernel, file system or version of the library does not support the operation. Every
/// function with options returns it if a newer program sets a field that this version does not
/// know. An unknown flag is SHMKIT_ERR_INVALID.
pub const SHMKIT_ERR_UNSUPPORTED: shmkit_status = -23;
/// Another error of the kernel: shmkit_last_error has its errno. Every function may return it.
pub const SHMKIT_ERR_SYSTEM: shmkit_status = -24;
/// A defect of this library was caught before it did harm: please report it. Every function may
/// return it.
pub const SHMKIT_ERR_INTERNAL: shmkit_status = -25;
/// The call would wait forever: what it waits for is waiting for the caller.
pub const SHMKIT_ERR_DEADLOCK: shmkit_status = -26;
/// The queue was shut down: no message is put any more, and none is left to get.
pub const SHMKIT_ERR_SHUT_DOWN: shmkit_status = -27;
/// A signal handler or the interrupt hook forked during the call, and this is the child. The call
/// continues in the parent only, and the child holds nothing of it. The next call of the child acts
/// for the child. Every function that makes a system call may return it.
pub const SHMKIT_ERR_FORKED: shmkit_status = -28;
/// A process that may only read the file keeps a read lock on a byte of it. The first use of an
/// object in a process may return this, an unlink, and the resize of a plain segment. Processes that
/// have used the object before are not affected. Create files with mode 0600, so that other users
/// cannot open them.
pub const SHMKIT_ERR_READ_LOCKED: shmkit_status = -29;

struct Last {
    code: shmkit_status,
    errno: i32,
    text: Option<CString>,
}

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last { code: SHMKIT_OK, errno: 0, text: None }) };
}

/// Stores an error for `shmkit_last_error`, and returns its status.
pub(super) fn remember(error: Error) -> shmkit_status {
    let Cause { text, errno } = error.cause().clone();
    let mut bytes = text.into_owned().into_bytes();
    bytes.retain(|&byte| byte != 0);
    let code = error.code();
    // A thread that is ending has no place to store it, and no later call that could ask.
    let _ = LAST.try_with(|last| {
        *last.borrow_mut() = Last {
            code,
            errno,
            text: CString::new(bytes).ok(),
        };
    });
    code
}

/// Returns a short English sentence for a status, without a full stop.
///
/// The string is static and never NULL: do not free it. An unknown number has a sentence too. Any
/// thread may call this function, and so may a signal handler (async-signal-safe).
#[unsafe(no_mangle)]
pub extern "C" fn shmkit_strerror(status: shmkit_status) -> *const c_char {
    let sentence: &CStr = match status {
        SHMKIT_OK => c"success",
        other => Error::sentence(other).unwrap_or(c"not a status of shmkit"),
    };
    sentence.as_ptr()
}

/// Returns what is known about the last call that failed on this thread.
///
///   code          its status; SHMKIT_OK if no call has failed yet
///   system_errno  the errno of the system call that failed; 0 if none did
///   text          a sentence with names and figures. The library owns it. It stays valid until the
///                 next call that fails on this thread, or until the thread ends
///
/// Each output may be NULL. Calls that succeed change nothing here.
///
///   SHMKIT_ERR_INVALID  a pointer is not aligned
///
/// # Safety
/// Each pointer must be NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_last_error(
    code: *mut shmkit_status,
    system_errno: *mut i32,
    text: *mut *const c_char,
) -> shmkit_status {
    let known = LAST.try_with(|last| {
        let last = last.borrow();
        (
            last.code,
            last.errno,
            last.text.as_deref().unwrap_or_default().as_ptr(),
        )
    });
    let (last_code, last_errno, last_text) = known.unwrap_or((SHMKIT_OK, 0, c"".as_ptr()));
    // Not remembered: that would overwrite what the caller asks about.
    if !code.is_aligned() || !system_errno.is_aligned() || !text.is_aligned() {
        return SHMKIT_ERR_INVALID;
    }
    if !code.is_null() {
        // SAFETY: aligned and not NULL, so writable (the caller guarantees it).
        unsafe { code.write(last_code) };
    }
    if !system_errno.is_null() {
        // SAFETY: as above.
        unsafe { system_errno.write(last_errno) };
    }
    if !text.is_null() {
        // SAFETY: as above.
        unsafe { text.write(last_text) };
    }
    SHMKIT_OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_sentence() {
        for status in SHMKIT_ERR_READ_LOCKED..=SHMKIT_OK {
            // SAFETY: strerror returns a static C string.
            let sentence = unsafe { CStr::from_ptr(shmkit_strerror(status)) };
            assert_ne!(sentence, c"not a status of shmkit", "{status}");
        }
    }
}
