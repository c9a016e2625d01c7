//! Conditions: a thread that holds a lock waits, without it, until another one that holds it notifies.

use super::handle::Handle;
use super::object::{self, Object, with};
use super::status::shmkit_status;
use super::structure::{self, Sized32};
use super::wait::{SHMKIT_NOWAIT, options};
use super::{check_pointer, optional};
use crate::error::{Error, Result};
use crate::object::condition::{Condition, End, FileOptions, Mutex, Options};
use crate::object::lock::Lock;
use crate::object::rlock::RLock;
use std::ffi::{c_char, c_void};

/// A condition: who holds a lock gives it back and waits until somebody who holds it notifies; then has it again. The
/// lock is a shmkit_lock or a shmkit_rlock of the caller's, which is named in each call: always the same one.
///
/// Each waiting thread has a cell, so that a notification reaches those that it is meant for, and nobody else returns. If
/// a waiter dies, however it dies, it is skipped, and a notification that it was sent goes to another one that waited
/// then, within 12 ms after the kernel has torn the dead process down. A handle may be used by all threads at once and by
/// forked children.
#[allow(non_camel_case_types)]
pub struct shmkit_condition {
    _opaque: (),
}

/// How to make or open a condition. All zeros but struct_size is what most want; so is a NULL pointer to it.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_condition_options {
    /// sizeof(shmkit_condition_options).
    pub struct_size: u32,
    /// SHMKIT_TRUST, SHMKIT_EXCLUSIVE, or-ed.
    pub flags: u32,
    /// Permission bits of a new named one. 0: 0600.
    pub mode: u32,
    /// How many processes may wait at a new named one at a time, 1 to 4096. 0: 128.
    pub participants: u32,
    /// Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
    /// How many threads may wait at a time, 1 to 4096; of all processes together. 0: 128.
    pub cells: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value (the
// pointer is followed only as the caller of the exported function promises).
unsafe impl Sized32 for shmkit_condition_options {
    const FIRST: usize = size_of::<shmkit_condition_options>();
}
const _: () = assert!(size_of::<shmkit_condition_options>() == 32);

/// What is known of a condition: each figure as it was at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_condition_info {
    /// sizeof(shmkit_condition_info); on return how much of it was filled.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// How many threads can wait at a time.
    pub cells: u64,
    /// How many wait; of these some may be dead.
    pub waiting: u64,
    /// How often somebody began to wait.
    pub waits: u64,
    /// How many notifications waiters were sent.
    pub notified: u64,
    /// How many waits ended without a notification.
    pub timeouts: u64,
    /// How many notifications went from the dead and the interrupted to other waiters.
    pub recoveries: u64,
    /// Where it stands in its segment's data, or in its arena.
    pub offset: u64,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_condition_info {
    const FIRST: usize = size_of::<shmkit_condition_info>();
}
const _: () = assert!(size_of::<shmkit_condition_info>() == 64);

impl Object for Condition {
    type CSpec = shmkit_condition_options;
    type Options = Options;

    fn options(spec: &shmkit_condition_options, file: FileOptions) -> Result<Options> {
        object::check_reserved(spec.reserved)?;
        Ok(Options {
            cells: spec.cells,
            file,
        })
    }

    fn size(options: &Options) -> Result<u64> {
        options.size()
    }

    object::forward!();
}

/// Returns the lock behind a handle of either kind.
///
/// # Safety
/// `lock_or_rlock` must be NULL or a handle of this library that no other thread is closing.
unsafe fn lock_of<'a>(lock_or_rlock: *mut c_void) -> Result<&'a dyn Mutex> {
    check_pointer(lock_or_rlock.cast::<Handle<Lock>>(), "lock_or_rlock")?;
    // SAFETY: the caller's promise.
    if let Some(lock) = unsafe { Handle::<Lock>::peek(lock_or_rlock.cast()) } {
        return Ok(lock);
    }
    // SAFETY: the caller's promise.
    match unsafe { Handle::<RLock>::borrow(lock_or_rlock.cast()) } {
        Ok(lock) => Ok(lock),
        Err(Error::WrongKind(_)) => Err(Error::WrongKind(
            "lock_or_rlock is neither a handle of a Lock nor of an RLock".into(),
        )),
        Err(error) => Err(error),
    }
}

/// Gives the lock back, waits up to `timeout_ns` nanoseconds for a notification, and takes the lock again.
///
/// `lock_or_rlock`: a handle of a shmkit_lock or of a shmkit_rlock, which the caller holds; a recursive one is given back wholly,
/// and held as often as before afterwards. `timeout_ns`: SHMKIT_FOREVER, SHMKIT_NOWAIT (others get a chance at the lock),
/// or a time. `flags`: SHMKIT_INTERRUPTIBLE. Taking the lock again is bounded by no time, and nothing interrupts it.
///
/// SHMKIT_OK: notified. SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK (after SHMKIT_NOWAIT): not notified in that time.
/// SHMKIT_ERR_INTERRUPTED: the hook has ended it; a notification that came at the same moment goes to another waiter.
/// With these four `owner_died` (NULL: not wanted) tells 1 where an owner of the lock died and mark_consistent has not been
/// called since: look at what the lock guards, and make it whole.
///
/// The lock is held again whatever this returns, but for SHMKIT_ERR_NOT_OWNER: the caller did not hold it; or it is not to
/// be had again, because this process has lost all descriptors of its segment while somebody else holds it (closefrom).
/// SHMKIT_ERR_INVALID: NULL, a negative time, unknown flags; or another lock than the one with which the condition was used
/// first, in any process. SHMKIT_ERR_WRONG_KIND: `lock_or_rlock` is no lock. SHMKIT_ERR_TOO_MANY_PROCESSES: as many threads as the
/// condition has cells wait already, or as many processes as its segment has room for are alive. SHMKIT_ERR_LIVENESS_UNKNOWN,
/// SHMKIT_ERR_PERMISSION: this process cannot wait in its segment. SHMKIT_ERR_CORRUPT.
///
/// Ask in a loop for what you wait for: between a notification and the lock others may have had it.
///
/// # Safety
/// `condition` and `lock_or_rlock` must be NULL or handles of this library that no other thread is closing; `owner_died` NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_wait(
    condition: *mut shmkit_condition,
    lock_or_rlock: *mut c_void,
    timeout_ns: i64,
    flags: u32,
    owner_died: *mut u32,
) -> shmkit_status {
    let body = |condition: &Condition| {
        // SAFETY: the caller's promise.
        let lock_or_rlock = unsafe { lock_of(lock_or_rlock) }?;
        let options = options(timeout_ns, flags)?;
        // SAFETY: the caller's promise.
        let died = unsafe { optional(owner_died, "owner_died") }?;
        let waited = condition.wait_with(lock_or_rlock, options)?;
        died.map(|died| died.write(waited.recovered.into()));
        match waited.end {
            End::Notified => Ok(()),
            End::Interrupted => Err(Error::Interrupted(
                "the interrupt hook ended the wait".into(),
            )),
            End::Timeout if timeout_ns == SHMKIT_NOWAIT => {
                Err(Error::WouldBlock("nobody has notified".into()))
            }
            End::Timeout => Err(Error::Timeout("nobody has notified in that time".into())),
        }
    };
    // SAFETY: the caller's promise.
    unsafe { with(condition, body) }
}

