//! Recursive locks: a thread that holds one may take it again.

use super::handle::Opaque;
use super::lock::{fill_info, shmkit_lock_info, shmkit_lock_options};
use super::mutex;
use super::object::{self, Object, with};
use super::output;
use super::segment::shmkit_segment;
use super::status::shmkit_status;
use crate::layout::Kind;
use crate::object::rlock::RLock;
use std::ffi::c_char;

/// A recursive lock: its owner is a thread, which may take it again and gives it back as often. All else is as with
/// shmkit_lock: it survives the death of its owner's process. A thread that ends frees nothing.
#[allow(non_camel_case_types)]
pub struct shmkit_rlock {
    _opaque: (),
}

impl Opaque for RLock {
    const KIND: Kind = Kind::RLock;
}

impl Object for RLock {
    type CSpec = shmkit_lock_options;

    object::forward!(plain);
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
    // SAFETY: the caller's promise.
    unsafe { object::size::<RLock>(options, out) }
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
    unsafe { object::create::<RLock, _>(name, options, out) }
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
    unsafe { object::open::<RLock, _>(name, options, out) }
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
    unsafe { object::open_or_create::<RLock, _>(name, options, out) }
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
    // SAFETY: the caller's promise.
    unsafe { object::create_at::<RLock, _>(segment, offset, options, out) }
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
    // SAFETY: the caller's promise.
    unsafe { object::open_at::<RLock, _>(segment, offset, options, out) }
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
    unsafe { object::open_fd::<RLock, _>(fd, offset, options, out) }
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
        unsafe { fill_info(out, stat, owner, lock.offset(), false) }
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
