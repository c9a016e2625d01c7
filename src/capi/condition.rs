//! Conditions: a thread that holds a lock releases it and waits until another owner notifies it.

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

/// A condition (pthread_cond_t, std::sync::Condvar): owners of a lock wait for a notification.
///
/// The lock is a shmkit_lock or a shmkit_rlock of the program. Each call names the lock, which must
/// always be the same one.
///
///   Waiters  Each waiting thread occupies a cell. A notification wakes the threads that it is
///            meant for, and no other thread returns.
///   Death    If a waiter dies, notifications skip it. If it dies between its notification and its
///            acquisition of the lock, another thread that waited at that time gets the
///            notification, at most 12 ms after the kernel has torn the process down.
///   Threads  All threads of a process may use a handle at once, and so may forked children.
///   Size     64 bytes and 16 for each cell, rounded up to a multiple of 64.
///   Options  shmkit_condition_open_or_create and shmkit_condition_create_at compare cells; 0 means
///            128. The other opens accept any valid number, and the condition keeps its cells.
///   Export   A process that opens an exported condition needs its lock too: export both.
///   Unlink   The lock keeps its own name.
///   Close    The lock stays open.
#[allow(non_camel_case_types)]
pub struct shmkit_condition {
    _opaque: (),
}

/// How to create or open a condition. NULL, or zeros after struct_size, mean the defaults.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_condition_options {
    /// sizeof(shmkit_condition_options).
    pub struct_size: u32,
    /// SHMKIT_TRUST and SHMKIT_EXCLUSIVE, or-ed.
    pub flags: u32,
    /// Permission bits of a new named condition, 1 to 0777, whatever the umask. 0: 0600.
    pub mode: u32,
    /// The number of processes that can wait at a new named condition at a time, 1 to 4096.
    /// 0: 128.
    pub participants: u32,
    /// The directory of a named condition. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
    /// The number of threads of all processes that can wait at a time, 1 to 4096. 0: 128.
    pub cells: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value. The
// pointer is followed only as the caller of the exported function guarantees.
unsafe impl Sized32 for shmkit_condition_options {
    const FIRST: usize = size_of::<shmkit_condition_options>();
}
const _: () = assert!(size_of::<shmkit_condition_options>() == 32);

/// The state of a condition. Each figure was true at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_condition_info {
    /// sizeof(shmkit_condition_info); on return, the number of bytes filled.
    pub struct_size: u32,
    /// Always 0.
    pub flags: u32,
    /// The number of threads that can wait at a time.
    pub cells: u64,
    /// The number of waiting threads, including those of dead processes.
    pub waiting: u64,
    /// The number of waits that have begun.
    pub waits: u64,
    /// The number of notifications sent to waiters.
    pub notified: u64,
    /// The number of waits that ended without a notification.
    pub timeouts: u64,
    /// The number of notifications that passed from dead or interrupted waiters to other waiters.
    pub recoveries: u64,
    /// The offset of the condition in the data of its segment, or in the memory file of unnamed
    /// objects.
    pub offset: u64,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_condition_info {
    const FIRST: usize = size_of::<shmkit_condition_info>();
}
const _: () = assert!(size_of::<shmkit_condition_info>() == 64);

// SAFETY: the options begin with the fields of shmkit_object_options.
unsafe impl Object for Condition {
    type CSpec = shmkit_condition_options;

    fn options(spec: &shmkit_condition_options, file: FileOptions) -> Result<Options> {
        object::check_reserved(spec.reserved)?;
        Ok(Options {
            cells: spec.cells,
            file,
        })
    }
}

/// Returns the lock behind a handle of either kind.
///
/// # Safety
/// `lock_or_rlock` must be NULL or a handle of this library that no other thread is closing.
unsafe fn lock_of<'a>(lock_or_rlock: *mut c_void) -> Result<&'a dyn Mutex> {
    check_pointer(lock_or_rlock.cast::<Handle<Lock>>(), "lock_or_rlock")?;
    // SAFETY: the caller guarantees it (see # Safety).
    if let Some(lock) = unsafe { Handle::<Lock>::peek(lock_or_rlock.cast()) } {
        return Ok(lock);
    }
    // SAFETY: the caller guarantees it (see # Safety).
    match unsafe { Handle::<RLock>::borrow(lock_or_rlock.cast()) } {
        Ok(lock) => Ok(lock),
        Err(Error::WrongKind(_)) => Err(Error::WrongKind(
            "lock_or_rlock must be a handle of a Lock or an RLock".into(),
        )),
        Err(error) => Err(error),
    }
}

