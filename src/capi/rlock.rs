//! Recursive locks: a thread that holds one may take it again.

use super::lock::{options, shmkit_lock_info, shmkit_lock_options, tell};
use super::mutex;
use super::object::{self, object, with};
use super::segment::{named, shmkit_segment};
use super::status::shmkit_status;
use super::{output, run, text};
use crate::error::Result;
use crate::lock::{Create, Named};
use crate::rlock::RLock;
use std::ffi::c_char;

/// A recursive lock: its owner is a thread, which may take it again and gives it back as often. All else is as with
/// shmkit_lock: it survives the death of its owner's process. A thread that ends frees nothing.
#[allow(non_camel_case_types)]
pub struct shmkit_rlock {
    _opaque: (),
}

object!(RLock, RLock);

/// Makes a handle with `make` and stores it.
///
/// # Safety
/// `given` as for `options`; `out` must be NULL or writable.
unsafe fn store(
    given: *const shmkit_lock_options,
    out: *mut *mut shmkit_rlock,
    make: impl FnOnce(&Named, Create) -> Result<RLock>,
) -> shmkit_status {
    let make = || {
        // SAFETY: the caller's promise.
        let (options, create) = unsafe { options(given, 0) }?;
        make(&options.named, create)
    };
    // SAFETY: the caller's promise.
    unsafe { object::store(out, make) }
}

/// Tells how many bytes a recursive lock takes in a segment: 64. It stands at a multiple of 64.
///
/// # Safety
/// `options` must be NULL or a struct whose struct_size is set; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_size(
    options: *const shmkit_lock_options,
    out: *mut u64,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        unsafe { self::options(options, 0) }?;
        // SAFETY: the caller's promise.
        unsafe { output(out, "out") }?.write(RLock::SIZE);
        Ok(())
    })
}

/// Makes a recursive lock; as shmkit_lock_create.
///
/// # Safety
/// As for shmkit_lock_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_create(
    name: *const c_char,
    options: *const shmkit_lock_options,
    out: *mut *mut shmkit_rlock,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    // SAFETY: the caller's promise.
    unsafe {
        store(options, out, |options, _| match name {
            Some(name) => RLock::named(name, Create::Always, options),
            None => RLock::unnamed(),
        })
    }
}

/// Opens the recursive lock of this name; as shmkit_lock_open.
///
/// # Safety
/// As for shmkit_lock_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_open(
    name: *const c_char,
    options: *const shmkit_lock_options,
    out: *mut *mut shmkit_rlock,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    // SAFETY: the caller's promise.
    unsafe {
        store(options, out, |options, _| {
            RLock::named(named(name)?, Create::Never, options)
        })
    }
}

/// Opens the recursive lock of this name, or makes it; as shmkit_lock_open_or_create.
///
/// # Safety
/// As for shmkit_lock_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_open_or_create(
    name: *const c_char,
    options: *const shmkit_lock_options,
    out: *mut *mut shmkit_rlock,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    // SAFETY: the caller's promise.
    unsafe {
        store(options, out, |options, _| {
            RLock::named(named(name)?, Create::IfMissing, options)
        })
    }
}

/// Opens the recursive lock at `offset` of the segment's data, or makes it there; as shmkit_lock_create_at.
///
/// # Safety
/// As for shmkit_lock_create_at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_create_at(
    segment: *const shmkit_segment,
    offset: u64,
    options: *const shmkit_lock_options,
    out: *mut *mut shmkit_rlock,
) -> shmkit_status {
    let body = |_: &Named, create| {
        // SAFETY: the caller's promise.
        let segment = unsafe { object::segment_of(segment) }?;
        RLock::at(segment, offset, create)
    };
    // SAFETY: the caller's promise.
    unsafe { store(options, out, body) }
}

