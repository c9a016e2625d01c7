//! The C functions that the series call, one file a noun: their table, a handle, and a first call of each (`warm_up`).

pub mod barrier;
pub mod condition;
pub mod event;
pub mod lock;
pub mod once;
pub mod queue;
pub mod rwlock;
pub mod segment;
pub mod semaphore;

pub use shmkit::capi::status::{
    SHMKIT_ERR_BROKEN as BROKEN, SHMKIT_ERR_DEADLOCK as DEADLOCK, SHMKIT_ERR_EMPTY as EMPTY,
    SHMKIT_ERR_EXISTS as EXISTS, SHMKIT_ERR_FULL as FULL, SHMKIT_ERR_INTERRUPTED as INTERRUPTED,
    SHMKIT_ERR_NOT_FOUND as NOT_FOUND, SHMKIT_ERR_NOT_OWNER as NOT_OWNER,
    SHMKIT_ERR_SHUT_DOWN as SHUT_DOWN, SHMKIT_ERR_SYSTEM as SYSTEM, SHMKIT_ERR_TIMEOUT as TIMEOUT,
    SHMKIT_ERR_TOO_MANY_PROCESSES as TOO_MANY_PROCESSES, SHMKIT_ERR_WOULD_BLOCK as WOULD_BLOCK,
};

use crate::suite::capi::segment::Segment;
use shmkit::capi::segment::shmkit_segment;
use std::ffi::c_void;

/// A `shmkit_status`.
pub type Status = i32;

/// The timeout of a call that waits without a limit.
pub const FOREVER: i64 = -1;
/// The timeout of a call that does not wait.
pub const NOWAIT: i64 = 0;

/// How an object with a name is obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is created and must not exist.
    Create,
    /// It is opened and must exist.
    Open,
    /// It is opened, or created if it does not exist.
    OpenOrCreate,
}

/// The `create_at` or `open_at` of an object, with its options `O`.
pub type At<O> =
    unsafe extern "C" fn(*const shmkit_segment, u64, *const O, *mut *mut c_void) -> Status;

/// Creates or opens an object at `offset` of the data; returns its handle.
pub fn object_at<O>(
    function: At<O>,
    segment: Segment,
    offset: u64,
    options: Option<&O>,
) -> Result<*mut c_void, Status> {
    let mut handle = std::ptr::null_mut();
    let options = options.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: a Segment is an open handle; options have their size set, and they and the output live through the call.
    check(unsafe { function(segment.0, offset, options, &raw mut handle) })?;
    Ok(handle)
}

/// Turns a status into a result.
pub fn check(status: Status) -> Result<(), Status> {
    match status {
        0 => Ok(()),
        _ => Err(status),
    }
}

/// Turns a result into a status.
pub fn status<T>(result: Result<T, Status>) -> Status {
    result.err().unwrap_or(0)
}