/// Releases the lock, waits for a notification, and acquires the lock again.
///
/// Other threads may have held the lock between the notification and the return: check in a loop
/// for the state that the caller waits for.
///
///   lock_or_rlock  a shmkit_lock * or a shmkit_rlock * that the caller holds. A recursive lock is
///                  released completely; afterwards it is held as many times as before
///   timeout_ns     nanoseconds to wait for a notification, SHMKIT_FOREVER, or SHMKIT_NOWAIT, which
///                  only allows other threads to acquire the lock. The second acquisition has no
///                  time limit, and the interrupt hook cannot end it
///   flags          SHMKIT_INTERRUPTIBLE or 0
///   owner_died     (may be NULL) 1 if an owner of the lock died and mark_consistent has not been
///                  called since, else 0. After 1, check and repair what the lock guards. Written
///                  on SHMKIT_OK and with the first three errors below
///
/// The caller holds the lock again whatever the call returns, except for SHMKIT_ERR_NOT_OWNER and
/// SHMKIT_ERR_FORKED.
///
///   SHMKIT_ERR_TIMEOUT             the timeout expired without a notification
///   SHMKIT_ERR_WOULD_BLOCK         no notification, and SHMKIT_NOWAIT was given
///   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call. A notification that came at
///                                  the same moment goes to another waiter
///   SHMKIT_ERR_NOT_OWNER           the caller does not hold the lock. Or it cannot acquire the
///                                  lock again, because this process has lost all descriptors of
///                                  the lock's segment (closefrom) and another owner holds it
///   SHMKIT_ERR_INVALID             the condition was first used with another lock, in any process;
///                                  or a negative timeout other than SHMKIT_FOREVER, or an unknown
///                                  flag
///   SHMKIT_ERR_WRONG_KIND          lock_or_rlock is not a lock
///   SHMKIT_ERR_TOO_MANY_PROCESSES  as many threads wait as the condition has cells; or the
///                                  condition's segment has no room for another process
///   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the condition's
///                                  segment, at the first use of the segment
///   SHMKIT_ERR_PERMISSION          this user may not write to the file of the condition's segment
///   SHMKIT_ERR_NO_MEMORY           no address space is left, at the first use of the segment
///   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
///
/// # Safety
/// `condition` and `lock_or_rlock` must be NULL or handles of this library that no other thread is closing; `owner_died`
/// NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_wait(
    condition: *mut shmkit_condition,
    lock_or_rlock: *mut c_void,
    timeout_ns: i64,
    flags: u32,
    owner_died: *mut u32,
) -> shmkit_status {
    let body = |condition: &Condition| {
        // SAFETY: the caller guarantees it (see # Safety).
        let lock_or_rlock = unsafe { lock_of(lock_or_rlock) }?;
        let options = options(timeout_ns, flags)?;
        // SAFETY: the caller guarantees it (see # Safety).
        let died = unsafe { optional(owner_died, "owner_died") }?;
        let waited = condition.wait_with(lock_or_rlock, options)?;
        died.map(|died| died.write(waited.owner_died.into()));
        match waited.end {
            End::Notified => Ok(()),
            End::Interrupted => Err(Error::Interrupted(
                "the interrupt hook ended the wait".into(),
            )),
            End::Timeout if timeout_ns == SHMKIT_NOWAIT => {
                Err(Error::WouldBlock("no notification has arrived".into()))
            }
            End::Timeout => Err(Error::Timeout(
                "timed out waiting for a notification".into(),
            )),
        }
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(condition, body) }
}

/// Notifies the `count` threads that have waited longest, or all if fewer wait.
///
/// The caller must hold the lock. Only the notified threads return, as soon as they have acquired
/// the lock. Dead waiters are skipped. If no thread waits, nothing happens, and the notification is
/// not stored. `count` is 0 to 4294967295; 0 notifies no thread.
///
///   SHMKIT_ERR_NOT_OWNER   the caller does not hold the lock
///   SHMKIT_ERR_INVALID     the condition was first used with another lock, in any process
///   SHMKIT_ERR_WRONG_KIND  lock_or_rlock is not a lock
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
        // SAFETY: the caller guarantees it (see # Safety).
        let lock_or_rlock = unsafe { lock_of(lock_or_rlock) }?;
        condition.notify_with(lock_or_rlock, count.into())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(condition, body) }
}

/// Notifies all threads that wait. Rules and errors are those of shmkit_condition_notify.
///
/// # Safety
/// As for shmkit_condition_notify.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_notify_all(
    condition: *mut shmkit_condition,
    lock_or_rlock: *mut c_void,
) -> shmkit_status {
    let body = |condition: &Condition| {
        // SAFETY: the caller guarantees it (see # Safety).
        let lock_or_rlock = unsafe { lock_of(lock_or_rlock) }?;
        condition.notify_with(lock_or_rlock, u64::MAX)
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(condition, body) }
}

/// Returns the state of the condition.
///
/// The call does not check which waiters are alive: only a notification does.
///
/// # Safety
/// `condition` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_stat(
    condition: *const shmkit_condition,
    out: *mut shmkit_condition_info,
) -> shmkit_status {
    let body = |condition: &Condition| {
        // SAFETY: the caller guarantees it (see # Safety).
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
        // SAFETY: `check` has accepted `out`; the caller guarantees that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(condition, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_condition.rs"));
