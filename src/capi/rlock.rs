//! Recursive locks: a thread that holds one may take it again.

use super::lock::{fill_info, shmkit_lock_info};
use super::mutex;
use super::object::{self, Object, shmkit_object_options, with};
use super::output;
use super::status::shmkit_status;
use crate::object::rlock::RLock;

/// A recursive lock: its owner is a thread, which may take it again and gives it back as often. All else is as with
/// shmkit_lock: it survives the death of its owner's process. A thread that ends frees nothing.
#[allow(non_camel_case_types)]
pub struct shmkit_rlock {
    _opaque: (),
}

impl Object for RLock {
    type CSpec = shmkit_object_options;

    object::forward!(plain);
}

/// Takes the lock, or takes it once more where this thread has it, waiting as shmkit_lock_acquire does.
///
/// Errors and `owner_died` as there; SHMKIT_ERR_OVERFLOW: held 2^64 - 1 times.
///
/// # Safety
/// As for shmkit_lock_acquire.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_acquire(
    lock: *mut shmkit_rlock,
    timeout_ns: i64,
    flags: u32,
    owner_died: *mut u32,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { mutex::acquire::<RLock, _>(lock, timeout_ns, flags, owner_died) }
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

include!(concat!(env!("OUT_DIR"), "/object_rlock.rs"));
