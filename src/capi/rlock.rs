//! Recursive locks: the thread that holds one may acquire it again.

use super::lock::{fill_info, shmkit_lock_info};
use super::mutex;
use super::object::{Object, shmkit_object_options, with};
use super::output;
use super::status::shmkit_status;
use crate::error::Result;
use crate::object::FileOptions;
use crate::object::rlock::RLock;

/// A recursive lock.
///
///   Owner    A thread. It may acquire the lock again, and must release it as many times.
///   Death    If the owner's process dies, for any reason, a waiter acquires the lock at most 12 ms
///            after the kernel has torn the process down. It sees `*owner_died` = 1, because what
///            the lock guards may be half written. If only the owner's thread ends, the lock stays
///            held.
///   Threads  All threads of a process may use a handle at once, and so may forked children. A
///            child holds nothing that its parent holds.
///   Size     64 bytes in a segment.
///   Options  shmkit_object_options, without flags of its own.
///   Close    A close does not release the lock. If the process closes its last handle of the
///            segment while it holds the lock, the lock has a dead owner.
#[allow(non_camel_case_types)]
pub struct shmkit_rlock {
    _opaque: (),
}

// SAFETY: the options are shmkit_object_options.
unsafe impl Object for RLock {
    type CSpec = shmkit_object_options;

    fn options(_: &shmkit_object_options, file: FileOptions) -> Result<FileOptions> {
        Ok(file)
    }
}

/// Acquires the lock, and waits for it if necessary. If this thread holds the lock, it acquires the
/// lock once more.
///
/// The caller holds the lock if and only if the call returns SHMKIT_OK.
///
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///   owner_died  (may be NULL) 1 if an owner died and shmkit_rlock_mark_consistent has not been
///               called since: check and repair what the lock guards. Otherwise 0
///
///   SHMKIT_ERR_OVERFLOW  this thread holds the lock 2^64 - 1 times
///   and the errors of shmkit_lock_acquire
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
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { mutex::acquire::<RLock, _>(lock, timeout_ns, flags, owner_died) }
}

/// Releases the lock once.
///
/// After the death of an owner the lock stays marked until shmkit_rlock_mark_consistent is called.
///
///   SHMKIT_ERR_NOT_OWNER  this thread does not hold the lock
///
/// # Safety
/// As for shmkit_lock_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_release(lock: *mut shmkit_rlock) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { mutex::release::<RLock, _>(lock) }
}

/// Returns how many times this thread holds the lock; 0 if it does not hold it.
///
/// # Safety
/// `lock` must be NULL or a handle of this library; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_depth(
    lock: *const shmkit_rlock,
    out: *mut u64,
) -> shmkit_status {
    let body = |lock: &RLock| {
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { output(out, "out") }?.write(lock.depth());
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, body) }
}

/// Marks what the lock guards as repaired after the death of an owner.
///
///   SHMKIT_ERR_NOT_OWNER  this thread does not hold the lock
///
/// # Safety
/// As for shmkit_lock_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rlock_mark_consistent(lock: *mut shmkit_rlock) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, RLock::mark_consistent) }
}

/// Returns the state of the lock. It does not check whether the owner is alive: only an acquire
/// does.
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
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { fill_info(out, stat, owner, lock.offset(), false) }
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_rlock.rs"));
