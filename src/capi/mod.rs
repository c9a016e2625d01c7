//! The C ABI: one file per noun. Each function checks its pointers, calls the core once, and stores
//! its outputs.
//!
//! The comments of the exported items are the manual in the C header: they are written for C
//! programmers.

// shmkit_<noun>_create is how the header writes the names of a life cycle.
#![allow(rustdoc::invalid_html_tags)]

pub mod barrier;
pub mod condition;
pub mod event;
pub mod interrupt;
pub mod limits;
pub mod lock;
pub mod object;
pub mod once;
pub mod queue;
pub mod rlock;
pub mod rwlock;
pub mod segment;
pub mod semaphore;
pub mod status;
pub mod version;
pub mod wait;

mod handle;
mod mutex;
mod structure;

use crate::error::{Error, Result};
use crate::sys::thread::CancelGuard;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the body of an exported function as `run_verb` does. The thread cannot be cancelled meanwhile.
fn run(body: impl FnOnce() -> Result<()>) -> status::shmkit_status {
    let _cancel = CancelGuard::new();
    run_verb(body)
}

/// Runs the body of an exported function. An error or a panic becomes a status, which
/// `shmkit_last_error` describes.
///
/// The verbs of objects are often called: what they call disables cancellation where it is needed (D-079).
fn run_verb(body: impl FnOnce() -> Result<()>) -> status::shmkit_status {
    // A body that unwinds leaves at most a handle that was not returned, or an output that was not written.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => status::SHMKIT_OK,
        Ok(Err(error)) => status::remember(error),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            status::remember(Error::Internal(
                text.unwrap_or_else(|| "a panic without a text".into())
                    .into(),
            ))
        }
    }
}

/// Checks a pointer to an output.
///
/// # Safety
/// If `out` is not NULL and aligned, it must be writable, and no other thread may use it during the call.
unsafe fn output<'a, T>(
    out: *mut T,
    what: &'static str,
) -> Result<&'a mut std::mem::MaybeUninit<T>> {
    check_pointer(out, what)?;
    // SAFETY: not NULL and aligned (checked above); the caller guarantees the rest.
    Ok(unsafe { &mut *out.cast() })
}

fn check_pointer<T>(pointer: *const T, what: &'static str) -> Result<()> {
    if pointer.is_null() {
        return Err(Error::Invalid(format!("{what} must not be NULL").into()));
    }
    if !pointer.is_aligned() {
        return Err(Error::Invalid(format!("{what} must be aligned").into()));
    }
    Ok(())
}

/// Checks a pointer as `output` does, but returns `None` for NULL: the caller does not need this output.
///
/// # Safety
/// As for `output`.
unsafe fn optional<'a, T>(
    out: *mut T,
    what: &'static str,
) -> Result<Option<&'a mut std::mem::MaybeUninit<T>>> {
    if out.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { output(out, what) }.map(Some)
}

/// Refuses flags that are not in `known`.
fn check_flags(flags: u32, known: u32) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(Error::Invalid(
            format!("flags must not contain {unknown:#x}: this function does not know it").into(),
        )),
    }
}

/// Reads permission bits. 0 means the default.
fn mode(mode: u32) -> Result<Option<u32>> {
    match mode {
        0 => Ok(None),
        0o1..=0o777 => Ok(Some(mode)),
        _ => Err(Error::Invalid(
            format!("options: mode must be at most 0777, not 0{mode:o}").into(),
        )),
    }
}

/// Reads a string that may be NULL.
///
/// # Safety
/// If `text` is not NULL, it must end with a NUL byte and not change during the call.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a CStr> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL (checked above); the caller guarantees the rest.
    Some(unsafe { CStr::from_ptr(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_status() {
        assert_eq!(run(|| panic!("boom {}", 1)), status::SHMKIT_ERR_INTERNAL);
        let mut last = std::ptr::null();
        // SAFETY: one output that can be written.
        let status = unsafe {
            status::shmkit_last_error(std::ptr::null_mut(), std::ptr::null_mut(), &raw mut last)
        };
        assert_eq!(status, status::SHMKIT_OK);
        // SAFETY: the text lives until the next failure on this thread.
        assert_eq!(unsafe { text(last) }, Some(c"boom 1"));
    }
}