/// Notifies the `count` threads that have waited longest, or as many as wait: those return, and no others, once they have
/// the lock that the caller holds. The dead are skipped. Nobody waits: nothing happens, and nothing is remembered.
///
/// SHMKIT_ERR_NOT_OWNER: the caller does not hold `lock_or_rlock`. SHMKIT_ERR_INVALID, SHMKIT_ERR_WRONG_KIND: as of
/// shmkit_condition_wait.
///
/// # Safety
/// `condition` and `lock_or_rlock` must be NULL or handles of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_notify(
    condition: *mut shmkit_condition,
    lock_or_rlock: *mut c_void,
    count: u32,
) -> shmkit_status {
    let body = |condition: &Condition| {
        // SAFETY: the caller's promise.
        let lock_or_rlock = unsafe { lock_of(lock_or_rlock) }?;
        condition.notify_with(lock_or_rlock, count.into())
    };
    // SAFETY: the caller's promise.
    unsafe { with(condition, body) }
}

/// Notifies all threads that wait; otherwise as shmkit_condition_notify.
///
/// # Safety
/// As for shmkit_condition_notify.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_notify_all(
    condition: *mut shmkit_condition,
    lock_or_rlock: *mut c_void,
) -> shmkit_status {
    let body = |condition: &Condition| {
        // SAFETY: the caller's promise.
        let lock_or_rlock = unsafe { lock_of(lock_or_rlock) }?;
        condition.notify_with(lock_or_rlock, u64::MAX)
    };
    // SAFETY: the caller's promise.
    unsafe { with(condition, body) }
}

/// Tells what is known of the condition. Nobody is asked who lives: only a notification does that.
///
/// # Safety
/// `condition` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_stat(
    condition: *const shmkit_condition,
    out: *mut shmkit_condition_info,
) -> shmkit_status {
    let body = |condition: &Condition| {
        // SAFETY: the caller's promise.
        unsafe { structure::check(out, "out") }?;
        let stat = condition.stat();
        let info = shmkit_condition_info {
            struct_size: 0,
            flags: 0,
            cells: stat.cells,
            waiting: stat.waiting,
            waits: stat.waits,
            notified: stat.notified,
            timeouts: stat.timeouts,
            recoveries: stat.recoveries,
            offset: condition.offset(),
        };
        // SAFETY: `check` has accepted `out`; the caller promises that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(condition, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_condition.rs"));
