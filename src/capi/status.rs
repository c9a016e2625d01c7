//! Status: codes, their sentences, and the last failure of a thread.

use crate::error::{Cause, Error};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

/// What most functions return: SHMKIT_OK, or one of the negative SHMKIT_ERR_... numbers. Outputs are written only on
/// SHMKIT_OK, unless the function says otherwise. The numbers never change.
#[allow(non_camel_case_types)]
pub type shmkit_status = i32;

/// Done.
pub const SHMKIT_OK: shmkit_status = 0;
/// An argument cannot be meant: NULL, a size of zero, a name with a slash inside.
pub const SHMKIT_ERR_INVALID: shmkit_status = -1;
/// The handle has been closed.
pub const SHMKIT_ERR_CLOSED: shmkit_status = -2;
/// Something else stands here: another kind of handle, of object or of file.
pub const SHMKIT_ERR_WRONG_KIND: shmkit_status = -3;
/// Nothing has this name (any more).
pub const SHMKIT_ERR_NOT_FOUND: shmkit_status = -4;
/// The name is taken.
pub const SHMKIT_ERR_EXISTS: shmkit_status = -5;
/// The kernel does not permit it to this user.
pub const SHMKIT_ERR_PERMISSION: shmkit_status = -6;
/// It could be done, but what is there belongs to somebody else, is a symbolic link, or could be pulled away.
pub const SHMKIT_ERR_UNTRUSTED: shmkit_status = -7;
/// The memory is not there. The text says how much was asked for, how much is free, and where.
pub const SHMKIT_ERR_NO_SPACE: shmkit_status = -8;
/// This process cannot have it: address space, locked memory, heap.
pub const SHMKIT_ERR_NO_MEMORY: shmkit_status = -9;
/// The time was up.
pub const SHMKIT_ERR_TIMEOUT: shmkit_status = -10;
/// It would have had to wait, and was told not to.
pub const SHMKIT_ERR_WOULD_BLOCK: shmkit_status = -11;
/// The interrupt hook asked for the end (see shmkit_set_interrupt).
pub const SHMKIT_ERR_INTERRUPTED: shmkit_status = -12;
/// The caller does not hold what it wants to give back.
pub const SHMKIT_ERR_NOT_OWNER: shmkit_status = -13;
/// A counter would go past its end.
pub const SHMKIT_ERR_OVERFLOW: shmkit_status = -14;
/// The barrier is broken.
pub const SHMKIT_ERR_BROKEN: shmkit_status = -15;
/// The queue is empty.
pub const SHMKIT_ERR_EMPTY: shmkit_status = -16;
/// The queue is full.
pub const SHMKIT_ERR_FULL: shmkit_status = -17;
/// Larger than what this object can ever hold.
pub const SHMKIT_ERR_TOO_LARGE: shmkit_status = -18;
/// The table of participants is full of living processes; or so are all places of one object: as many read, hold or wait
/// as it was made for.
pub const SHMKIT_ERR_TOO_MANY_PROCESSES: shmkit_status = -19;
/// This process can no longer ask who is alive.
pub const SHMKIT_ERR_LIVENESS_UNKNOWN: shmkit_status = -20;
/// The shared bytes contradict themselves or what the file allows.
pub const SHMKIT_ERR_CORRUPT: shmkit_status = -21;
/// Another major version of the library or of the layout.
pub const SHMKIT_ERR_VERSION_MISMATCH: shmkit_status = -22;
/// This kernel, file system or version of the library cannot do it.
pub const SHMKIT_ERR_UNSUPPORTED: shmkit_status = -23;
/// Another error of the kernel: shmkit_last_error has its errno.
pub const SHMKIT_ERR_SYSTEM: shmkit_status = -24;
/// A defect of this library was caught before it could do harm: please report it.
pub const SHMKIT_ERR_INTERNAL: shmkit_status = -25;
/// It would wait for what waits for the caller: for ever.
pub const SHMKIT_ERR_DEADLOCK: shmkit_status = -26;
/// The queue was shut down: nothing more is put, and nothing is left to get.
pub const SHMKIT_ERR_SHUT_DOWN: shmkit_status = -27;

struct Last {
    code: shmkit_status,
    errno: i32,
    text: Option<CString>,
}

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last { code: SHMKIT_OK, errno: 0, text: None }) };
}

/// Keeps an error for `shmkit_last_error`, and returns its status.
pub(super) fn remember(error: Error) -> shmkit_status {
    let Cause { text, errno } = error.cause().clone();
    let mut bytes = text.into_owned().into_bytes();
    bytes.retain(|&byte| byte != 0);
    let code = error.code();
    // A thread that is just ending has nowhere to keep it, and nobody who could ask.
    let _ = LAST.try_with(|last| {
        *last.borrow_mut() = Last {
            code,
            errno,
            text: CString::new(bytes).ok(),
        };
    });
    code
}

/// Returns a short sentence for a status, in English, without a full stop; it lives for ever and is not freed.
///
/// Never NULL: a number that means nothing has a sentence which says so. Any thread; async-signal-safe.
#[unsafe(no_mangle)]
pub extern "C" fn shmkit_strerror(status: shmkit_status) -> *const c_char {
    let sentence: &CStr = match status {
        SHMKIT_OK => c"success",
        other => Error::sentence(other).unwrap_or(c"not a status of shmkit"),
    };
    sentence.as_ptr()
}

/// Tells what the last call that failed on this thread had to say.
///
/// `code` gets its status, SHMKIT_OK if none has failed yet; `system_errno` the errno of the system call that failed,
/// 0 where none did; `text` a sentence with names and figures. Each may be NULL if it is not wanted. The text belongs
/// to the library and lives until the next call that fails on this thread, or the thread's end. Calls that succeed
/// change nothing here. SHMKIT_ERR_INVALID: a pointer is not aligned.
///
/// # Safety
/// Each pointer must be NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_last_error(
    code: *mut shmkit_status,
    system_errno: *mut i32,
    text: *mut *const c_char,
) -> shmkit_status {
    let told = LAST.try_with(|last| {
        let last = last.borrow();
        (
            last.code,
            last.errno,
            last.text.as_deref().unwrap_or_default().as_ptr(),
        )
    });
    let (last_code, last_errno, last_text) = told.unwrap_or((SHMKIT_OK, 0, c"".as_ptr()));
    // Refused without a trace: what is remembered is what the caller asks about.
    if !code.is_aligned() || !system_errno.is_aligned() || !text.is_aligned() {
        return SHMKIT_ERR_INVALID;
    }
    if !code.is_null() {
        // SAFETY: aligned and not NULL, so writable (the caller's promise).
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
        for status in SHMKIT_ERR_SHUT_DOWN..=SHMKIT_OK {
            // SAFETY: strerror returns a static C string.
            let sentence = unsafe { CStr::from_ptr(shmkit_strerror(status)) };
            assert_ne!(sentence, c"not a status of shmkit", "{status}");
        }
    }
}