/// Opens the recursive lock at `offset` of the segment's data; as shmkit_lock_open_at.
///
/// # Safety
/// As for shmkit_lock_create_at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_open_at(
    segment: *const shmkit_segment,
    offset: u64,
    options: *const shmkit_lock_options,
    out: *mut *mut shmkit_rlock,
) -> shmkit_status {
    let body = |_: &Named, _| {
        // SAFETY: the caller's promise.
        let segment = unsafe { object::segment_of(segment) }?;
        RLock::at(segment, offset, Create::Never)
    };
    // SAFETY: the caller's promise.
    unsafe { store(options, out, body) }
}

/// Opens the recursive lock that was handed over; as shmkit_lock_open_fd.
///
/// # Safety
/// As for shmkit_lock_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_open_fd(
    fd: i32,
    offset: u64,
    options: *const shmkit_lock_options,
    out: *mut *mut shmkit_rlock,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe {
        store(options, out, |options, _| {
            RLock::open_fd(fd, offset, options)
        })
    }
}

/// Tells what another process needs to open it; as shmkit_lock_fd.
///
/// # Safety
/// As for shmkit_lock_fd.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_fd(
    lock: *const shmkit_rlock,
    fd: *mut i32,
    offset: *mut u64,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::fd::<RLock, _>(lock, fd, offset) }
}

/// Opens the segment that the lock stands in; as shmkit_lock_segment.
///
/// # Safety
/// As for shmkit_lock_segment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_segment(
    lock: *const shmkit_rlock,
    out: *mut *mut shmkit_segment,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::segment::<RLock, _>(lock, out) }
}

/// Takes the lock, or takes it once more where this thread has it, waiting as shmkit_lock_acquire does.
///
/// Errors and `recovered` as there; SHMKIT_ERR_OVERFLOW: held 2^64 - 1 times.
///
/// # Safety
/// As for shmkit_lock_acquire.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_acquire(
    lock: *mut shmkit_rlock,
    timeout_ns: i64,
    flags: u32,
    recovered: *mut u32,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { mutex::acquire::<RLock, _>(lock, timeout_ns, flags, recovered) }
}

/// Gives the lock back once. SHMKIT_ERR_NOT_OWNER: this thread does not hold it.
///
/// # Safety
/// As for shmkit_lock_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_release(lock: *mut shmkit_rlock) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { mutex::release::<RLock, _>(lock) }
}

/// Tells how often this thread holds the lock; 0: not at all.
///
/// # Safety
/// `lock` must be NULL or a handle of this library; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_depth(
    lock: *const shmkit_rlock,
    out: *mut u64,
) -> shmkit_status {
    let body = |lock: &RLock| {
        // SAFETY: the caller's promise.
        unsafe { output(out, "out") }?.write(lock.depth());
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(lock, body) }
}

/// Says that what the lock guards is whole again. SHMKIT_ERR_NOT_OWNER: this thread does not hold it.
///
/// # Safety
/// As for shmkit_lock_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_mark_consistent(lock: *mut shmkit_rlock) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(lock, RLock::mark_consistent) }
}

/// Tells what is known of the lock; as shmkit_lock_stat.
///
/// # Safety
/// As for shmkit_lock_stat.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_stat(
    lock: *const shmkit_rlock,
    out: *mut shmkit_lock_info,
) -> shmkit_status {
    let body = |lock: &RLock| {
        let (stat, owner) = lock.stat();
        // SAFETY: the caller's promise.
        unsafe { tell(out, stat, owner, lock.offset(), false) }
    };
    // SAFETY: the caller's promise.
    unsafe { with(lock, body) }
}

/// Removes the name of a named one; as shmkit_lock_unlink.
///
/// # Safety
/// As for shmkit_lock_unlink.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_unlink(lock: *mut shmkit_rlock) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::unlink::<RLock, _>(lock) }
}

/// Lets go of the lock; as shmkit_lock_close.
///
/// # Safety
/// As for shmkit_lock_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_close(lock: *mut shmkit_rlock) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::close::<RLock, _>(lock) }
}
